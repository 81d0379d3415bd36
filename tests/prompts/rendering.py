"""Rows as petkit assembles them, beside the same sentence as the tokenizer itself would read it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from petkit.config.pattern_syntax import parse_pattern
from petkit.prompts.pattern import CompiledPattern, Encoded, FieldKey, Pattern, Truncate
from petkit.prompts.tokenizer import IntArray
from tests.tiny import pieces

LONG = 1000


def pattern(*segments: str) -> Pattern:
    """Parse a sound pattern."""
    parsed, problems = parse_pattern(segments)
    assert not problems
    return Pattern("p", parsed)


def compiled(kind: str, made: Pattern, max_length: int = LONG, truncate: Truncate = "tail", masks: int = 1) -> CompiledPattern:
    """Compile a pattern for a kind of tokenizer."""
    return CompiledPattern(made, pieces(kind), max_length, truncate, masks)


def field_tokens(kind: str, made: CompiledPattern, fields: Mapping[str, str]) -> dict[FieldKey, IntArray]:
    """Tokenise the fields of one row."""
    return {key: np.array(pieces(kind).encode([key.text(fields)], key.glue)[0], np.int32) for key in made.keys}


def assembled(kind: str, made: Pattern, fields: Mapping[str, str], max_length: int = LONG) -> Encoded:
    """Return the row petkit makes."""
    ready = compiled(kind, made, max_length)
    return ready.encode(field_tokens(kind, ready, fields))


def tokens(kind: str, encoded: Encoded) -> list[str]:
    """Return a row as tokens."""
    names: list[str] = pieces(kind).hf.convert_ids_to_tokens(encoded.ids.tolist())
    return names
