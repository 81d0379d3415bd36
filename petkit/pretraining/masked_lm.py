"""The objective of masked language modelling on unlabelled texts, of ``adapt`` and ``pretrain-prompt``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from petkit.engine.device import inference
from petkit.engine.sampling import StepRows
from petkit.engine.token_masking import MaskedBatch, TokenMasking
from petkit.losses import masked_lm
from petkit.models.batch import IndexArray, collate
from petkit.pretraining.training import HIDDEN_TOKENS, Training
from petkit.prompts.pattern import CompiledPattern, Pattern

# The natural logarithm of the greatest number a float can be.
_MOST_NATS = 709.0


class MaskedTexts:
    """Predict the hidden tokens of rows (Devlin et al. 2019, BERT, section 3.1).

    The model takes a batch with rows and columns and gives the logits there, shape ``(places, vocabulary)``.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.texts = training, training.texts
        plain = Pattern.plain(self.texts.fields)
        self.pattern = CompiledPattern(plain, self.texts.tokenizer, self.texts.max_length, self.texts.spec.truncate)
        self.tokens = training.tokens(self.texts.rows(), self.pattern.keys, "tokens")
        self.masking = TokenMasking(self.texts.tokenizer, training.settings.mlm_share)
        # By length, so that batches of neighbours need little padding.
        self.held_out: IndexArray = training.held_out[np.argsort(self._lengths(training.held_out), kind="stable")]

    def batches(self) -> Iterator[StepRows]:
        return self.training.batches(self.training.kept, self._lengths(self.training.kept))

    def loss(self, model: nn.Module, step: StepRows) -> Tensor:
        return self._loss(model, self._masked(step.rows, step.random))

    def held_out_figures(self, model: nn.Module) -> dict[str, float]:
        random, at_once = self.training.random(HIDDEN_TOKENS), self.training.settings.batch_size
        total, count = 0.0, 0
        with inference(self.training.device):
            for start in range(0, len(self.held_out), at_once):
                masked = self._masked(self.held_out[start : start + at_once], random)
                total += self._loss(model, masked).item() * len(masked.targets)
                count += len(masked.targets)
        loss = total / max(1, count)
        return {"loss": loss, "perplexity": math.exp(loss) if loss < _MOST_NATS else math.inf}

    def _lengths(self, rows: IndexArray) -> IndexArray:
        return self.tokens.row_lengths(self.pattern.keys, rows)

    def _loss(self, model: nn.Module, masked: MaskedBatch) -> Tensor:
        return masked_lm(model(masked.batch, masked.rows, masked.columns), masked.targets)

    def _masked(self, rows: IndexArray, random: np.random.Generator) -> MaskedBatch:
        encoded = [self.pattern.encode(tokens) for tokens in self.tokens.take(rows)]
        return self.masking(collate(encoded, self.texts.tokenizer), random).to(self.training.device.name)
