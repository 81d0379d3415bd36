"""Patterns compiled for one tokenizer: from field tokens to a cloze question that fits (PET, section 3).

Truncation shortens fields only. Tokens are taken from the longest field until the row fits, so the
mask and the pattern's own words always survive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import ClassVar, TypeAlias
from typing import Literal as Choice

import numpy as np

from petkit.config.pattern_syntax import Field, Literal, Mask, Part, Segment, Soft, apply_filters, field_names, parse_pattern
from petkit.config.schema.pipeline import PatternSpec
from petkit.prompts.tokenizer import IntArray, PieceTokenizer

Truncate: TypeAlias = Choice["tail", "head", "middle"]
# Stands for a field's last letter, so that the pattern's ``.`` after it does not become a word of its own (SentencePiece: no ``▁.``).
_ANY_LETTER = "q"


@dataclass(frozen=True)
class FieldKey:
    """One way a field is tokenised: which field, after which filters and glue, and whether as the tokenizer alone would (verbatim)."""

    field: str
    filters: tuple[str, ...]
    glue: str
    verbatim: bool = False
    never_empty: ClassVar[bool] = False  # whether a text of which the tokenizer leaves nothing is an unknown token

    def text(self, fields: Mapping[str, str]) -> str:
        """Return the text to tokenise for a row."""
        text = apply_filters(fields[self.field], self.filters)
        return text if self.verbatim else text.strip()


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row ready for a model; rows of causal models end before the slot.

    Attributes:
        ids: token ids; soft tokens are -1, -2, …
        second: where token type 1 begins.
        mask: position of the first mask (-1: none); causal models: of the last token, which the answer follows.
        masks: how many follow one another there; causal models: 0.
        limit: how long padding may make the row (None: any length): the model may have no position beyond.
    """

    ids: IntArray
    second: int
    mask: int
    masks: int = 1
    limit: int | None = None

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """What a model reads of the row: itself, unless it has candidates of its own."""
        return (self,)

    @property
    def longest(self) -> int:
        """Tokens of the longest of its sequences."""
        return max(len(sequence.ids) for sequence in self.sequences)


@dataclass(frozen=True)
class MaskContext:
    """The text around the slot, so that label words are probed in place."""

    glue: str
    after: str


