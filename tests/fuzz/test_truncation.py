"""However long the texts and however short the rows: the slot and the pattern's own words survive, in their order.

Random patterns (one segment or two, soft tokens, fields used twice), texts of any characters, every kind of
tokenizer, every way to shorten, demonstrations before the row.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petkit.config.pattern_syntax import parse_pattern
from petkit.prompts.pattern import CompiledPattern, Encoded, FieldKey, Pattern, Truncate
from petkit.prompts.pvp import Demonstrations
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from tests.prompts.rendering import LONG, compiled
from tests.tiny import CAUSAL, KINDS, WORDS, tiny_tokenizer

OPEN_KINDS = tuple(dict.fromkeys(CAUSAL.values()))
TRUNCATE = st.sampled_from(["tail", "head", "middle"])
TEXT = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
    st.text(max_size=40),
    st.sampled_from(["", " ", "[MASK] <mask> [SEP] </s>", "世界 🙂 café", "a\u200b\n\tb", "x" * 80]),
)
LITERALS = st.one_of(
    st.sampled_from([" ", ": ", ". It was ", "[ Category: ", ")", "(", "\n", " – ", "{{}}", "\u200b", "[MASK]", "?"]),
    st.text(max_size=6).map(lambda text: text.replace("{", "").replace("}", "")),
)
# Of a row's own tokens none has an id as high as this; those of fields are given ids from here on.
MARKS = 1_000_000


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Draw a sound pattern of the fields a and b."""
    others = st.sampled_from(["{a}", "{b}", "{a|lower_first}", "{b|strip_punct}", "{soft:2}"])
    pieces = [*draw(st.lists(others, max_size=3)), draw(st.sampled_from(["{a}", "{b}"])), "{mask}"]
    order = draw(st.permutations(pieces))
    text = [piece for slot in order for piece in (draw(LITERALS), slot)] + [draw(LITERALS)]
    cut = draw(st.integers(0, len(text))) if draw(st.booleans()) else None
    segments = ("".join(text),) if cut is None else ("".join(text[:cut]), "".join(text[cut:]))
    parsed, problems = parse_pattern(segments)
    assert problems == []
    return Pattern("p", parsed)


def marked(made: CompiledPattern, tokenizer: PieceTokenizer, texts: dict[str, str]) -> dict[FieldKey, IntArray]:
    """Tokenise the fields, then number their tokens so that every one can be reported from every other."""
    lengths = {key: len(tokenizer.encode([key.text(texts)], key.glue)[0]) for key in made.keys}
    return {key: MARKS * (n + 1) + np.arange(length, dtype=np.int32) for n, (key, length) in enumerate(lengths.items())}


