"""Demonstrations: filled-in labelled examples in front of a row (Brown et al. 2020; LM-BFF, Gao et al. 2021, section 6).

Which examples a row gets depends on its own tokens and nothing else, so that it is scored alike in
training, in the run and by a predictor. They never push text out: an example that does not fit is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from petkit.prompts.pattern import CompiledPattern, FieldKey
from petkit.prompts.tokenizer import IntArray


@dataclass(frozen=True)
class Demonstrations:
    """The labelled rows as filled patterns.

    Attributes:
        per_label: how many examples of each label a row gets.
        filled: per label, the ids of its filled examples.
        numbers: per label, the row number of each example in the labelled set.
    """

    per_label: int
    filled: tuple[tuple[IntArray, ...], ...]
    numbers: tuple[tuple[int, ...], ...]

    @classmethod
    def build(
        cls,
        pattern: CompiledPattern,
        rows: Sequence[Mapping[FieldKey, IntArray]],
        labels: Sequence[int],
        words: Sequence[Sequence[int]],
        per_label: int,
    ) -> Demonstrations:
        """Fill every labelled row with its label's word.

        Args:
            pattern: compiled for the length of one example.
            rows: field tokens of the labelled rows; ``labels`` are their class indices.
            words: per label, the tokens of the word that fills the slot.
        """
        numbers = tuple(tuple(row for row, label in enumerate(labels) if label == wanted) for wanted in range(len(words)))
        filled = tuple(tuple(pattern.filled(rows[row], words[label]) for row in chosen) for label, chosen in enumerate(numbers))
        return cls(per_label, filled, numbers)

    def before(self, content: Sequence[IntArray], room: int, own: int | None = None) -> IntArray:
        """Return the demonstrations of a row, labels in turn, as many as fit.

        Args:
            content: the tokens of each field the pattern uses; they choose the examples.
            room: tokens that the row leaves free.
            own: the row's number in the labelled set, so that it is not shown its own label.
        """
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
