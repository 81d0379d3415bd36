"""Which tokens a masked language model must guess (Devlin et al. 2019, BERT, section 3.1).

Of the ordinary tokens of every row some are hidden: most become the mask, some a random word, some stay as they are, so that the
model learns to doubt every word it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from petkit.models.batch import Batch, IndexArray
from petkit.prompts.tokenizer import PieceTokenizer

# Of the hidden tokens, the share that becomes the mask, and the share that becomes a random word; the others stay.
_AS_MASK, _AS_RANDOM = 0.8, 0.1


def hide_tokens(
    ids: IndexArray,
    maskable: NDArray[np.bool_],
    share: float,
    mask_id: int,
    random: np.random.Generator,
    replacements: IndexArray | None = None,
) -> tuple[IndexArray, IndexArray, IndexArray, IndexArray]:
    """Hide a share of every row's maskable tokens, rounded, and at least one where there is any (share 0: none).

    Args:
        ids, maskable: token ids, and which of them may be hidden, shape ``(batch, length)``.
        random: draws the places, then what becomes of them.
        replacements: ids for random words; then 80 % of the hidden tokens become the mask, 10 % one of these and
            10 % stay as they are. None: all become the mask.

    Returns:
        The ids the model reads, shape ``(batch, length)``; row, column and true id of each hidden token, shape ``(hidden,)``.
    """
    available = maskable.sum(axis=1)  # (batch,)
    wanted = np.minimum(available, np.maximum(int(share > 0), np.floor(share * available + 0.5)))  # (batch,)
    keys = np.where(maskable, random.random(ids.shape), 2.0)  # (batch, length): a random order, the maskable tokens first
    rank = keys.argsort(axis=1).argsort(axis=1)
    rows, columns = np.nonzero(rank < wanted[:, None])
    targets = ids[rows, columns]
    shown = np.full_like(targets, mask_id)
    if replacements is not None:
        fate = random.random(len(targets))
        drawn = replacements[random.integers(len(replacements), size=len(targets))]
        shown = np.select([fate < _AS_MASK, fate < _AS_MASK + _AS_RANDOM], [shown, drawn], targets)
    input_ids = ids.copy()
    input_ids[rows, columns] = shown
    return input_ids, rows, columns, targets


@dataclass(frozen=True)
class MaskedBatch:
    """A batch with hidden tokens; their rows, columns and true ids have shape ``(hidden,)``."""

    batch: Batch
    rows: Tensor
    columns: Tensor
    targets: Tensor

    def to(self, device: str | torch.device) -> MaskedBatch:
        """Return the batch on ``device``."""
        return MaskedBatch(self.batch.to(device), self.rows.to(device), self.columns.to(device), self.targets.to(device))


class TokenMasking:
    """Hides a share of each row's tokens (``always`` behind the mask), but no special ones, padding or soft tokens."""

    def __init__(self, tokenizer: PieceTokenizer, share: float, *, always: bool = False) -> None:
        self.share = share
        self.mask_id = tokenizer.mask_id
        self.special: IndexArray = np.unique(tokenizer.hf.all_special_ids)
        vocabulary = np.array(sorted(tokenizer.hf.get_vocab().values()))
        self.replacements: IndexArray | None = None if always else np.setdiff1d(vocabulary, self.special)

    def maskable(self, ids: IndexArray) -> NDArray[np.bool_]:
        """Say which tokens may be hidden, shape ``(batch, length)``."""
        return (ids >= 0) & ~np.isin(ids, self.special)  # padding and masks are special tokens, soft tokens have ids below 0

    def __call__(
        self, batch: Batch, random: np.random.Generator, spared: NDArray[np.bool_] | np.bool_ = np.False_
    ) -> MaskedBatch:
        """Hide tokens of ``batch`` (on the processor), but none that is ``spared``, shape ``(batch, length)``."""
        ids = batch.input_ids.numpy()
        hidden = hide_tokens(ids, self.maskable(ids) & ~spared, self.share, self.mask_id, random, self.replacements)
        input_ids, *places = map(torch.from_numpy, hidden)
        return MaskedBatch(batch.with_ids(input_ids), *places)
