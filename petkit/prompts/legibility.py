"""What a vocabulary makes of texts: how many of their tokens are unknown to it, and which rows it cannot tell apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from petkit.data.examples import Example
from petkit.data.repeats import text_key
from petkit.prompts.pattern import FieldKey
from petkit.prompts.tokenizer import IntArray

DOUBTFUL_SHARE = 0.05
COMPARED_ROWS = 100_000  # the first ones: what is known of each is kept in memory


@dataclass(frozen=True)
class Legibility:
    """Counts over the rows of a file, as far as the model reads them.

    Attributes:
        tokens: of the fields as their first pattern reads them.
        unknown: how many of them the vocabulary does not have.
        rows: those compared with each other, the first 100,000.
        alike: rows with the tokens of a row whose text is another one, case and spacing aside.
    """

    tokens: int
    unknown: int
    rows: int
    alike: int

    @property
    def doubtful(self) -> bool:
        """Whether more than 5 % of the tokens are unknown, or of the rows look like others."""
        return self.unknown > DOUBTFUL_SHARE * self.tokens or self.alike > DOUBTFUL_SHARE * self.rows

    def remark(self, source: str, model: str) -> str:
        """Return the counts as a sentence; empty where all is known and differs.

        >>> Legibility(tokens=40, unknown=30, rows=8, alike=6).remark("rows.csv", "embedded")
        "rows.csv: 30 of 40 tokens (75.0%) are unknown to embedded; 6 of 8 rows look to it like a row of another text \
(use a model of the texts' language)"
        """
        unknown = f"{self.unknown:,} of {self.tokens:,} tokens ({self.unknown / max(1, self.tokens):.1%}) are unknown to {model}"
        alike = f"{self.alike:,} of {self.rows:,} rows look to {'it' if self.unknown else model} like a row of another text"
        found = "; ".join([unknown] * (self.unknown > 0) + [alike] * (self.alike > 0))
        hint = " (use a model of the texts' language)" if self.unknown > DOUBTFUL_SHARE * self.tokens else ""
        return f"{source}: {found}{hint}" if found else ""


class LegibilityCount:
    """Counts rows as they are tokenised."""

    def __init__(self, unknown_id: int, keys: Sequence[FieldKey]) -> None:
        self._unknown_id = unknown_id
        self._counted: Collection[FieldKey] = {key.field: key for key in reversed(keys)}.values()
        self._tokens = self._unknown = self._rows = 0
        self._readings: dict[int, tuple[int, int, bool]] = {}  # of tokens: a text, how many rows, whether texts differ

    def add(self, examples: Sequence[Example], tokens: Mapping[FieldKey, Sequence[IntArray]]) -> None:
        """Count rows, given with their tokens by field key."""
        for key in self._counted:
            ids = np.concatenate(tokens[key])
            self._tokens += len(ids)
            self._unknown += int(np.count_nonzero(ids == self._unknown_id))
        compared = examples[: COMPARED_ROWS - self._rows]
        self._rows += len(compared)
        for example, *read in zip(compared, *tokens.values(), strict=False):
            reading, text = hash(tuple(ids.tobytes() for ids in read)), text_key(example)
            first, rows, differ = self._readings.get(reading, (text, 0, False))
            self._readings[reading] = first, rows + 1, differ or text != first

    def result(self) -> Legibility:
        """Return the counts."""
        alike = sum(rows for _, rows, differ in self._readings.values() if differ)
        return Legibility(self._tokens, self._unknown, self._rows, alike)
