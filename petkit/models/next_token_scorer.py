"""Label logits of causal models: how probable each label word is as what comes next.

Words of one token need no more than the row itself: :class:`~petkit.models.label_scorers.WordScorer` reads their logits at its
last token. Longer words are read here, each token given the row and the word's own tokens before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from petkit.models.batch import Batch
from petkit.models.label_scorers import MultiTokenScorer, TokenIds
from petkit.models.mask_reader import MaskReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NextTokenScorer(MultiTokenScorer):
    """Reads label words of any number of tokens after each row: ``1/k Σ_i log p(w_i | row, w_1 … w_{i-1})``, exactly.

    The mean over the k tokens keeps long words from being worse for being long; a label's logit is the mean over its words.
    A row is read once for every beginning of words that no longer one goes on from, all in one forward pass: words of one
    token, and all that begin alike, share a copy.

    Args:
        model: any ``AutoModelForCausalLM``, or a reader of one.
        words: labels in class order → words → tokens.
    """

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, words, "parallel", soft_tokens)
        flat = [tuple(word) for label in words for word in label]
        beginnings = sorted({word[:-1] for word in flat})
        self.beginnings = [own for own in beginnings if not any(own == other[: len(own)] for other in beginnings if other != own)]
        self.copies = len(self.beginnings)
        # Which copy tells each word, and the word's tokens as places in ``tokens``.
        self._continuations = [
            (
                next(number for number, own in enumerate(self.beginnings) if own[: len(word) - 1] == word[:-1]),
                columns[: len(word)],
            )
            for word, columns in zip(flat, self.columns.tolist(), strict=True)
        ]

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32: mean over a label's words of their log-probabilities."""
        size, device = len(batch.input_ids), batch.input_ids.device
        copies = [appended(batch, [own] * size, max(map(len, self.beginnings))) for own in self.beginnings]
        rows, columns = [], []
        for number, own in enumerate(self.beginnings):
            every = torch.arange(size, device=device)
            rows.append((number * size + every).repeat_interleave(len(own) + 1))
            columns.append((batch.mask_positions[:, None] + torch.arange(len(own) + 1, device=device)).flatten())
        log_probs = self._log_probs(Batch.stacked(copies), torch.cat(rows), torch.cat(columns))  # (positions, known tokens)
        sizes = [size * (len(own) + 1) for own in self.beginnings]
        # Every copy is the same up to the row's end.
        assert self.reader.features is not None
        self._features = self.reader.features[: sizes[0] : len(self.beginnings[0]) + 1]  # (batch, hidden)
        blocks = [block.view(size, -1, len(self.tokens)) for block in torch.split(log_probs, sizes)]
        scores = [blocks[copy][:, range(len(own)), own].mean(-1) for copy, own in self._continuations]  # (batch,) each
        with torch.autocast(log_probs.device.type, enabled=False):
            label_logits: Tensor = torch.stack(scores, dim=1).float() @ self.averaging  # (batch, labels)
        return label_logits


def appended(batch: Batch, words: Sequence[Sequence[int]], longest: int) -> Batch:
    """Return the batch with tokens after the end of each row, padded by ``longest`` columns.

    Args:
        batch: rows of a causal model; ``mask_positions`` is where they end.
        words: the tokens to append to each row.
        longest: as many as the longest of them.
    """
    if longest == 0:
        return batch
    size, device = len(words), batch.input_ids.device
    lengths = torch.tensor([len(word) for word in words], device=device)
    tokens = torch.tensor([[*word, *[0] * (longest - len(word))] for word in words], device=device)  # (batch, longest)
    number = torch.arange(longest, device=device)
    places = batch.mask_positions[:, None] + 1 + number  # (batch, longest)
    more = batch.input_ids.new_zeros(size, longest)
    types = None if batch.token_type_ids is None else torch.cat([batch.token_type_ids, more], dim=1)
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, more], dim=1).scatter(1, places, tokens),
        attention_mask=torch.cat([batch.attention_mask, more], dim=1).scatter(1, places, (number < lengths[:, None]).long()),
        token_type_ids=types,
    )
