"""Stored field tokens: the same from memory and from disk, clipped without changing any row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.data.examples import Example
from petkit.prompts import token_store as token_store_module
from petkit.prompts.pattern import FieldKey, Truncate
from petkit.prompts.token_store import TokenStore
from tests.prompts.rendering import LONG, compiled, field_tokens, pattern
from tests.tiny import WORDS, pieces

KEYS = (FieldKey("a", (), ""), FieldKey("a", (), " "), FieldKey("b", ("strip_punct",), ""))
TEXTS = [("great news", "bad."), ("it", "?!"), ("the game was very good " * 9, "x"), ("team", "no no no")]
TRUNCATE: list[Truncate] = ["tail", "head", "middle"]


def examples(texts: list[tuple[str, str]] = TEXTS) -> list[Example]:
    return [Example(f"row-{n}", {"a": a, "b": b}, None, n) for n, (a, b) in enumerate(texts, 1)]


def rows(store: TokenStore) -> list[dict[FieldKey, list[int]]]:
    return [{key: ids.tolist() for key, ids in row.items()} for row in store]


@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_memory_and_disk_hold_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(token_store_module, "CHUNK", chunk)
    monkeypatch.setattr("petkit.data.chunks.CHUNK", chunk)
    held = TokenStore.build(examples(), pieces("bytebpe"), KEYS, 20, "tail")
    mapped = TokenStore.build(examples(), pieces("bytebpe"), KEYS, 20, "tail", tmp_path)
    expected = [
        {key: pieces("bytebpe").encode([key.text(example.fields)], key.glue)[0][:20] for key in KEYS} for example in examples()
    ]

    assert rows(held) == rows(mapped) == expected
    assert held.rows == mapped.rows == 4
    assert all((held.row_lengths([key]) == mapped.row_lengths([key])).all() for key in KEYS)
    assert held.row_lengths(KEYS[:1]).tolist() == [2, 1, 20, 1]
    assert len(list(tmp_path.iterdir())) == 2 * len(KEYS)


def test_rows_are_read_at_random() -> None:
    store = TokenStore.build(examples(), pieces("wordpiece"), KEYS, 20, "tail")

    assert store.row(3)[KEYS[0]].tolist() == pieces("wordpiece").encode(["team"])[0]
    assert store.row(0)[KEYS[0]].tolist() == pieces("wordpiece").encode(["great news"])[0]


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("texts", [[], [("!", "?")], [("!", "?"), ("it", ".")]], ids=["no rows", "empty", "one empty"])
def test_empty_rows(tmp_path: Path, texts: list[tuple[str, str]], on_disk: bool) -> None:
    key = FieldKey("b", ("strip_punct",), "")
    store = TokenStore.build(examples(texts), pieces("wordpiece"), [key], 20, "tail", tmp_path if on_disk else None)

    assert store.rows == len(texts)
    assert [row[key].tolist() for row in store] == [[]] * len(texts)
    assert store.row_lengths([key]).tolist() == [0] * len(texts)


def test_examples_are_read_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.data.chunks.CHUNK", 2)
    read: list[str] = []
    seen: list[int] = []

    def stream() -> Iterator[Example]:
        for example in examples():
            read.append(example.id)
            yield example

    tokenizer = pieces("wordpiece")
    encode = tokenizer.encode
    monkeypatch.setattr(
        tokenizer, "encode", lambda texts, glue, **options: (seen.append(len(read)), encode(texts, glue, **options))[1]
    )
    TokenStore.build(stream(), tokenizer, KEYS[:1], 20, "tail")

    assert seen == [2, 4]


TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)


@pytest.mark.parametrize("truncate", TRUNCATE)
@given(a=TEXT, b=TEXT, room=st.integers(1, 30))
def test_clipping_changes_no_row(truncate: Truncate, a: str, b: str, room: int) -> None:
    made = pattern("{a}. It was {mask}. {b}")
    max_length = compiled("wordpiece", made).fixed + room
    tight = compiled("wordpiece", made, max_length, truncate)
    store = TokenStore.build(examples([(a, b)]), pieces("wordpiece"), tight.keys, max_length, truncate)
    unclipped = field_tokens("wordpiece", tight, {"a": a, "b": b})

    assert max(len(ids) for ids in store.row(0).values()) <= max_length < LONG
    np.testing.assert_array_equal(tight.encode(store.row(0)).ids, tight.encode(unclipped).ids)
