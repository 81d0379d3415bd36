"""Rows whose answer is one of their own candidates, as the sequences that a model reads.

A masked model reads a row once for every length that its candidates have in tokens, with as many masks in the slot ("It's Not
Just Size", Schick & Schütze 2021, section 3.1); a causal model reads it before every candidate; a classifier reads it with every
candidate behind it, as multiple-choice models do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from petkit.config.pattern_syntax import Field, Literal
from petkit.prompts.pattern import CompiledPattern, Encoded, FieldKey, Pattern, Truncate, shorten
from petkit.prompts.tokenizer import IntArray, PieceTokenizer

# Stands for each candidate in turn in the pattern of a classifier; no column is called so.
_ANSWER = "{answer}"


@dataclass(frozen=True, slots=True)
class EncodedChoices(Encoded):
    """A row with candidates; ``ids`` are those of all its sequences, behind each other.

    Attributes:
        parts: the sequences that the model reads.
        read_in: the number of the sequence that each candidate is read in, one per candidate.
        tokens: each candidate's, as they are to be found in its slot; of a classifier none.
        width: candidates of the row that has most of them, and so of every row of logits.
    """

    parts: tuple[Encoded, ...] = ()
    read_in: tuple[int, ...] = ()
    tokens: tuple[IntArray, ...] = ()
    width: int = 0

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """What a model reads of the row."""
        return self.parts

    @classmethod
    def of(cls, sequences: Sequence[Encoded], read_in: Sequence[int], tokens: Sequence[IntArray], width: int) -> EncodedChoices:
        """Return the row; its place of the mask is that of its first sequence."""
        first = sequences[0]
        ids = np.concatenate([sequence.ids for sequence in sequences])
        return cls(
            ids, first.second, first.mask, first.masks, first.limit, tuple(sequences), tuple(read_in), tuple(tokens), width
        )


@dataclass(frozen=True)
class CandidateKey(FieldKey):
    """A candidate as it is tokenised; rows with fewer of them have no tokens here, and all others at least one."""

    never_empty = True

    def text(self, fields: Mapping[str, str]) -> str:
        """Return the text to tokenise for a row."""
        return FieldKey.text(self, fields) if self.field in fields else ""


@dataclass(frozen=True)
class CandidateSlot:
    """The slot of a pattern, to be filled by the candidates that lie under ``keys``, of each at most so many tokens."""

    keys: tuple[CandidateKey, ...]
    most: int

    @classmethod
    def of(cls, pattern: CompiledPattern, fields: Sequence[str], tokenizer: PieceTokenizer) -> CandidateSlot:
        """Return the slot of a pattern for candidates of these fields, tokenised as they are where the slot is."""
        assert pattern.mask_context is not None
        glue = tokenizer.canonical_glue(pattern.mask_context.glue)
        # Half of what a row can hold is left to its text.
        return cls(tuple(CandidateKey(name, (), glue) for name in fields), max(1, (pattern.room + pattern.masks) // 2))

    def encode(self, pattern: CompiledPattern, tokens: Mapping[FieldKey, IntArray]) -> EncodedChoices:
        """Assemble a row, shortened so that its longest candidate fits; all its sequences have the same text."""
        own = [shorten(ids, self.most, pattern.truncate) for ids in _present(tokens, self.keys)]
        lengths = [len(candidate) for candidate in own]
        longest = pattern.encode(tokens, masks=max(lengths))
        if pattern.open_ended:
            limit = pattern.max_length
            sequences = [replace(longest, ids=np.concatenate([longest.ids, ids[:-1]]), limit=limit) for ids in own]
            return EncodedChoices.of(sequences, range(len(own)), own, len(self.keys))
        different = sorted(set(lengths), reverse=True)
        sequences = [_with_masks(longest, length) for length in different]
        return EncodedChoices.of(sequences, [different.index(length) for length in lengths], own, len(self.keys))


class ChoicePattern(CompiledPattern):
    """The maskless pattern of a multiple-choice model: the fields as one text, and a candidate as the second one."""

    def __init__(
        self,
        fields: Sequence[str],
        candidates: Sequence[str],
        tokenizer: PieceTokenizer,
        max_length: int,
        truncate: Truncate,
    ) -> None:
        lines = [part for name in fields for part in (Field(name), Literal("\n"))]
        pairs = tokenizer.distinguishes_pairs
        segments = (tuple(lines[:-1]), (Field(_ANSWER),)) if pairs else ((*lines, Field(_ANSWER)),)
        super().__init__(Pattern("choice", segments), tokenizer, max_length, truncate, verbatim=True)
        self._answer = self.gaps[-1]
        texts = [key for key in self.gaps if key.field != _ANSWER]
        self._candidates = tuple(
            CandidateKey(name, self._answer.filters, self._answer.glue, self._answer.verbatim) for name in candidates
        )
        self.keys = tuple(dict.fromkeys((*texts, *self._candidates)))

    def encode(self, tokens: Mapping[FieldKey, IntArray], before: IntArray | None = None, masks: int | None = None) -> Encoded:
        """Assemble a row: a sequence for every candidate."""
        own = _present(tokens, self._candidates)
        sequences = [CompiledPattern.encode(self, {**tokens, self._answer: candidate}) for candidate in own]
        return EncodedChoices.of(sequences, range(len(own)), [ids[:0] for ids in own], len(self._candidates))


def _present(tokens: Mapping[FieldKey, IntArray], keys: Sequence[CandidateKey]) -> list[IntArray]:
    """Return the tokens of a row's candidates: each has at least one, and those that the row does not have none."""
    return [tokens[key] for key in keys if len(tokens[key])]


def _with_masks(row: Encoded, masks: int) -> Encoded:
    """Return a row with only the first of its masks."""
    gone = row.masks - masks
    ids = np.concatenate([row.ids[: row.mask + masks], row.ids[row.mask + row.masks :]])
    return replace(row, ids=ids, second=row.second - gone * (row.second > row.mask), masks=masks)