def is_part_in_order(part: Iterable[int], whole: Iterable[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


def own(row: Encoded) -> list[int]:
    """Return the tokens of a row that are the pattern's and the model's own: no field's."""
    return [token for token in row.ids.tolist() if token < MARKS]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(made=patterns(), a=TEXT, b=TEXT, room=st.integers(0, 30), truncate=TRUNCATE, masks=st.integers(1, 3))
def test_only_fields_give_way(kind: str, made: Pattern, a: str, b: str, room: int, truncate: Truncate, masks: int) -> None:
    free = compiled(kind, made, masks=masks)
    limit = free.fixed + room
    tight = compiled(kind, made, limit, truncate, masks)
    tokenizer = PieceTokenizer(tiny_tokenizer(kind), kind)
    fields = marked(free, tokenizer, {"a": a, "b": b})
    whole, row = free.encode(fields), tight.encode(fields)

    assert len(row.ids) == min(len(whole.ids), limit)
    assert row.ids[row.mask : row.mask + masks].tolist() == [tokenizer.mask_id] * masks
    assert own(row).count(tokenizer.mask_id) == masks
    assert own(row) == own(whole)
    assert sorted(token for token in own(row) if token < 0) == list(range(-made_soft(made), 0))
    assert is_part_in_order(row.ids.tolist(), whole.ids.tolist())
    assert 0 <= row.second <= len(row.ids)
    assert [token for token in row.ids[: row.second].tolist() if token < MARKS] == own(whole)[: len(own(whole)) - behind(whole)]


def made_soft(made: Pattern) -> int:
    return sum(getattr(part, "count", 0) for segment in made.segments for part in segment)


def behind(row: Encoded) -> int:
    """Return how many of a row's own tokens stand where its second type begins, or after."""
    return sum(token < MARKS for token in row.ids[row.second :].tolist())


@pytest.mark.parametrize("kind", OPEN_KINDS)
@settings(max_examples=60)
@given(a=TEXT, b=TEXT, text=LITERALS, room=st.integers(0, 30), truncate=TRUNCATE, masks=st.integers(1, 3))
def test_a_causal_row_ends_before_the_slot(
    kind: str, a: str, b: str, text: str, room: int, truncate: Truncate, masks: int
) -> None:
    """The model answers after the last token; there must be one, and room for as many more as the answer has."""
    parsed, problems = parse_pattern((f"{{a}}{text}{{b}} It is {{mask}}",))
    assert problems == []
    tokenizer = open_tokenizer(kind)
    free = CompiledPattern(Pattern("p", parsed), tokenizer, LONG, truncate, masks)
    tight = CompiledPattern(Pattern("p", parsed), tokenizer, free.fixed + room, truncate, masks)
    fields = marked(free, tokenizer, {"a": a, "b": b})
    whole, row = free.encode(fields), tight.encode(fields)

    assert 0 < len(row.ids) <= free.fixed + room - masks == row.limit
    assert (row.mask, row.masks, row.second) == (len(row.ids) - 1, 0, len(row.ids))
    assert own(row) == own(whole)
    assert is_part_in_order(row.ids.tolist(), whole.ids.tolist())


def open_tokenizer(kind: str) -> PieceTokenizer:
    """Return a causal tokenizer, with the padding token that it gets when it is loaded."""
    hf = tiny_tokenizer(kind)
    hf.pad_token = hf.eos_token
    return PieceTokenizer(hf, kind, causal=True)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    made=patterns(), texts=st.lists(TEXT, min_size=2, max_size=5), b=TEXT, room=st.integers(0, 60), truncate=TRUNCATE,
    per_label=st.integers(1, 3), max_tokens=st.integers(4, 30), given_own=st.booleans(),
)  # fmt: skip
def test_demonstrations_cost_the_row_nothing(
    kind: str,
    made: Pattern,
    texts: list[str],
    b: str,
    room: int,
    truncate: Truncate,
    per_label: int,
    max_tokens: int,
    given_own: bool,
) -> None:
    """With examples before it, a row still keeps every token it has alone, and still fits."""
    tokenizer = PieceTokenizer(tiny_tokenizer(kind), kind)
    limit = compiled(kind, made).fixed + room
    alone = compiled(kind, made, limit, truncate)
    short = compiled(kind, made, max_tokens + tokenizer.pair.size, truncate)
    rows = [marked(alone, tokenizer, {"a": text, "b": b}) for text in texts]
    numbers = tuple(tuple(range(label, len(rows), 2)) for label in range(2))
    words = ([7], [8, 9])
    filled = tuple(tuple(short.filled(rows[row], words[label]) for row in chosen) for label, chosen in enumerate(numbers))
    shown = Demonstrations(per_label, filled, numbers)
    examples = [ids for filled in shown.filled for ids in filled]
    for number, fields in enumerate(rows):
        before = shown.before(list(fields.values()), alone.free(fields), number if given_own else None)
        plain, row = alone.encode(fields), alone.encode(fields, before)
        start = len((tokenizer.pair if len(made.segments) == 2 else tokenizer.single).prefix)

        assert len(row.ids) <= limit
        assert row.ids.tolist() == [*plain.ids[:start].tolist(), *before.tolist(), *plain.ids[start:].tolist()]
        assert row.ids[row.mask] == tokenizer.mask_id
        assert (row.mask - plain.mask, row.second - plain.second) == (len(before), len(before))
        assert len(before) == 0 or any(before[: len(ids)].tolist() == ids.tolist() for ids in examples)
