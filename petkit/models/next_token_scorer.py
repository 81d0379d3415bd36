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
from petkit.models.label_scorers import MultiTokenScorer, TokenIds, label_means
from petkit.models.mask_reader import MaskReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NextTokenScorer(MultiTokenScorer):
    """Reads label words of any number of tokens after each row: ``1/k Σ_i log p(w_i | row, w_1 … w_{i-1})``, exactly.

    The mean over the k tokens keeps long words from being worse for being long; a label's logit is the mean over its words.
    Each row is scored once per maximal word prefix, all in one forward pass: words of one token, and all with a common
    prefix, share a copy.
    """

    _features_of = 0  # every copy is the same up to the row's end

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, words, "parallel", soft_tokens)
        flat = [tuple(word) for label in words for word in label]
        beginnings = sorted({word[:-1] for word in flat})
        self.beginnings = [own for own in beginnings if not any(own == other[: len(own)] for other in beginnings if other != own)]
        self.copies = len(self.beginnings)
        # The copy that scores each word, and the word's tokens as places in ``tokens``.
        self._continuations = [
            (next(number for number, own in enumerate(self.beginnings) if own[: len(word) - 1] == word[:-1]), places[: len(word)])
            for word, places in zip(flat, self.columns.tolist(), strict=True)
        ]

    def forward(self, batch: Batch) -> Tensor:
        size, longest = len(batch.input_ids), max(map(len, self.beginnings))
        copies = [appended(batch, [own] * size, longest) for own in self.beginnings]
        blocks = self._read(copies, [len(own) + 1 for own in self.beginnings])
        scores = [blocks[copy][:, range(len(own)), own].mean(-1) for copy, own in self._continuations]  # (batch,) each
        return label_means(torch.stack(scores, dim=1), self.averaging)


def appended(batch: Batch, words: Sequence[Sequence[int]], longest: int) -> Batch:
    """Return the rows of a causal model with the tokens of ``words`` after the end of each, padded by ``longest`` columns."""
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
