"""Rows that a causal model goes on with, and label words that come after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petkit.models.batch import Batch, collate
from petkit.models.label_scorer import TokenIds
from petkit.models.loading import load_language_model, load_tokenizer
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer
from tests.tiny import WORDS

LENGTHS = (21, 3, 12)


def rows(tokenizer: PieceTokenizer) -> list[Encoded]:
    """Three rows of different lengths."""
    filler = [tokens[0] for tokens in tokenizer.encode([f" {word}" for word in WORDS])]
    made = []
    for length in LENGTHS:
        ids = np.array([*tokenizer.single.prefix, *np.resize(np.roll(filler, length), length)], np.int32)
        made.append(Encoded(ids, len(ids), len(ids) - 1, 0))
    return made


def words_of(tokenizer: PieceTokenizer) -> tuple[TokenIds, TokenIds]:
    """Words of one token, and of one to three; some begin alike, one is the beginning of another, one repeats a token."""
    a, b, c, d, e, f = (ids[0] for ids in tokenizer.encode([" good", " great", " bad", " world", " news", " game"]))
    return [[[a], [b]], [[c]], [[d], [e], [f]]], [[[a], [a, b]], [[c, c]], [[d, e], [d, e, a], [d, f, b]]]


def loaded(folder: Path) -> tuple[Any, PieceTokenizer, Batch]:
    """Return a model, its tokenizer, and the rows as one batch."""
    tokenizer = load_tokenizer(str(folder))
    return load_language_model(str(folder)), tokenizer, collate(rows(tokenizer), tokenizer)
