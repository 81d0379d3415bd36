"""Any text as a pattern: it has exactly one slot and says what it says, or its mistakes are reported at its place."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from petkit.config.loader import load_pipeline
from petkit.config.pattern_syntax import FILTERS, Field, Literal, Mask, Part, Soft, apply_filters, parse_pattern
from petkit.errors import InvalidInput
from petkit.prompts.pattern import Pattern
from tests.config.pipelines import write

PIECES = st.one_of(
    st.sampled_from(
        ["{mask}", "{text}", "{text|lower_first}", "{ other | strip_punct }", "{soft:3}", "{{", "}}", "{", "}", "{soft:0}", "{mask|x}", "|", " "]
    ),
    st.text(max_size=6),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)
PATTERNS = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
SOUND = st.tuples(TEXTS, st.sampled_from(["{mask}", "{mask}: {text}", "{text|strip_punct} {mask}."]), TEXTS).map("".join)


def written(part: Part) -> str:
    """Write a part in the pattern language."""
    if isinstance(part, Field):
        return "{" + "|".join((part.name, *part.filters)) + "}"
    if isinstance(part, Soft):
        return f"{{soft:{part.count}}}"
    return "{mask}" if isinstance(part, Mask) else part.text.replace("{", "{{").replace("}", "}}")


@settings(max_examples=200)
@given(st.one_of(PATTERNS, SOUND.map(lambda text: (text,))))
def test_what_is_parsed_can_be_written_and_parsed_again(texts: tuple[str, ...]) -> None:
    segments, problems = parse_pattern(texts)
    if problems:
        assert all(problems)
        return
    parts = [part for segment in segments for part in segment]

    assert len(texts) in (1, 2)
    assert parts.count(Mask()) == 1
    assert any(isinstance(part, Field) for part in parts)
    assert parse_pattern(tuple("".join(map(written, segment)) for segment in segments)) == (segments, [])


@settings(max_examples=200)
@given(SOUND, st.text(max_size=20), st.text(max_size=20))
def test_a_filled_pattern_is_its_parts_side_by_side(text: str, value: str, other: str) -> None:
    """Nothing a row says is read as a part of the pattern."""
    segments, problems = parse_pattern((text,))
    fields = {"text": value, "other": other}
    if problems or not {part.name for part in segments[0] if isinstance(part, Field)} <= set(fields):
        return
    (reported,) = Pattern("p", segments).render(fields, "[MASK]")

    for part in segments[0]:
        if isinstance(part, Field):
            piece = apply_filters(fields[part.name], part.filters)
        else:
            piece = part.text if isinstance(part, Literal) else "[MASK]" if isinstance(part, Mask) else f"{{soft:{part.count}}}"
        assert reported.startswith(piece)
        reported = reported[len(piece) :]
    assert reported == ""


@given(PATTERNS)
def test_mistakes_of_a_pattern_are_reported_at_its_place(here: Path, texts: tuple[str, ...]) -> None:
    _, problems = parse_pattern(texts)
    content = {"patterns": [{"id": "p", "text": list(texts)}]}
    path = write(here, patterns=yaml.safe_dump(content, allow_unicode=True, width=100_000, sort_keys=False))
    try:
        spec = load_pipeline(path).spec
    except InvalidInput as error:
        lines = str(error).split("\n")
        assert len(lines) == len(dict.fromkeys(problems)) > 0
        assert all(line.startswith("patterns/topic.yaml:3: pattern 'p': ") for line in lines)
        return
    assert problems == []
    assert spec.patterns[0].segments == texts


def test_the_known_filters_are_those_tried_here() -> None:
    assert set(FILTERS) == {"lower_first", "strip_punct"}
