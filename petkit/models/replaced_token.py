"""Discriminators as teachers: is the label word in the slot the original token? (Xia et al. 2022, arXiv:2205.15223)

ELECTRA is trained to tell which tokens of a text were replaced (Clark et al. 2020). Its logit for a token is the evidence that the
token was replaced, so that a label word put into the slot is scored by the negative of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from petkit.models.batch import Batch
from petkit.models.label_scorer import LabelScorer, TokenIds, averaging_of, label_means
from petkit.models.mask_reader import MaskReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def is_discriminator(model: Any) -> bool:
    """Say whether a model answers whether each token was replaced."""
    from transformers import ElectraForPreTraining

    return isinstance(model, ElectraForPreTraining)


class ReplacedTokenScorer(LabelScorer):
    """Puts every label word into the slot; a label's logit is the mean over its words of the logit that they are original.

    A word of several tokens is scored by the mean of theirs. All words of all rows are one forward pass: a discriminator reads
    in both directions, so that nothing before the slot can be used again.
    """

    answers_apart = True
    averaging: Tensor
    _features: Tensor | None = None

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, soft_tokens)
        self.words = [tuple(word) for label in words for word in label]
        self.copies = len(self.words)
        self.register_buffer("averaging", averaging_of(words), persistent=False)

    @property
    def features(self) -> Tensor:
        """The mean of the encoder's rows at the first token of each label word in the last forward pass, ``(batch, hidden)``."""
        assert self._features is not None
        return self._features

    def forward(self, batch: Batch) -> Tensor:
        size, device = len(batch.input_ids), batch.input_ids.device
        every = torch.arange(size, device=device)
        filled, rows, columns = [], [], []
        for number, word in enumerate(self.words):
            copy = batch.with_masks(len(word))
            places = copy.mask_positions[:, None] + torch.arange(len(word), device=device)  # (batch, tokens)
            tokens = torch.tensor(word, device=device).expand(size, -1)
            filled.append(copy.with_ids(copy.input_ids.scatter(1, places, tokens)))
            rows.append((number * size + every).repeat_interleave(len(word)))
            columns.append(places.flatten())
        replaced = self.reader.read(Batch.stacked(filled), torch.cat(rows), torch.cat(columns)).float()  # (positions,)
        sizes = [size * len(word) for word in self.words]
        original = [-block.view(size, -1).mean(1) for block in torch.split(replaced, sizes)]  # (batch,) each
        hidden = torch.split(super().features, sizes)
        first = [block[:: len(word)] for block, word in zip(hidden, self.words, strict=True)]  # (batch, hidden) each
        self._features = torch.stack(first).mean(0)
        return label_means(torch.stack(original, dim=1), self.averaging)
