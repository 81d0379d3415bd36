"""The two texts of a classifier's row: the same tokens from stored texts, from new ones and in transformers."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.data.examples import Example
from petkit.prompts.pattern import CompiledPattern, Pattern, Truncate
from petkit.prompts.pvp import tokenised
from petkit.prompts.token_store import TokenStore
from tests.tiny import WORDS, pieces

FIELDS = ("first", "second")
TEXT = st.integers(1, 50).map(lambda words: " ".join((WORDS * 2)[:words]))


@pytest.mark.parametrize("truncate", get_args(Truncate))
@pytest.mark.parametrize("kind", ["wordpiece", "bytebpe", "sentencepiece"])
@given(first=TEXT, second=TEXT, max_length=st.integers(8, 40))
def test_a_pair_has_the_same_tokens_everywhere(kind: str, truncate: Truncate, first: str, second: str, max_length: int) -> None:
    tokenizer, row = pieces(kind), {"first": first, "second": second}
    pattern = CompiledPattern(Pattern.plain(FIELDS), tokenizer, max_length, truncate, verbatim=True)
    store = TokenStore.build([Example("row", row, None, 1)], tokenizer, pattern.keys, max_length, truncate)
    stored = pattern.encode(store.row(0)).ids.tolist()

    assert stored == pattern.encode(next(tokenised([row], pattern, tokenizer))).ids.tolist()
    assert len(stored) <= pattern.max_length and max_length - pattern.max_length in (0, 1)
    if truncate == "tail":
        assert stored == tokenizer.hf(first, second, truncation=True, max_length=pattern.max_length)["input_ids"]


@pytest.mark.parametrize("truncate", get_args(Truncate))
@given(first=TEXT, second=TEXT, max_length=st.integers(8, 40))
def test_a_pattern_of_two_texts_has_the_same_tokens(truncate: Truncate, first: str, second: str, max_length: int) -> None:
    tokenizer, row = pieces("wordpiece"), {"first": first, "second": second}
    pattern = CompiledPattern(Pattern.plain(FIELDS), tokenizer, max_length, truncate)
    store = TokenStore.build([Example("row", row, None, 1)], tokenizer, pattern.keys, max_length, truncate)

    assert pattern.encode(store.row(0)).ids.tolist() == pattern.encode(next(tokenised([row], pattern, tokenizer))).ids.tolist()
