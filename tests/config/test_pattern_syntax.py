"""The pattern language: slots, filters and braces, for every text a person could write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.pattern_syntax import (
    FILTERS,
    MOST_SOFT,
    Field,
    Literal,
    Mask,
    Part,
    Soft,
    apply_filters,
    parse_pattern,
    parse_segment,
)

NAMES = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True).filter(lambda name: name != "mask")
FIELDS = st.builds(Field, NAMES, st.lists(st.sampled_from(FILTERS), max_size=2).map(tuple))
SOFT = st.builds(Soft, st.integers(1, MOST_SOFT))
LITERALS = st.builds(Literal, st.text(min_size=1, max_size=12))
PARTS = st.lists(st.one_of(LITERALS, FIELDS, st.just(Mask()), SOFT), max_size=6)
TRICKY = st.text(st.sampled_from("{}|ab mask1.:%soft$\n"), max_size=30)


def written(parts: list[Part]) -> str:
    """Write parts in the pattern language."""
    spoken = {
        Mask: lambda part: "{mask}",
        Field: lambda part: "{" + "|".join((part.name, *part.filters)) + "}",
        Soft: lambda part: f"{{soft:{part.count}}}",
    }
    literal = lambda part: part.text.replace("{", "{{").replace("}", "}}")  # noqa: E731
    return "".join(spoken.get(type(part), literal)(part) for part in parts)


def merged(parts: list[Part]) -> tuple[Part, ...]:
    """Join neighbouring literals, as the parser does."""
    found: list[Part] = []
    for part in parts:
        if found and isinstance(part, Literal) and isinstance(found[-1], Literal):
            found[-1] = Literal(found[-1].text + part.text)
        else:
            found.append(part)
    return tuple(found)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{mask}: {text}", (Mask(), Literal(": "), Field("text"))),
        ("[ Category: {mask} ] {text}", (Literal("[ Category: "), Mask(), Literal(" ] "), Field("text"))),
        ("{a}{b}", (Field("a"), Field("b"))),
        ("{ text }", (Field("text"),)),
        ("{text|lower_first}", (Field("text", ("lower_first",)),)),
        ("{text | strip_punct | lower_first}", (Field("text", ("strip_punct", "lower_first")),)),
        ("{{mask}}", (Literal("{mask}"),)),
        ("{{{mask}}}", (Literal("{"), Mask(), Literal("}"))),
        ("100 % {{}} $x {Größe_2}", (Literal("100 % {} $x "), Field("Größe_2"))),
        ("{Mask}", (Field("Mask"),)),
        ("{soft:3} it was {mask}", (Soft(3), Literal(" it was "), Mask())),
        ("{ soft : 100 }", (Soft(100),)),
        ("{soft:1}{soft:2}", (Soft(1), Soft(2))),
        ("{soft}", (Field("soft"),)),  # a column may be called so
        ("{{soft:3}}", (Literal("{soft:3}"),)),
        ("", ()),
    ],
)
def test_parts(text: str, parts: tuple[Part, ...]) -> None:
    assert parse_segment(text) == (parts, [])


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a } {b}", "unbalanced '}' at column 3; write }} for a plain brace"),
        ("{text", "unbalanced '{' at column 1; write {{ for a plain brace"),
        ("{}", "{} is not a field name; write {{ and }} for plain braces"),
        ("{0}", "{0} is not a field name"),
        ("{text.upper}", "{text.upper} is not a field name"),
        ("{text!r}", "{text!r} is not a field name"),
        ("{text:>10}", "{text:>10} is not a field name"),
        ("{a b}", "{a b} is not a field name"),
        ("{text|upper}", "unknown filter 'upper'; known: lower_first, strip_punct"),
        ("{text|}", "unknown filter ''"),
        ("{mask|lower_first}", "{mask} takes no filter"),
        ("{soft:0}", "{soft:0}: write how many soft tokens, 1 to 100, such as {soft:3}"),
        ("{soft:101}", "{soft:101}: write how many soft tokens, 1 to 100"),
        ("{soft:99999999999999999999}", "{soft:99999999999999999999}: write how many soft tokens"),
        ("{soft:}", "{soft:}: write how many soft tokens"),
        ("{soft:-1}", "{soft:-1}: write how many soft tokens"),
        ("{soft: two}", "{soft: two}: write how many soft tokens"),
        ("{soft:3|lower_first}", "{soft:3|lower_first}: write how many soft tokens"),
        ("{soft:²}", "{soft:²}: write how many soft tokens"),
        ("{softer:3}", "{softer:3} is not a field name"),
    ],
)
def test_mistake(text: str, reported: str) -> None:
    _, (problem,) = parse_segment(text)

    assert problem.startswith(reported)


def test_all_mistakes_of_a_segment_are_reported() -> None:
    _, problems = parse_segment("{1} {text|upper} } {mask|lower_first}")

    assert len(problems) == 4


@pytest.mark.parametrize(
    ("segments", "reported"),
    [
        (("{text}",), "no {mask}; the slot for the label word is missing"),
        (("{mask} {text}", "{mask}"), "2 times {mask}; a pattern has exactly one"),
        (("{mask}: news",), "no {field}; a pattern without data says the same of every row"),
        ((), "a pattern has one or two segments, not 0"),
        (("{mask}", "{a}", "{b}"), "a pattern has one or two segments, not 3"),
    ],
)
def test_pattern_mistake(segments: tuple[str, ...], reported: str) -> None:
    assert reported in parse_pattern(segments)[1]


def test_soft_tokens_are_no_field_and_no_slot() -> None:
    assert len(parse_pattern(("{soft:3}",))[1]) == 2
    assert parse_pattern(("{soft:3} {mask} {soft:1} {text}",))[1] == []


def test_sound_pattern_of_two_segments() -> None:
    assert parse_pattern(("{mask} news:", "{text}")) == (((Mask(), Literal(" news:")), (Field("text"),)), [])


@given(st.one_of(TRICKY, st.text()))
def test_any_text_is_parsed_or_explained(text: str) -> None:
    parts, problems = parse_segment(text)

    assert all(isinstance(part, (Literal, Field, Mask, Soft)) for part in parts)
    if "{" not in text and "}" not in text:
        assert (merged(list(parts)), problems) == (((Literal(text),) if text else ()), [])


@given(st.one_of(TRICKY, st.text()))
def test_escaped_text_survives(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")

    assert parse_segment(escaped) == ((Literal(text),) if text else (), [])


@given(PARTS)
def test_what_is_written_is_what_is_parsed(parts: list[Part]) -> None:
    assert parse_segment(written(parts)) == (merged(parts), [])


@given(st.lists(PARTS, min_size=1, max_size=2))
def test_a_pattern_has_exactly_one_mask_and_a_field(segments: list[list[Part]]) -> None:
    parts = [part for segment in segments for part in segment]
    _, problems = parse_pattern(tuple(map(written, segments)))
    has_field = any(isinstance(part, Field) for part in parts)

    assert (not problems) == (parts.count(Mask()) == 1 and has_field)


@pytest.mark.parametrize(
    ("text", "filters", "filtered"),
    [
        ("The Game", ("lower_first",), "the Game"),
        ("", ("lower_first",), ""),
        ("Is it? ", ("strip_punct",), "Is it"),
        ("It is...", ("strip_punct",), "It is"),
        ("e.g. this", ("strip_punct",), "e.g. this"),
        ("Good. ", ("lower_first", "strip_punct"), "good"),
        ("?!", ("strip_punct",), ""),
        ("Plain.", (), "Plain."),
    ],
)
def test_filters(text: str, filters: tuple[str, ...], filtered: str) -> None:
    assert apply_filters(text, filters) == filtered


@given(st.text(), st.sampled_from(FILTERS))
def test_filtering_twice_changes_nothing_more(text: str, name: str) -> None:
    once = apply_filters(text, (name,))

    assert apply_filters(once, (name,)) == once
