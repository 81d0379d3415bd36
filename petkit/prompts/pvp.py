"""PVPs: a pattern and a verbalizer together, compiled for one tokenizer (PET, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from petkit.config.loader import Pipeline
from petkit.config.schema import DemonstrationsSpec, PatternSpec, VerbalizerSpec
from petkit.errors import Problem
from petkit.prompts.demonstrations import Demonstrations
from petkit.prompts.pattern import CompiledPattern, Encoded, FieldKey, Pattern, Truncate
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.prompts.verbalizer import LabelWords, WordProblem, find_label_words


@dataclass(frozen=True)
class PVP:
    """One pattern with its label words, and how a model answers it."""

    id: str
    pattern: CompiledPattern
    words: LabelWords
    verbalizer: VerbalizerSpec
    demonstrations: Demonstrations | None = None

    def encode(self, tokens: Mapping[FieldKey, IntArray], own: int | None = None) -> Encoded:
        """Assemble a row, with demonstrations before it where the task has them.

        Args:
            tokens: the row's field tokens.
            own: the row's number in the labelled set, if it is one of them: it is never its own demonstration.
        """
        if self.demonstrations is None:
            return self.pattern.encode(tokens)
        content = [tokens[key] for key in self.pattern.keys]
        return self.pattern.encode(tokens, self.demonstrations.before(content, self.pattern.free(tokens), own))

    def encode_texts(self, rows: Sequence[Mapping[str, str]], tokenizer: PieceTokenizer) -> list[Encoded]:
        """Tokenise and assemble rows that no token store holds."""
        return [self.encode(tokens) for tokens in tokenised(rows, self.pattern.keys, tokenizer)]


def tokenised(
    rows: Sequence[Mapping[str, str]], keys: Sequence[FieldKey], tokenizer: PieceTokenizer
) -> Iterator[dict[FieldKey, IntArray]]:
    """Yield the field tokens of rows that no token store holds."""
    columns = {key: tokenizer.encode([key.text(row) for row in rows], key.glue) for key in keys}
    return ({key: np.array(ids[index], np.int32) for key, ids in columns.items()} for index in range(len(rows)))


def task_fields(patterns: Sequence[PatternSpec]) -> tuple[str, ...]:
    """Return every field the patterns use, in order of first appearance.

    >>> task_fields([PatternSpec(id="pair", text=("{premise}?", "{mask}, {hypothesis}"))])
    ('premise', 'hypothesis')
    """
    return tuple(dict.fromkeys(field for spec in patterns for field in Pattern.from_spec(spec).fields))


def compile_pvp(
    spec: PatternSpec, verbalizer: VerbalizerSpec, tokenizer: PieceTokenizer, max_length: int, truncate: Truncate
) -> tuple[PVP, list[WordProblem]]:
    """Compile a pattern and find its label words; returns the PVP and what is wrong with the words.

    >>> from petkit.models.loading import load_tokenizer
    >>> pattern = PatternSpec(id="news", text="{mask} news: {text}")
    >>> words = VerbalizerSpec(labels={"World": ("world",), "Sports": ("sports", "football")})
    >>> tokenizer = load_tokenizer("embedded")
    >>> pvp, problems = compile_pvp(pattern, words, tokenizer, 64, "tail")
    >>> tokenizer.shown(pvp.encode_texts([{"text": "Ajax won."}], tokenizer)[0].ids)
    '[CLS] [MASK] news : ajax won . [SEP]'
    >>> problems
    []
    """
    pattern = CompiledPattern(Pattern.from_spec(spec), tokenizer, max_length, truncate)
    assert pattern.mask_context is not None  # the schema admits no pattern without a mask
    words, wrong = find_label_words(verbalizer, tokenizer, pattern.mask_context)
    if words.longest > 1:
        pattern = CompiledPattern(Pattern.from_spec(spec), tokenizer, max_length, truncate, words.longest)
    return PVP(spec.id, pattern, words, verbalizer), wrong


def compile_pvps(
    pipeline: Pipeline, tokenizer: PieceTokenizer, max_length: int, verbalizers: Mapping[str, VerbalizerSpec] | None = None
) -> tuple[list[PVP], list[Problem]]:
    """Compile all patterns of a pipeline; returns the PVPs and everything wrong with them, placed in the files.

    Args:
        verbalizers: by pattern id, where they were found and not written.
    """
    spec = pipeline.spec
    pvps: list[PVP] = []
    problems: list[Problem] = []
    for index, pattern in enumerate(spec.patterns):
        verbalizer = spec.verbalizer if verbalizers is None else verbalizers[pattern.id]
        pvp, wrong = compile_pvp(pattern, verbalizer, tokenizer, max_length, spec.truncate)
        if tokenizer.causal and not pvp.pattern.pattern.answers_last:
            message = f"pattern {pattern.id!r}: with a causal model the slot must be last"
            hint = "write one text that ends with {mask}"
            problems.append(pipeline.problem(("patterns", index, "text"), message, hint, key=""))
            wrong = []  # words are looked for in the slot's place, which is about to change
        if pvp.pattern.room < 1:
            masks = f", {pvp.pattern.masks} masks included" if pvp.pattern.masks > 1 else ""
            message = f"pattern {pattern.id!r} alone takes {pvp.pattern.fixed} tokens{masks}; max_length is {max_length}"
            problems.append(pipeline.problem(("patterns", index, "text"), message, "shorten it or raise max_length", key=""))
        template = tokenizer.pair if len(pattern.segments) == 2 else tokenizer.single
        shown = pvp.pattern.fixed - template.size  # of a demonstration without its text
        if spec.demonstrations.per_label and shown >= spec.demonstrations.max_tokens:
            message = f"pattern {pattern.id!r} alone takes {shown} tokens, so its examples would have no text"
            problems.append(pipeline.problem(("demonstrations", "max_tokens"), message, "raise it"))
        for word in wrong:
            location = ("verbalizer", "labels", word.label)
            problems.append(pipeline.problem(location, f"label {word.label!r}: {word.message}", word.hint, key=""))
        pvps.append(pvp)
    return pvps, problems


def with_demonstrations(
    pvp: PVP,
    settings: DemonstrationsSpec,
    tokenizer: PieceTokenizer,
    rows: Sequence[Mapping[FieldKey, IntArray]],
    labels: Sequence[int],
) -> PVP:
    """Return the PVP with filled labelled rows before its rows.

    Args:
        rows: field tokens of the labelled rows.
        labels: their class indices.
    """
    template = tokenizer.pair if len(pvp.pattern.pattern.segments) == 2 else tokenizer.single
    short = CompiledPattern(pvp.pattern.pattern, tokenizer, settings.max_tokens + template.size, pvp.pattern.truncate)
    words = [label_words[0].token_ids for label_words in pvp.words.words]
    shown = Demonstrations.build(short, rows, labels, words, settings.per_label)
    return PVP(pvp.id, pvp.pattern, pvp.words, pvp.verbalizer, shown)