@dataclass(frozen=True)
class Pattern:
    """A pattern as parsed, before it meets a tokenizer."""

    id: str
    segments: tuple[Segment, ...]

    @classmethod
    def from_spec(cls, spec: PatternSpec) -> Pattern:
        """Parse a checked pattern."""
        return cls(spec.id, parse_pattern(spec.segments)[0])

    @classmethod
    def plain(cls, fields: Sequence[str], *, pairs: bool = True) -> Pattern:
        """Return the maskless pattern a classifier reads: one field, a pair, or several fields as lines of one text.

        Args:
            pairs: whether the tokenizer puts something between two segments; else two fields are lines too.
        """
        if len(fields) <= 1 + pairs:
            return cls("plain", tuple((Field(name),) for name in fields))
        parts = [part for name in fields for part in (Field(name), Literal("\n"))]
        return cls("plain", (tuple(parts[:-1]),))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields used, in order of appearance."""
        return field_names(self.segments)

    def render(self, fields: Mapping[str, str], mask: str) -> tuple[str, ...]:
        """Return the filled segments as text, for people."""

        def say(part: Part) -> str:
            match part:
                case Field(name, filters):
                    return apply_filters(fields[name], filters)
                case Soft(count):
                    return f"{{soft:{count}}}"
                case Literal(text):
                    return text
            return mask

        return tuple("".join(map(say, segment)) for segment in self.segments)

    @property
    def answers_last(self) -> bool:
        """Whether it is one text and nothing but space comes after the slot, as causal models need it."""
        behind = takewhile(lambda part: not isinstance(part, Mask), reversed(self.segments[-1]))
        return len(self.segments) == 1 and all(isinstance(part, Literal) and not part.text.strip() for part in behind)


class CompiledPattern:
    """A pattern as token ids and gaps for fields.

    Args:
        pattern: the parsed pattern.
        tokenizer: of the backbone.
        max_length: tokens per row, special tokens included.
        truncate: which end of a too long field goes.
        masks: mask tokens in the slot, as many as the longest label word has tokens; for a causal model the row ends
            before the slot and leaves room for as many.
        verbatim: read rows as the tokenizer's folder does in ``transformers.pipeline``; for classifiers.

    Attributes:
        room: tokens left for the fields; below 1 the pattern cannot be used at this length.
        max_length: as given, or one less where the two texts of a classifier could not have the same number of tokens.
    """

    def __init__(
        self,
        pattern: Pattern,
        tokenizer: PieceTokenizer,
        max_length: int,
        truncate: Truncate,
        masks: int = 1,
        *,
        verbatim: bool = False,
    ) -> None:
        self.pattern = pattern
        self.max_length = max_length
        self.truncate: Truncate = truncate
        self.masks = masks
        self.verbatim = verbatim
        self.soft_tokens = 0
        self.template = tokenizer.pair if len(pattern.segments) == 2 else tokenizer.single
        self.mask_context: MaskContext | None = None
        self.open_ended = tokenizer.causal and any(isinstance(part, Mask) for segment in pattern.segments for part in segment)
        self._start = np.array([tokenizer.start_id], np.int32)
        self._line_break = np.array(tokenizer.line_break if self.open_ended else (), np.int32)
        # The row from left to right: fixed token ids, or the key of a field; and which of them are what.
        self._pieces: list[IntArray | FieldKey] = [np.array(self.template.prefix, np.int32)]
        self._mask_piece: int | None = None
        self._second_piece: int | None = None
        special = [0]
        for index, segment in enumerate(pattern.segments):
            if index:
                special.append(len(self._pieces))
                self._pieces.append(np.array(self.template.middle, np.int32))
                self._second_piece = len(self._pieces) if self.template.second_type_from else None
            self._compile(segment, tokenizer)
        self._special_pieces = frozenset([*special, len(self._pieces)])
        self._pieces.append(np.array(() if self.open_ended else self.template.suffix, np.int32))
        self.gaps = [piece for piece in self._pieces if isinstance(piece, FieldKey)]
        self.keys = tuple(dict.fromkeys(self.gaps))
        self.fixed = sum(len(piece) for piece in self._pieces if not isinstance(piece, FieldKey))
        self.fixed += self.masks if self.open_ended else 0
        # Of an odd room tokenizers give one token more to the longer text, and how long it was is not known once it is cut.
        self._is_pair = verbatim and len(self.gaps) == len(pattern.segments) == 2
        self.max_length -= (max_length - self.fixed) % 2 if self._is_pair else 0
        self.room = self.max_length - self.fixed

    def free(self, tokens: Mapping[FieldKey, IntArray]) -> int:
        """Return how many tokens a row leaves of ``max_length``; below 0 it must be shortened."""
        return self.room - sum(len(tokens[key]) for key in self.gaps)

    def encode(self, tokens: Mapping[FieldKey, IntArray], before: IntArray | None = None, masks: int | None = None) -> Encoded:
        """Assemble a row from its fields' token ids, shortened so that it fits ``max_length``, with ids ``before`` the pattern.

        Args:
            masks: in the slot of this row; default: as many as all rows have.
        """
        masks = self.masks if masks is None else masks
        row = self._assembled(tokens, self.room - (0 if before is None else len(before)) - (masks - self.masks))
        if self._mask_piece is not None and not self.open_ended and masks != self.masks:
            row[self._mask_piece] = np.repeat(row[self._mask_piece][:1], masks)
        row[0] = row[0] if before is None else np.concatenate([row[0], before])
        starts = list(accumulate(map(len, row), initial=0))
        ids = np.concatenate(row) if starts[-1] else self._start
        if self.open_ended:
            return Encoded(ids, len(ids), len(ids) - 1, 0, self.max_length - masks)
        second = len(ids) if self._second_piece is None else starts[self._second_piece]
        mask = -1 if self._mask_piece is None else starts[self._mask_piece]
        return Encoded(ids, second, mask, masks, self.max_length)

    def filled(self, tokens: Mapping[FieldKey, IntArray], word: Sequence[int]) -> IntArray:
        """Return the row with ``word`` in the slot and without special tokens: a demonstration."""
        row = self._assembled(tokens, self.room + self.masks - len(word) - len(self._line_break))
        if self._mask_piece is not None:
            row[self._mask_piece] = np.array(word, np.int32)
        plain = [ids for index, ids in enumerate(row) if index not in self._special_pieces]
        return np.concatenate([*plain, self._line_break])  # what follows begins after the answer there

    def _assembled(self, tokens: Mapping[FieldKey, IntArray], room: int) -> list[IntArray]:
        """Return the ids of every piece, the fields' shortened so that they fit ``room`` together."""
        lengths = [len(tokens[key]) for key in self.gaps]
        kept = iter(share_pair(lengths[0], lengths[1], room) if self._is_pair else share_room(lengths, room))
        return [
            shorten(tokens[piece], next(kept), self.truncate) if isinstance(piece, FieldKey) else piece for piece in self._pieces
        ]

    def _compile(self, segment: Segment, tokenizer: PieceTokenizer) -> None:
        glue = ""
        for before, part, after in zip((None, *segment), segment, (*segment[1:], None), strict=False):
            if isinstance(part, Literal):
                glue = self._compile_literal(part.text, glue, tokenizer, _ANY_LETTER if isinstance(before, Field) else "")
                continue
            if isinstance(part, Soft):
                self._pieces.append(-1 - self.soft_tokens - np.arange(part.count, dtype=np.int32))
                self.soft_tokens += part.count
            elif isinstance(part, Mask):
                letter = after.text[:1] if isinstance(after, Literal) else ""
                self.mask_context = MaskContext(glue, "" if letter.isspace() else letter)
                self._mask_piece = len(self._pieces)
                self._pieces.append(np.full(0 if self.open_ended else self.masks, tokenizer.mask_id, np.int32))
            else:
                verbatim = self.verbatim and tokenizer.space_matters
                self._pieces.append(FieldKey(part.name, part.filters, tokenizer.canonical_glue(glue), verbatim))
            glue = ""

    def _compile_literal(self, text: str, glue: str, tokenizer: PieceTokenizer, stand_in: str) -> str:
        """Add a literal's tokens and return the glue it leaves to the next part."""
        body = text.rstrip()
        space = text[len(body) :]
        if not body:
            return glue + space
        lead = body[: len(body) - len(body.lstrip())]
        ids = tokenizer.encode([body.lstrip()], glue + lead or stand_in)[0]
        self._pieces.append(np.array(ids, np.int32))
        return space or body.split()[-1][-32:]


