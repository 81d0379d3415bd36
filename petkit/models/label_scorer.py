"""What every way to read a language model's answers as label logits has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from petkit.errors import ModelRefused
from petkit.models.adapters.base import Adapter
from petkit.models.batch import Batch
from petkit.models.mask_reader import MaskReader, SoftTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Vocabulary rows held at once while normalising: 2^25 floats are 128 MB.
VOCABULARY_LOGITS_AT_ONCE = 2**25
# Labels → words → tokens.
TokenIds: TypeAlias = Sequence[Sequence[Sequence[int]]]


class LabelScorer(nn.Module, ABC):
    """A language model that answers with label logits; every ``forward`` returns ``(batch, labels)`` in float32.

    Built on a :class:`~petkit.models.mask_reader.MaskReader` instead of a model, it shares the model with that reader's own
    scorer. Soft tokens, label vectors and an adapter are trained in addition to the model.
    """

    def __init__(self, model: PreTrainedModel | MaskReader, soft_tokens: int = 0) -> None:
        super().__init__()
        self.reader = model if isinstance(model, MaskReader) else MaskReader(model)
        self.soft = SoftTokens(self.reader.model, soft_tokens) if soft_tokens else None
        self.adapter: Adapter | None = None

    # Whether labels are answered one by one, each with yes or no, and trained by the binary cross-entropy.
    answers_apart = False

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32."""

    @property
    def features(self) -> Tensor:
        """The encoder's row at each (first) mask in the last forward pass, shape ``(batch, hidden)``."""
        assert self.reader.features is not None
        return self.reader.features

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters the model did not come with, but for an adapter's: soft tokens, label vectors."""
        return {} if self.soft is None else {"soft_tokens": self.soft.vectors}

    def own_state(self) -> dict[str, Tensor]:
        """Return the values of :meth:`own_parameters`."""
        return {name: value.detach() for name, value in self.own_parameters().items()}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`own_state` gave."""
        expected = self.own_state()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
            raise ModelRefused("the teacher's soft tokens or label vectors are missing or made for another pattern")
        for name, value in state.items():
            expected[name].copy_(value)

    def release(self) -> None:
        """Leave the reader to another scorer."""
        if self.soft is not None:
            self.soft.detach()

    def detach(self) -> PreTrainedModel:
        """Undo all hooks and return the plain model."""
        self.release()
        return self.reader.detach()


def label_means(word_scores: Tensor, averaging: Tensor) -> Tensor:
    """Return label logits ``(batch, labels)`` in float32: the mean over each label's words of their scores ``(batch, words)``."""
    with torch.autocast(word_scores.device.type, enabled=False):  # it would round the sums to bfloat16 again
        return word_scores.float() @ averaging


def averaging_of(words: TokenIds) -> Tensor:
    """Return the matrix ``(words, labels)`` that turns word scores into their mean per label."""
    counts = torch.tensor([len(label) for label in words])
    return torch.diag(1 / counts).repeat_interleave(counts, dim=0)
