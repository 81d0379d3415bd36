"""The pattern language: ``"[ Category: {mask} ] {text|lower_first}"`` as parts.

A pattern text is literal text with ``{mask}`` (the slot), ``{field}`` (a column of the data) or
``{field|filter}``, and ``{soft:3}`` (three trained tokens without a word); ``{{`` and ``}}`` are plain
braces. The parser never calls ``str.format``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from petkit import limits

FILTERS = ("lower_first", "strip_punct")
_SLOT = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")
_NAME = re.compile(r"[^\W\d]\w*")
_SOFT = re.compile(r"soft\s*:\s*(.*)", re.DOTALL)
MOST_SOFT = 100
MOST_PROBLEMS = 5  # reported per text


@dataclass(frozen=True)
class Literal:
    """Text of the pattern itself; never shortened."""

    text: str


@dataclass(frozen=True)
class Field:
    """A column of the data; the only part that truncation may shorten."""

    name: str
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mask:
    """The slot a label word fills."""


@dataclass(frozen=True)
class Soft:
    """Tokens without a word, whose embeddings are trained (P-Tuning, Liu et al. 2021)."""

    count: int


Part: TypeAlias = Literal | Field | Mask | Soft
Segment: TypeAlias = tuple[Part, ...]


def parse_segment(text: str) -> tuple[Segment, list[str]]:
    """Return the parts of one segment (adjacent literals merged), and what is wrong with its text."""
    parts: list[Part] = []
    problems: list[str] = []
    literal, position = "", 0
    for match in _SLOT.finditer(text):
        if len(problems) >= MOST_PROBLEMS:
            problems.append("and so on")
            break
        literal += text[position : match.start()]
        position = match.end()
        token = match.group()
        if token in ("{{", "}}"):
            literal += token[0]
        elif token in ("{", "}"):
            problems.append(f"unbalanced {token!r} at column {match.start() + 1}; write {token * 2} for a plain brace")
        else:
            parts += [Literal(literal), _slot(token[1:-1].strip(), problems)]
            literal = ""
    parts.append(Literal(literal + text[position:]))
    return tuple(part for part in parts if part != Literal("")), problems


def _slot(inside: str, problems: list[str]) -> Part:
    if soft := _SOFT.fullmatch(inside):
        count = int(soft[1]) if soft[1].isdecimal() and len(soft[1]) < 9 else 0
        if not 1 <= count <= MOST_SOFT:
            problems.append(f"{{{inside}}}: write how many soft tokens, 1 to {MOST_SOFT}, such as {{soft:3}}")
        return Soft(count)
    name, *filters = (piece.strip() for piece in inside.split("|"))
    if not _NAME.fullmatch(name):
        problems.append(f"{{{inside}}} is not a field name; write {{{{ and }}}} for plain braces")
        return Literal("")
    if name == "mask":
        if filters:
            problems.append("{mask} takes no filter")
        return Mask()
    unknown = [entry for entry in filters if entry not in FILTERS]
    if unknown:
        problems.append(f"unknown filter {', '.join(map(repr, unknown))}; known: {', '.join(FILTERS)}")
    return Field(name, tuple(filters))


def apply_filters(text: str, filters: tuple[str, ...]) -> str:
    """Apply the named filters of a ``{field|filter}`` slot to ``text``, left to right."""
    for name in filters:
        if name == "lower_first":
            text = text[:1].lower() + text[1:]
        elif name == "strip_punct":
            text = text.rstrip().rstrip(".,;:!?…").rstrip()
    return text


def parse_pattern(text: tuple[str, ...]) -> tuple[tuple[Segment, ...], list[str]]:
    """Return the segments of a pattern, and every problem found: it has one or two, with exactly one mask and a field."""
    parsed = [parse_segment(source) for source in text]
    segments = tuple(segment for segment, _ in parsed)
    problems = [problem for _, found in parsed for problem in found]
    if not 1 <= len(text) <= 2:
        problems.insert(0, f"a pattern has one or two segments, not {len(text)}")
    masks = sum(isinstance(part, Mask) for segment in segments for part in segment)
    if masks == 0:
        problems.append("no {mask}; the slot for the label word is missing")
    if masks > 1:
        problems.append(f"{masks} times {{mask}}; a pattern has exactly one")
    fields = field_names(segments)
    if not fields:
        problems.append("no {field}; a pattern without data says the same of every row")
    if len(fields) > limits.FIELDS:
        problems.append(f"{len(fields):,} fields; at most {limits.FIELDS}")
    return segments, problems


def field_names(segments: tuple[Segment, ...]) -> tuple[str, ...]:
    """Return the fields of a pattern, in order of appearance."""
    return tuple(dict.fromkeys(part.name for segment in segments for part in segment if isinstance(part, Field)))