def share_room(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens each field keeps: the longest gives until the sum fits ``room``.

    Among equally long fields the later ones give first. Fields may shrink to nothing.

    >>> share_room([7, 2, 5], 9)
    [4, 2, 3]
    """
    kept = list(lengths)
    excess = sum(kept) - max(room, 0)
    while excess > 0:
        longest = max(kept)
        tied = [index for index, length in enumerate(kept) if length == longest]
        lower = max((length for length in kept if length < longest), default=0)
        take = min(longest - lower, excess // len(tied))
        if take == 0:  # fewer tokens are over than fields are tied
            tied, take = tied[-excess:], 1
        for index in tied:
            kept[index] -= take
        excess -= take * len(tied)
    return kept


def share_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens the segments of a pair keep of an even ``room`` in tokenizers' ``longest_first``.

    >>> share_pair(7, 5, 8), share_pair(9, 3, 8)
    ((4, 4), (5, 3))
    """
    half = max(room, 0) // 2
    return min(first, 2 * half - min(second, half)), min(second, 2 * half - min(first, half))


def shorten(ids: IntArray, keep: int, truncate: Truncate) -> IntArray:
    """Return ``keep`` tokens of ``ids``, cutting its tail, head or middle; the order stays.

    >>> shorten(np.arange(6), 3, "middle").tolist()
    [0, 1, 5]
    """
    if keep >= len(ids):
        return ids
    if truncate == "tail":
        return ids[:keep]
    if truncate == "head":
        return ids[len(ids) - keep :]
    front = -(-keep // 2)
    return np.concatenate([ids[:front], ids[len(ids) - (keep - front) :]])
