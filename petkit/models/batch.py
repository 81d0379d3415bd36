"""Rows into batches: grouped by length, padded to the longest row of the batch (rounded up to 8, where the model can read as much)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from petkit.prompts.choices import EncodedChoices
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.ragged import ABSENT

IndexArray = NDArray[np.int64]
# Widths are rounded up to whole vector registers; fewer different shapes also keep torch's kernel caches small.
_MULTIPLE = 8


@dataclass(frozen=True)
class Choices:
    """Where in a batch of sequences each row's candidates are read; they are numbered row after row."""

    rows: int  # of which each has one or more sequences
    width: int  # of a row of logits
    cells: Tensor  # (candidates,) int64: row · width + number in the row
    sequences: Tensor  # (candidates,) int64: the sequence each is read in
    tokens: Tensor  # (candidates, longest) int64: its tokens, then 0
    there: Tensor  # (candidates, longest) bool: which of these are its own

    @property
    def lengths(self) -> Tensor:
        """How many tokens each candidate has, shape ``(candidates,)``."""
        return self.there.sum(1)

    def grid(self, scores: Tensor) -> Tensor:
        """Return scores of candidates ``(candidates,)`` as logits of rows ``(rows, width)``, absent behind each row's last."""
        logits = torch.full((self.rows * self.width,), ABSENT, device=scores.device)
        return logits.index_put((self.cells,), scores.float()).view(self.rows, self.width)

    def to(self, device: str | torch.device) -> Choices:
        """Return the same on ``device``."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """One padded batch: the inputs of a model, the first mask of each row (-1: none), and how many follow each other there."""

    input_ids: Tensor  # (batch, length) int64
    attention_mask: Tensor  # (batch, length) int64
    token_type_ids: Tensor | None  # (batch, length) int64
    mask_positions: Tensor  # (batch,) int64
    masks: int = 1
    choices: Choices | None = None  # where rows have candidates; all the above is then of their sequences

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on ``device``."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved, choices=None if self.choices is None else self.choices.to(device))

    def sequences(self, numbers: Tensor) -> Batch:
        """Return some sequences of the batch, some of them perhaps several times, without candidates."""
        types = None if self.token_type_ids is None else self.token_type_ids[numbers]
        ids, attention, positions = self.input_ids[numbers], self.attention_mask[numbers], self.mask_positions[numbers]
        return Batch(ids, attention, types, positions, self.masks)

    def with_ids(self, input_ids: Tensor) -> Batch:
        """Return the batch with other token ids in the same places."""
        return replace(self, input_ids=input_ids)

    def with_masks(self, masks: int) -> Batch:
        """Return the batch with only the first ``masks`` masks of each row; what follows them moves up."""
        gone = self.masks - masks
        if gone == 0:
            return self
        places = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)  # (length,)
        behind = places >= (self.mask_positions + masks)[:, None]  # (batch, length)
        source = places + gone * behind
        inside = source < len(places)
        source = source.clamp(max=len(places) - 1)
        types = None if self.token_type_ids is None else self.token_type_ids.gather(1, source) * inside
        attention = self.attention_mask.gather(1, source) * inside
        return Batch(self.input_ids.gather(1, source), attention, types, self.mask_positions, masks)

    def appended(self, words: Sequence[Sequence[int]], longest: int) -> Batch:
        """Return the rows with the tokens of ``words`` after each row's end (its mask position), padded by ``longest`` columns."""
        if longest == 0:
            return self
        size, device = len(words), self.input_ids.device
        lengths = torch.tensor([len(word) for word in words], device=device)
        tokens = torch.tensor([[*word, *[0] * (longest - len(word))] for word in words], device=device)  # (batch, longest)
        number = torch.arange(longest, device=device)
        places = self.mask_positions[:, None] + 1 + number  # (batch, longest)
        more = self.input_ids.new_zeros(size, longest)
        types = None if self.token_type_ids is None else torch.cat([self.token_type_ids, more], dim=1)
        return replace(
            self,
            input_ids=torch.cat([self.input_ids, more], dim=1).scatter(1, places, tokens),
            attention_mask=torch.cat([self.attention_mask, more], dim=1).scatter(1, places, (number < lengths[:, None]).long()),
            token_type_ids=types,
        )

    @staticmethod
    def stacked(batches: Sequence[Batch]) -> Batch:
        """Return batches of the same width as one; its rows may hold different numbers of masks."""
        tensors = [name for name, value in vars(batches[0]).items() if isinstance(value, Tensor)]
        stacked: dict[str, Any] = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in tensors}
        return replace(batches[0], **stacked, masks=max(batch.masks for batch in batches))

    @property
    def model_inputs(self) -> dict[str, Tensor]:
        """The keyword arguments of a transformers encoder."""
        types = {} if self.token_type_ids is None else {"token_type_ids": self.token_type_ids}
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **types}


