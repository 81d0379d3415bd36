"""How many tokens of a file a vocabulary does not have, and which rows it cannot tell apart."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.data.examples import Example
from petkit.prompts import token_store as token_store_module
from petkit.prompts.legibility import Legibility
from petkit.prompts.pattern import FieldKey
from petkit.prompts.token_store import TokenStore
from tests.tiny import KINDS, pieces

KEY = FieldKey("text", (), "")
WORD = st.sampled_from(["good", "bad", "😍", "💩", "สวัสดี", "Good"])


def read(texts: list[str], kind: str, keys: tuple[FieldKey, ...] = (KEY,), max_length: int = 8) -> Legibility | None:
    examples = [Example(f"row-{n}", {"text": text}, None, n) for n, text in enumerate(texts, 1)]
    return TokenStore.build(examples, pieces(kind), keys, max_length, "tail").legibility


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.lists(WORD, min_size=1, max_size=12).map(" ".join), max_size=12))
def test_counts_are_those_of_the_tokens_that_are_read(kind: str, texts: list[str]) -> None:
    tokenizer = pieces(kind)
    rows = [tokenizer.encode([text])[0][:8] for text in texts]
    by_reading: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for text, row in zip(texts, rows, strict=True):
        by_reading[tuple(row)].append(text.lower())
    alike = sum(len(same) for same in by_reading.values() if len(set(same)) > 1)

    unknown = sum(row.count(tokenizer.unknown_id) for row in rows)
    assert read(texts, kind) == Legibility(sum(map(len, rows)), unknown, len(texts), alike)


def test_a_field_of_several_patterns_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store_module, "CHUNK", 2)
    keys = (KEY, FieldKey("text", (), " "), FieldKey("text", ("strip_punct",), ""))

    assert read(["good 😍", "good 💩", "good"], "wordpiece", keys) == Legibility(5, 2, 3, 2)


def test_rows_beyond_the_first_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.prompts.legibility.COMPARED_ROWS", 3)
    monkeypatch.setattr(token_store_module, "CHUNK", 2)

    assert read(["😍", "good", "bad", "💩", "👍"], "wordpiece") == Legibility(5, 3, 3, 0)


def test_a_tokenizer_without_an_unknown_token_has_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces("bytebpe"), "unknown_id", None)

    assert read(["😍", "💩"], "bytebpe") is None


@pytest.mark.parametrize(
    ("counts", "doubtful"),
    [((100, 5, 100, 5), False), ((100, 6, 100, 0), True), ((100, 0, 100, 6), True), ((0, 0, 0, 0), False)],
)
def test_more_than_five_percent_are_doubtful(counts: tuple[int, int, int, int], doubtful: bool) -> None:
    assert Legibility(*counts).doubtful is doubtful


def test_what_is_known_and_differs_needs_no_remark() -> None:
    assert Legibility(100, 0, 100, 0).remark("rows.csv", "embedded") == ""
    assert Legibility(100, 0, 100, 2).remark("rows.csv", "embedded") == (
        "rows.csv: 2 of 100 rows look to embedded like a row of another text"
    )
