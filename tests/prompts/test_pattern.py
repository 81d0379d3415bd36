"""Compiled patterns: what is fixed, what gives way, and that nothing else ever does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.schema.pipeline import PatternSpec
from petkit.prompts.pattern import MaskContext, Pattern, Truncate, share_room, shorten
from petkit.prompts.pvp import task_fields
from tests.prompts.rendering import LONG, assembled, compiled, field_tokens, pattern, tokens
from tests.tiny import KINDS, WORDS, pieces

TRUNCATE = st.sampled_from(["tail", "head", "middle"])
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
SHAPES = [("{a}. It was {mask}. {b}",), ("{mask} news:", "{a} {b}"), ("{a} ({a})", "{soft:2} {b}? {mask}")]


def one_at_a_time(lengths: Sequence[int], room: int) -> list[int]:
    """Take one token after the other from the longest field, the later one among equals."""
    kept = list(lengths)
    while sum(kept) > max(room, 0):
        longest = max(range(len(kept)), key=lambda index: (kept[index], index))
        kept[longest] -= 1
    return kept


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ([5, 3], 8, [5, 3]),
        ([5, 3], 7, [4, 3]),
        ([5, 3], 6, [3, 3]),
        ([5, 3], 5, [3, 2]),
        ([100, 10], 20, [10, 10]),
        ([100, 2], 20, [18, 2]),
        ([4, 4, 4], 10, [4, 3, 3]),
        ([7], 3, [3]),
        ([7, 1], 0, [0, 0]),
        ([7], -5, [0]),
        ([], 5, []),
        ([0, 0], 0, [0, 0]),
    ],
)
def test_longest_field_gives(lengths: list[int], room: int, kept: list[int]) -> None:
    assert share_room(lengths, room) == kept


@given(st.lists(st.integers(0, 60), max_size=5), st.integers(-5, 200))
def test_sharing_is_taking_one_token_at_a_time(lengths: list[int], room: int) -> None:
    assert share_room(lengths, room) == one_at_a_time(lengths, room)


@pytest.mark.parametrize(
    ("truncate", "keep", "kept"),
    [
        ("tail", 3, [0, 1, 2]),
        ("head", 3, [4, 5, 6]),
        ("middle", 3, [0, 1, 6]),
        ("middle", 4, [0, 1, 5, 6]),
        ("middle", 1, [0]),
        ("tail", 0, []),
        ("head", 0, []),
        ("middle", 0, []),
        ("head", 7, [0, 1, 2, 3, 4, 5, 6]),
        ("middle", 99, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_shortening(truncate: Truncate, keep: int, kept: list[int]) -> None:
    assert shorten(np.arange(7, dtype=np.int32), keep, truncate).tolist() == kept


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), TRUNCATE)
def test_shortening_in_two_steps_is_shortening_once(length: int, first: int, then: int, truncate: Truncate) -> None:
    ids = np.arange(length, dtype=np.int32)
    first, then = max(first, then), min(first, then)

    assert shorten(shorten(ids, first, truncate), then, truncate).tolist() == shorten(ids, then, truncate).tolist()


@pytest.mark.parametrize("segments", SHAPES, ids=" || ".join)
@pytest.mark.parametrize("kind", KINDS)
@given(a=TEXT, b=TEXT, room=st.integers(1, 40), truncate=TRUNCATE, masks=st.integers(1, 4))
def test_only_fields_are_cut(
    kind: str, segments: tuple[str, ...], a: str, b: str, room: int, truncate: Truncate, masks: int
) -> None:
    free = compiled(kind, pattern(*segments), masks=masks)
    max_length = free.fixed + room
    tight = compiled(kind, pattern(*segments), max_length, truncate, masks)
    held = field_tokens(kind, tight, {"a": a, "b": b})
    marked = {key: np.arange(len(ids), dtype=np.int32) + 1000 * (n + 1) for n, (key, ids) in enumerate(held.items())}
    whole, row = free.encode(marked), tight.encode(marked)

    assert len(row.ids) == min(len(whole.ids), max_length)
    assert tight.free(marked) == max_length - len(whole.ids)
    assert (row.ids == pieces(kind).mask_id).nonzero()[0].tolist() == list(range(row.mask, row.mask + masks))
    rest = iter(whole.ids.tolist())
    assert all(token in rest for token in row.ids.tolist())  # a subsequence, in order
    assert [token for token in row.ids if token < 1000] == [token for token in whole.ids if token < 1000]
    assert row.second <= len(row.ids)


@pytest.mark.parametrize(
    ("truncate", "kept"),
    [
        ("tail", "the great game [MASK] [SEP]"),
        ("head", "was very bad [MASK] [SEP]"),
        ("middle", "the great bad [MASK] [SEP]"),
    ],
)
def test_which_end_goes(truncate: Truncate, kept: str) -> None:
    made = compiled("wordpiece", pattern("{text} {mask}"), 6, truncate)
    row = made.encode(field_tokens("wordpiece", made, {"text": "the great game was very bad"}))

    assert " ".join(tokens("wordpiece", row)) == f"[CLS] {kept}"


def test_room_is_what_the_pattern_leaves() -> None:
    made = compiled("wordpiece", pattern("it was {mask}. {text}"), 12)

    assert (made.fixed, made.room) == (6, 6)
    assert compiled("wordpiece", pattern("it was {mask}. {text}"), 5).room == -1


def test_fields_of_patterns_in_order() -> None:
    specs = [PatternSpec(id="x", text="{b} {mask} {a} {b}"), PatternSpec(id="y", text=("{c|lower_first}", "{mask} {a}"))]

    assert pattern("{b} {mask}", "{a} {b}").fields == ("b", "a")
    assert task_fields(specs) == ("b", "a", "c")
    assert Pattern.from_spec(specs[1]).id == "y"


def test_filters_come_before_the_tokenizer() -> None:
    made = pattern("{text|lower_first|strip_punct}? {mask}, {text}")

    assert made.render({"text": "Great game. "}, "<mask>") == ("great game? <mask>, Great game. ",)
    row = assembled("bytebpe", made, {"text": "Great game. "})
    assert "".join(tokens("bytebpe", row)).replace("Ġ", " ") == "<s>great game?<mask>, Great game.</s>"


def test_rendering_keeps_braces_and_foreign_slots() -> None:
    made = pattern("{{x}} {text} {mask}")

    assert made.render({"text": "{mask} {y} %s"}, "___") == ("{x} {mask} {y} %s ___",)


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("{mask}: {a}", MaskContext("", ":")),
        ("{a} {mask}", MaskContext(" ", "")),
        ("{a}. It was {mask}.", MaskContext(" ", ".")),
        ("({mask}) {a}", MaskContext("(", ")")),
        ("{mask} {a}", MaskContext("", "")),
        ("{mask}{a}", MaskContext("", "")),
        ("{a} ( {mask} )", MaskContext(" ", "")),
    ],
)
def test_what_stands_around_the_slot(text: str, context: MaskContext) -> None:
    assert compiled("bytebpe", pattern(text)).mask_context == context


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        (("a",), "<s> great </s>"),
        (("a", "b"), "<s> great </s> </s> bad </s>"),
        (("a", "b", "c"), "<s> great Ċ bad Ċ good </s>"),
    ],
)
def test_plain_patterns(fields: tuple[str, ...], reported: str) -> None:
    made = Pattern.plain(fields)
    row = assembled("bytebpe", made, {"a": "great", "b": "bad", "c": "good"})

    assert " ".join(tokens("bytebpe", row)) == reported
    assert compiled("bytebpe", made).mask_context is None
    assert (row.mask, made.fields) == (-1, fields)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_fields_leave_the_pattern(kind: str) -> None:
    full = compiled(kind, pattern("{a}. It was {mask}. {b}"))
    row = full.encode(field_tokens(kind, full, {"a": "", "b": " "}))

    assert len(row.ids) == full.fixed < LONG
    assert row.ids[row.mask] == pieces(kind).mask_id


def test_a_field_used_twice_alike_is_tokenised_once() -> None:
    keys = compiled("wordpiece", pattern("{a} {a|lower_first} {mask} ({a})")).keys

    assert [(key.field, key.filters) for key in keys] == [("a", ()), ("a", ("lower_first",))]


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (("{mask} news: {a}",), "[CLS] [MASK] [MASK] [MASK] news : great [SEP]"),
        (("{a} ({mask})",), "[CLS] great ( [MASK] [MASK] [MASK] ) [SEP]"),
        (("{a}", "it was {mask}."), "[CLS] great [SEP] it was [MASK] [MASK] [MASK] . [SEP]"),
        (("{mask}:", "{a}"), "[CLS] [MASK] [MASK] [MASK] : [SEP] great [SEP]"),
    ],
)
def test_several_masks_stand_side_by_side(text: tuple[str, ...], reported: str) -> None:
    single, triple = (compiled("wordpiece", pattern(*text), masks=masks) for masks in (1, 3))
    row = triple.encode(field_tokens("wordpiece", triple, {"a": "great"}))

    assert " ".join(tokens("wordpiece", row)) == reported
    assert (row.masks, triple.fixed) == (3, single.fixed + 2)
    assert row.ids[row.mask : row.mask + 3].tolist() == [pieces("wordpiece").mask_id] * 3
    assert row.second == (len(row.ids) if len(text) == 1 else reported.split().index("[SEP]") + 1)


def test_soft_tokens_are_numbered_from_minus_one() -> None:
    made = compiled("bytebpe", pattern("{soft:2} {a} {soft:1} {mask} {soft:3}"))
    row = made.encode(field_tokens("bytebpe", made, {"a": "great"}))
    great, mask = pieces("bytebpe").hf.convert_tokens_to_ids(["Ġgreat", "<mask>"])

    assert row.ids[1:-1].tolist() == [-1, -2, great, -3, mask, -4, -5, -6]
    assert (made.soft_tokens, row.mask, made.fixed) == (6, 5, 9)
    assert made.pattern.render({"a": "great"}, "_") == ("{soft:2} great {soft:1} _ {soft:3}",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_next_to_soft_tokens_is_as_at_the_start(kind: str) -> None:
    beside = assembled(kind, pattern("{soft:1}great {mask} {a}"), {"a": "it"})
    alone = assembled(kind, pattern("great {mask} {a}"), {"a": "it"})

    assert beside.ids[beside.ids >= 0].tolist() == alone.ids.tolist()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (("{mask} news: {a}",), "very good news : the great game"),
        (("{a} ({mask})", "{b}?"), "the great game ( very good ) it ?"),
        (("{mask}:", "{a} {b}"), "very good : the great game it"),
    ],
)
def test_filled(text: tuple[str, ...], reported: str) -> None:
    made = compiled("wordpiece", pattern(*text))
    held = field_tokens("wordpiece", made, {"a": "the great game", "b": "it"})
    word = pieces("wordpiece").encode(["very good"])[0]

    assert " ".join(pieces("wordpiece").hf.convert_ids_to_tokens(made.filled(held, word).tolist())) == reported


@pytest.mark.parametrize("masks", [1, 2])
@pytest.mark.parametrize("word", [[7], [7, 8], [7, 8, 9]])
def test_filled_keeps_to_its_length_whatever_the_word(masks: int, word: list[int]) -> None:
    """``max_length`` counts the special tokens, which a filled row does not have."""
    made = compiled("wordpiece", pattern("it was {mask}. {a}"), 10, masks=masks)
    ids = made.filled({key: np.arange(100, 120, dtype=np.int32) for key in made.keys}, word)

    assert len(ids) == 8
    assert ids[2 : 2 + len(word)].tolist() == word


@pytest.mark.parametrize("segments", SHAPES, ids=" || ".join)
def test_what_stands_before_the_pattern_takes_the_fields_room(segments: tuple[str, ...]) -> None:
    whole = compiled("wordpiece", pattern(*segments))
    held = field_tokens("wordpiece", whole, {"a": "the great game was", "b": "very good"})
    before = np.arange(200, 205, dtype=np.int32)
    plain, shown = whole.encode(held), whole.encode(held, before)

    assert shown.ids.tolist() == [plain.ids[0], *before.tolist(), *plain.ids[1:].tolist()]
    assert (shown.mask, shown.second) == (plain.mask + 5, plain.second + 5)
    exact = compiled("wordpiece", pattern(*segments), len(shown.ids))
    assert exact.encode(held, before).ids.tolist() == shown.ids.tolist()
    tight = compiled("wordpiece", pattern(*segments), len(shown.ids) - 2)
    assert len(tight.encode(held, before).ids) == len(shown.ids) - 2


def test_a_field_used_twice_counts_twice() -> None:
    made = compiled("wordpiece", pattern("{a} {mask} ({a})"), 20)
    held = {key: np.arange(5, dtype=np.int32) for key in made.keys}

    assert len(made.keys) == 1
    assert made.free(held) == made.room - 10
