"""PVPs: a pattern and a verbalizer together, compiled for one tokenizer (PET, section 3.1), with demonstrations or without.

Demonstrations are filled-in labelled examples in front of a row (Brown et al. 2020; LM-BFF, Gao et al. 2021, section 6).
Which examples a row gets depends on its own tokens and nothing else, so that it is scored alike in training, in the run and by
a predictor. They never push text out: an example that does not fit is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import DemonstrationsSpec, PatternSpec, VerbalizerSpec
from petkit.errors import Problem
from petkit.prompts.choices import CandidateSlot
from petkit.prompts.long_texts import used_tokens
from petkit.prompts.pattern import CompiledPattern, Encoded, FieldKey, Pattern, Truncate
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.prompts.verbalizer import LabelWords, WordProblem, find_label_words


@dataclass(frozen=True)
class Demonstrations:
    """The labelled rows as filled patterns."""

    per_label: int  # how many examples of each label a row gets
    filled: tuple[tuple[IntArray, ...], ...]  # per label, the ids of its examples
    numbers: tuple[tuple[int, ...], ...]  # per label, the row number of each example in the labelled set

    def before(self, content: Sequence[IntArray], room: int, own: int | None = None) -> IntArray:
        """Return the demonstrations of a row, labels in turn, as many as fit; its ``content`` chooses them, without its ``own`` number."""
        random = np.random.default_rng(zlib.crc32(b"".join(ids.astype("<i4").tobytes() for ids in content)))
        orders = [random.permutation(len(examples)) for examples in self.filled]
        chosen: list[IntArray] = []
        for turn in range(self.per_label):
            for label in random.permutation(len(self.filled)):
                others = [index for index in orders[label] if self.numbers[label][index] != own]
                if turn < len(others) and len(self.filled[label][others[turn]]) <= room:
                    chosen.append(self.filled[label][others[turn]])
                    room -= len(chosen[-1])
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int32)


@dataclass(frozen=True)
class PVP:
    """One pattern with its label words, and how a model answers it."""

    id: str
    pattern: CompiledPattern
    words: LabelWords
    verbalizer: VerbalizerSpec
    demonstrations: Demonstrations | None = None
    slot: CandidateSlot | None = None  # in place of label words: the candidates of each row

    @property
    def keys(self) -> tuple[FieldKey, ...]:
        """How the fields that a row needs are tokenised."""
        return self.pattern.keys if self.slot is None else tuple(dict.fromkeys((*self.pattern.keys, *self.slot.keys)))

    def for_candidates(self, fields: Sequence[str], tokenizer: PieceTokenizer) -> PVP:
        """Return the PVP for rows that have at most these candidates, given by field."""
        return replace(self, slot=CandidateSlot.of(self.pattern, fields, tokenizer))

    def encode(self, tokens: Mapping[FieldKey, IntArray], own: int | None = None) -> Encoded:
        """Assemble a row of these field tokens, with demonstrations before it where the task has them.

        A row of the labelled set, whose number is ``own``, is never its own demonstration.
        """
        if self.slot is not None:
            return self.slot.encode(self.pattern, tokens)
        if self.demonstrations is None:
            return self.pattern.encode(tokens)
        content = [tokens[key] for key in self.pattern.keys]
        return self.pattern.encode(tokens, self.demonstrations.before(content, self.pattern.free(tokens), own))

    def encode_texts(self, rows: Sequence[Mapping[str, str]], tokenizer: PieceTokenizer) -> list[Encoded]:
        """Tokenise and assemble rows that no token store holds."""
        return [self.encode(tokens) for tokens in tokenised(rows, self.pattern, tokenizer, self.keys)]


def tokenised(
    rows: Sequence[Mapping[str, str]],
    pattern: CompiledPattern,
    tokenizer: PieceTokenizer,
    keys: Sequence[FieldKey] | None = None,
) -> Iterator[dict[FieldKey, IntArray]]:
    """Yield the field tokens (default: of the pattern's keys) of rows that no token store holds, as many as the pattern can use."""
    columns = {
        key: used_tokens([key.text(row) for row in rows], key, tokenizer, pattern.room, pattern.truncate)
        for key in (pattern.keys if keys is None else keys)
    }
    return ({key: np.array(ids[index], np.int32) for key, ids in columns.items()} for index in range(len(rows)))


def task_fields(patterns: Sequence[PatternSpec]) -> tuple[str, ...]:
    """Return every field the patterns use, in order of first appearance.

    >>> task_fields([PatternSpec(id="pair", text=("{premise}?", "{mask}, {hypothesis}"))])
    ('premise', 'hypothesis')
    """
    return tuple(dict.fromkeys(field for spec in patterns for field in spec.fields))


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
    compiled = partial(CompiledPattern, Pattern.from_spec(spec), tokenizer, max_length, truncate)
    pattern = compiled()
    assert pattern.mask_context is not None  # the schema admits no pattern without a mask
    words, wrong = find_label_words(verbalizer, tokenizer, pattern.mask_context)
    return PVP(spec.id, pattern if words.longest == 1 else compiled(words.longest), words, verbalizer), wrong


def compile_pvps(
    pipeline: Pipeline, tokenizer: PieceTokenizer, max_length: int, verbalizers: Mapping[str, VerbalizerSpec] | None = None
) -> tuple[list[PVP], list[Problem]]:
    """Return all patterns of a pipeline compiled, and everything wrong with them, placed in the files.

    Verbalizers that were found and not written are given by pattern id.
    """
    spec = pipeline.spec
    pvps: list[PVP] = []
    problems: list[Problem] = []
    for index, pattern in enumerate(spec.patterns):
        text, named = ("patterns", index, "text"), f"pattern {pattern.id!r}"
        verbalizer = spec.verbalizer_of(pattern) if verbalizers is None else verbalizers[pattern.id]
        pvp, wrong = compile_pvp(pattern, verbalizer, tokenizer, max_length, spec.truncate)
        compiled = pvp.pattern
        if tokenizer.causal and not compiled.pattern.answers_last:
            message = f"{named}: with a causal model the slot must be last"
            problems.append(pipeline.problem(text, message, "write one text that ends with {mask}", key=""))
            wrong = []  # words are looked for in the slot's place, which is about to change
        if compiled.room < 1:
            masks = f", {compiled.masks} masks included" if compiled.masks > 1 else ""
            message = f"{named} alone takes {compiled.fixed} tokens{masks}; max_length is {max_length}"
            problems.append(pipeline.problem(text, message, "shorten it or raise max_length", key=""))
        shown = compiled.fixed - compiled.template.size  # of a demonstration without its text
        if spec.demonstrations.per_label and shown >= spec.demonstrations.max_tokens:
            message = f"{named} alone takes {shown} tokens, so its examples would have no text"
            problems.append(pipeline.problem(("demonstrations", "max_tokens"), message, "raise it"))
        for word in wrong:
            location, message = (*spec.verbalizer_place(index), "labels", word.label), f"label {word.label!r}: {word.message}"
            problems.append(pipeline.problem(location, message, word.hint, key=""))
        pvps.append(pvp)
    return pvps, problems


def with_demonstrations(
    pvp: PVP,
    settings: DemonstrationsSpec,
    tokenizer: PieceTokenizer,
    rows: Sequence[Mapping[FieldKey, IntArray]],
    labels: Sequence[int],
) -> PVP:
    """Return the PVP with filled labelled rows, given by their field tokens and class indices, before its rows."""
    compiled = pvp.pattern
    short = CompiledPattern(compiled.pattern, tokenizer, settings.max_tokens + compiled.template.size, compiled.truncate)
    words = [label_words[0].token_ids for label_words in pvp.words.words]
    numbers = tuple(tuple(row for row, label in enumerate(labels) if label == wanted) for wanted in range(len(words)))
    filled = tuple(tuple(short.filled(rows[row], words[label]) for row in chosen) for label, chosen in enumerate(numbers))
    return replace(pvp, demonstrations=Demonstrations(settings.per_label, filled, numbers))
