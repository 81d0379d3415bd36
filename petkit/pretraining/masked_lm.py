"""Masked-LM training on the unlabelled rows as the student will read them: what is hidden at every step, and its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from petkit.config.schema.training import AdaptSpec, PretrainPromptSpec
from petkit.engine.device import Device, inference
from petkit.engine.sampling import training_batches
from petkit.engine.token_masking import MaskedBatch, TokenMasking
from petkit.engine.training_loop import TrainingDiverged
from petkit.losses import masked_lm
from petkit.models.batch import IndexArray, collate
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.prompts.pattern import CompiledPattern, Pattern
from petkit.prompts.token_store import TokenStore

# The natural logarithm of the greatest number a float holds.
_MOST_NATS = 709.0
# See ``unlabeled_texts``: what else is drawn from the seed.
_HIDDEN_ASIDE = (0, 2)


class MaskedTexts:
    """The hidden words of rows (Devlin et al. 2019, BERT, section 3.1).

    Args:
        settings: batch size, steps, seed and the share of tokens to hide.
        kept: the rows to train on.
        held_out: the rows to check on.
        scratch: where the tokens of large sets are stored; None: in memory.
    """

    def __init__(
        self,
        texts: UnlabeledTexts,
        device: Device,
        settings: AdaptSpec | PretrainPromptSpec,
        kept: IndexArray,
        held_out: IndexArray,
        scratch: Path | None,
    ) -> None:
        spec = texts.spec
        self.texts, self.device, self.settings = texts, device, settings
        self.pattern = CompiledPattern(Pattern.plain(texts.fields), texts.tokenizer, texts.max_length, spec.truncate)
        rows = texts.source.unchanged(texts.scan)
        self.tokens = TokenStore.build(rows, texts.tokenizer, self.pattern.keys, texts.max_length, spec.truncate, scratch)
        self.lengths: IndexArray = np.sum([self.tokens.lengths(key) for key in self.pattern.keys], axis=0)  # (rows,)
        self.masking = TokenMasking(texts.tokenizer, settings.mlm_share)
        self.kept = kept
        # By length, so that batches of neighbours need little padding.
        self.held_out: IndexArray = held_out[np.argsort(self.lengths[held_out], kind="stable")]

    def batches(self) -> Iterator[tuple[int, IndexArray]]:
        """Yield every step's number, from 1, and its rows."""
        settings = self.settings
        drawn = training_batches(self.lengths[self.kept], settings.batch_size, settings.steps, settings.seed)
        return ((step, self.kept[rows]) for step, rows in enumerate(drawn, 1))

    def loss(self, model: nn.Module, batch: tuple[int, IndexArray]) -> Tensor:
        """Return the masked-LM loss of a step; what is hidden depends on the step's number, never on earlier steps.

        Args:
            model: gives the logits at some rows and columns of a batch, shape ``(places, vocabulary)``.
        """
        step, rows = batch
        return self._loss(model, self._masked(rows, np.random.default_rng([self.settings.seed, step])))

    def held_out_loss(self, model: nn.Module) -> float:
        """Return the mean masked-LM loss over the hidden tokens of the held-out rows, in nats; the same ones each time."""
        random = np.random.default_rng([self.settings.seed, *_HIDDEN_ASIDE])
        model.eval()
        total, count = 0.0, 0
        with inference(self.device):
            for start in range(0, len(self.held_out), self.settings.batch_size):
                masked = self._masked(self.held_out[start : start + self.settings.batch_size], random)
                total += self._loss(model, masked).item() * len(masked.targets)
                count += len(masked.targets)
        return total / max(1, count)

    def _loss(self, model: nn.Module, masked: MaskedBatch) -> Tensor:
        return masked_lm(model(masked.batch, masked.rows, masked.columns), masked.targets)

    def _masked(self, rows: IndexArray, random: np.random.Generator) -> MaskedBatch:
        encoded = [self.pattern.encode(tokens) for tokens in self.tokens.take(rows)]
        return self.masking(collate(encoded, self.texts.tokenizer), random).to(self.device.name)


def perplexity(loss: float, section: str) -> float:
    """Return the perplexity, ``e^loss``.

    Args:
        section: whose learning rate is to blame.

    Raises:
        TrainingDiverged: there is no such number. The last step can do that, and no step after it finds out.
    """
    if not loss < _MOST_NATS:  # comparisons with NaN are false
        raise diverged(loss, section)
    return math.exp(loss)


def diverged(loss: float, section: str) -> TrainingDiverged:
    """Return the error for a loss on the held-out rows that is NaN, infinite or too large."""
    return TrainingDiverged(f"training diverged: the loss on held-out rows is {loss:.3g} (lower {section}.learning_rate)")