def collate(rows: Sequence[Encoded], tokenizer: PieceTokenizer) -> Batch:
    """Pad rows on the right to the longest of them, rounded up to a multiple of 8 if their limit allows it."""
    if isinstance(rows[0], EncodedChoices):
        return _collate_choices([row for row in rows if isinstance(row, EncodedChoices)], tokenizer)
    lengths = np.array([len(row.ids) for row in rows])
    longest = int(lengths.max())
    width = _padded(longest)
    if rows[0].limit is not None:  # all rows of a batch have the same
        width = max(longest, min(width, rows[0].limit))
    ids = np.full((len(rows), width), tokenizer.pad_id, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
    columns = np.arange(width)
    inside = columns < lengths[:, None]  # (batch, length)
    types = None
    if tokenizer.uses_token_types:
        second = np.array([row.second for row in rows])
        types = torch.from_numpy(((columns >= second[:, None]) & inside).astype(np.int64))
    return Batch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(inside.astype(np.int64)),
        token_type_ids=types,
        mask_positions=torch.tensor([row.mask for row in rows], dtype=torch.int64),
        masks=rows[0].masks,
    )


def _collate_choices(rows: Sequence[EncodedChoices], tokenizer: PieceTokenizer) -> Batch:
    """Pad the sequences of rows with candidates."""
    firsts = np.cumsum([0, *(len(row.sequences) for row in rows)])  # of each row, its first sequence
    tokens = [own for row in rows for own in row.tokens]
    lengths = np.array([len(own) for own in tokens])
    there = np.arange(max(1, int(lengths.max()))) < lengths[:, None]  # (candidates, longest)
    padded = np.zeros(there.shape, np.int64)
    padded[there] = np.concatenate(tokens)
    width = rows[0].width
    cells = [place * width + number for place, row in enumerate(rows) for number in range(len(row.read_in))]
    sequences = [int(first) + own for first, row in zip(firsts, rows, strict=False) for own in row.read_in]
    return replace(
        collate([sequence for row in rows for sequence in row.sequences], tokenizer),
        choices=Choices(
            rows=len(rows),
            width=width,
            cells=torch.tensor(cells),
            sequences=torch.tensor(sequences),
            tokens=torch.from_numpy(padded),
            there=torch.from_numpy(there),
        ),
    )


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def inference_batches(
    lengths: Sequence[int], tokens_per_batch: int, before: int = 0, sequences: Sequence[int] | None = None
) -> Iterator[IndexArray]:
    """Yield row indices, longest rows first, so that no padded batch, with the tokens that an adapter puts before each row,
    exceeds ``tokens_per_batch`` (one row always fits).

    Args:
        lengths: tokens of each row, or of its longest sequence where it has several.
        sequences: how many each row has; default: one.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, tokens_per_batch // max(1, _padded(int(lengths[order[start]])) + before))
        if sequences is not None:  # of each row; all are padded to the longest
            counts = np.cumsum([sequences[row] for row in order[start : start + rows]])
            rows = max(1, int(np.searchsorted(counts, rows, side="right")))
        yield order[start : start + rows]
        start += rows
