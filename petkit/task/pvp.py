"""PVPs: a pattern and a verbalizer together, compiled for one tokenizer (PET, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from petkit.errors import Problem
from petkit.spec.loader import Pipeline
from petkit.spec.schema import PatternSpec
from petkit.task.pattern import CompiledPattern, Pattern
from petkit.task.tokenization import PieceTokenizer
from petkit.task.verbalizer import LabelWords, find_label_words


@dataclass(frozen=True)
class PVP:
    """One pattern with its label words; ``words.token_ids`` are the columns to read at the mask."""

    id: str
    pattern: CompiledPattern
    words: LabelWords


def task_fields(patterns: Sequence[PatternSpec]) -> tuple[str, ...]:
    """Return every field the patterns use, in order of first appearance."""
    return tuple(dict.fromkeys(field for spec in patterns for field in Pattern.from_spec(spec).fields))


def compile_pvps(pipeline: Pipeline, tokenizer: PieceTokenizer, max_length: int) -> tuple[list[PVP], list[Problem]]:
    """Compile all patterns of a pipeline; returns the PVPs and everything wrong with them, placed in the files."""
    spec = pipeline.spec
    pvps: list[PVP] = []
    problems: list[Problem] = []
    for index, pattern_spec in enumerate(spec.patterns):
        pattern = CompiledPattern(Pattern.from_spec(pattern_spec), tokenizer, max_length, spec.truncate)
        if pattern.room < 1:
            message = f"pattern {pattern_spec.id!r} alone takes {pattern.fixed} tokens; max_length is {max_length}"
            problems.append(pipeline.problem(("patterns", index, "text"), message, "shorten it or raise max_length", key=""))
        assert pattern.mask_context is not None  # the schema admits no pattern without a mask
        words, wrong = find_label_words(spec.verbalizer, tokenizer, pattern.mask_context)
        for word in wrong:
            location = ("verbalizer", "labels", word.label)
            problems.append(pipeline.problem(location, f"label {word.label!r}: {word.message}", word.cure, key=""))
        pvps.append(PVP(pattern_spec.id, pattern, words))
    return pvps, problems
