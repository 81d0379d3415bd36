"""Texts as sentences, and pairs of sentences with the relation of the second to the first (PPT, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.data.examples import Example

Numbers: TypeAlias = NDArray[np.int64]

# The relation of the second sentence of a pair to the first, in class order.
NEXT, SAME_TEXT, OTHER_TEXT = 0, 1, 2

# An end that may be none (Latin: it needs white space after it), a sure one (Chinese and Japanese), or an empty line.
_CLOSING = "\"'”’»)\\]」』）"
_END = re.compile(rf"(?P<latin>[.!?…]+[{_CLOSING}]*)\s+|[。！？｡]+[{_CLOSING}]*\s*|\n\s*\n")
_WORD_BEFORE = re.compile(r"(\w+(?:\.\w+)*)\.$")
_ABBREVIATIONS = {
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "cf",
    "fig", "vol", "inc", "ltd", "co", "corp", "approx", "dept", "gen", "gov", "sen", "rep",
}  # fmt: skip


def split_sentences(text: str) -> list[str]:
    """Split a text at its sentence ends, by rules: no ends after initials, common abbreviations or before small letters.

    Where a text has no capitals at all, small letters say nothing. Pieces without any letter or digit are left out.
    """
    cased = text != text.lower()
    bounds = [0]
    for end in _END.finditer(text):
        if not end["latin"] or _ends(text[bounds[-1] : end.end("latin")], text[end.end() : end.end() + 1], cased):
            bounds.append(end.end())
    pieces = (text[start:stop].strip() for start, stop in pairwise([*bounds, len(text)]))
    return [piece for piece in pieces if any(map(str.isalnum, piece))]


def _ends(text: str, following: str, cased: bool) -> bool:
    """Say whether a full stop at the end of ``text`` ends a sentence."""
    if cased and following.islower():
        return False
    before = _WORD_BEFORE.search(text)
    if before is None:
        return True
    word = before[1]
    is_initial = len(word) == 1 and word.isalpha() and (word.isupper() or not cased) and word != "I"
    return not is_initial and word.lower() not in _ABBREVIATIONS


@dataclass(frozen=True)
class SentenceIndex:
    """Where the sentences of many rows are, all of them counted from 0. Each field of a row is a text of its own.

    Attributes:
        starts: the first sentence of each text and, last, how many there are, shape ``(texts + 1,)``.
        rows: the row each text belongs to, rising, shape ``(texts,)``.
    """

    starts: Numbers
    rows: Numbers

    @classmethod
    def build(cls, examples: Iterable[Example]) -> SentenceIndex:
        texts = ((row, len(split_sentences(text))) for row, example in enumerate(examples) for text in example.fields.values())
        rows, counts = np.fromiter(texts, np.dtype((np.int64, 2))).T
        return cls(np.concatenate([[0], np.cumsum(counts)]), rows)

    @property
    def counts(self) -> Numbers:
        """Sentences of each text, shape ``(texts,)``."""
        return np.diff(self.starts)

    @property
    def has_three(self) -> bool:
        """Whether any text is long enough for two sentences that do not touch."""
        return bool((self.counts >= 3).any())

    def texts_with_pairs(self, rows: Numbers) -> Numbers:
        """Return the texts of some rows that have two sentences or more."""
        return np.flatnonzero((self.counts >= 2) & np.isin(self.rows, rows))

    def rows_with_pairs(self) -> Numbers:
        """Return the rows that have a text of two sentences or more, rising."""
        return np.unique(self.rows[self.counts >= 2])

    def in_rows(self, rows: Numbers) -> Numbers:
        """Return the sentences of some rows, rising."""
        return np.flatnonzero(np.isin(np.repeat(self.rows, self.counts), rows))

    def draw(self, texts: Numbers, pool: Numbers, random: np.random.Generator) -> tuple[Numbers, Numbers, Numbers]:
        """Return a pair for each text: first sentences, second ones, and the relation of the second to the first.

        Relations are drawn from those the text has; of two sentences that do not touch, either may come first.

        Args:
            texts: of two sentences or more.
            pool: the sentences that those of another text are taken from, rising; they must be of two rows at least.
        """
        begin, count = self.starts[texts], self.counts[texts]
        relation, one, two, other = (random.random(len(texts)) for _ in range(4))
        # Texts of two sentences have no pair that does not touch.
        answers = np.where(count >= 3, (relation * 3).astype(np.int64), np.where(relation < 0.5, NEXT, OTHER_TEXT))
        followed = (one * (count - 1)).astype(np.int64)  # a sentence that is not the last
        # Two different ones of all but the last; the later of them is moved up by one, so that they do not touch.
        distinct = (two * np.maximum(count - 2, 1)).astype(np.int64)
        distinct += distinct >= followed
        apart = (followed + (followed > distinct), distinct + (distinct > followed))
        first = np.select([answers == NEXT, answers == SAME_TEXT], [followed, apart[0]], (one * count).astype(np.int64))
        second = begin + np.where(answers == NEXT, followed + 1, apart[1])
        return begin + first, np.where(answers == OTHER_TEXT, self._elsewhere(texts, pool, other), second), answers

    def _elsewhere(self, texts: Numbers, pool: Numbers, drawn: NDArray[np.float64]) -> Numbers:
        """Return a sentence of ``pool`` for each text that is not of its row; ``drawn`` is uniform on [0, 1)."""
        own = self.rows[texts]
        row_begin = self.starts[np.searchsorted(self.rows, own, "left")]
        row_end = self.starts[np.searchsorted(self.rows, own, "right")]
        left, right = np.searchsorted(pool, row_begin), np.searchsorted(pool, row_end)
        place = (drawn * (len(pool) - (right - left))).astype(np.int64)
        return pool[place + (place >= left) * (right - left)]


def sentence_examples(examples: Iterable[Example], names: tuple[str, ...]) -> Iterator[Example]:
    """Yield every sentence as an example of its own that has it under each of ``names``, in the order of the index."""
    for example in examples:
        for sentence in chain.from_iterable(map(split_sentences, example.fields.values())):
            yield Example(example.id, dict.fromkeys(names, sentence), None, example.line)
