"""Rows with masks in all kinds of places, and what a plain model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from petkit.losses import cross_entropy
from petkit.models.batch import Batch, collate
from petkit.models.label_scorer import TokenIds
from petkit.models.loading import load_masked_lm, load_tokenizer
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer
from tests.tiny import ARCHITECTURES, WORDS

# The newer head of DeBERTa-v2 gives its hidden layer as output embeddings: no projection to hook.
NO_PROJECTION = "deberta-v2-new"
EVERY = (*ARCHITECTURES, NO_PROJECTION)
LONGEST = 22  # tokens of the longest row; with three masks it is as wide as the padded batch


def rows(tokenizer: PieceTokenizer, masks: int = 1) -> list[Encoded]:
    """Three rows of different lengths, the slot in the middle, at the start and last but one; the first is a pair."""
    filler = [tokens[0] for tokens in tokenizer.encode([word for word in WORDS if len(word) > 1])]

    def row(length: int, mask: int, second: int | None = None) -> Encoded:
        ids = np.resize(np.array(filler, np.int32), length)
        ids[0], ids[-1] = tokenizer.hf.cls_token_id, tokenizer.hf.sep_token_id
        slot = np.full(masks, tokenizer.mask_id, np.int32)
        ids = np.concatenate([ids[:mask], slot, ids[mask + 1 :]])
        return Encoded(ids, len(ids) if second is None else second + masks - 1, mask, masks)

    return [row(LONGEST, 7, second=11), row(8, 1), row(13, 11)]


def ids_of(tokenizer: PieceTokenizer, *words: str) -> tuple[int, ...]:
    """Return the token of each word."""
    return tuple(tokens[0] for tokens in tokenizer.encode(list(words)))


def single_words(tokenizer: PieceTokenizer) -> TokenIds:
    """Three labels with two, one and three words of one token."""
    one, two, three, four, five, six = ids_of(tokenizer, "good", "great", "bad", "world", "news", "game")
    return [[[one], [two]], [[three]], [[four], [five], [six]]]


def long_words(tokenizer: PieceTokenizer) -> TokenIds:
    """Three labels with words of one, two and three tokens; some tokens are in several words, one twice in a word."""
    one, two, three, four, five = ids_of(tokenizer, "good", "great", "bad", "world", "news")
    return [[[one], [two, one]], [[three, three]], [[four], [five, two, four], [one, four]]]


def load(folder: Path, attention: str | None = None, masks: int = 1) -> tuple[Any, PieceTokenizer, Batch]:
    """Return a model, its tokenizer, and the rows as one batch."""
    tokenizer = load_tokenizer(str(folder))
    return load_masked_lm(str(folder), attention), tokenizer, collate(rows(tokenizer, masks), tokenizer)


def mean_of_words(model: Any, batch: Batch, words: TokenIds) -> Tensor:
    """Every position times the whole vocabulary; then the mask's row and the words' columns, shape ``(batch, labels)``."""
    logits = model(**batch.model_inputs).logits  # (batch, length, vocabulary)
    at_mask = logits[torch.arange(len(logits)), batch.mask_positions]
    return torch.stack([at_mask[:, [word[0] for word in label]].mean(1) for label in words], dim=1)


def with_tokens(row: Encoded, slot: Sequence[int]) -> Encoded:
    """Return the row with other tokens in its slot, as many as there are."""
    ids = np.concatenate([row.ids[: row.mask], np.array(slot, np.int32), row.ids[row.mask + row.masks :]])
    moved = len(slot) - row.masks
    return Encoded(ids, row.second + moved if row.second > row.mask else row.second, row.mask, len(slot))


def learned(scorer: Any, batch: Batch, gold: Tensor) -> Tensor:
    """Train a scorer on a batch for thirty steps; return what it answers then."""
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        cross_entropy(scorer(batch), gold).backward()
        optimizer.step()
    answers: Tensor = scorer.eval()(batch)
    return answers
