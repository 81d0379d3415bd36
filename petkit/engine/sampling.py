"""Which rows each optimizer step trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from petkit.models.batch import IndexArray

# At most so many batches are sorted by length together.
_WINDOW = 16


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step, by number, and the step's own randomness."""

    rows: IndexArray  # of the main loss: a teacher's labelled rows, a student's soft-labelled rows
    added: IndexArray | None  # of the loss next to it, if any: a teacher's unlabelled rows, a student's labelled rows
    random: np.random.Generator


def step_rows(rows: Iterable[IndexArray], added: Iterable[IndexArray] | None, seed: int) -> Iterator[StepRows]:
    """Yield every step's rows. Randomness depends on the step's number alone, so that training can resume at any step."""
    pairs = ((batch, None) for batch in rows) if added is None else zip(rows, added, strict=True)
    for step, (batch, more) in enumerate(pairs, 1):
        yield StepRows(batch, more, np.random.default_rng([seed, step]))


def rows_per_step(count: int, batch_size: int) -> int:
    """Return the size of the batches of ``count`` rows: half of them where a batch would have every row."""
    return batch_size if count > batch_size else -(-count // 2)


def smaller_batches(**settings: tuple[int, int]) -> dict[str, int]:
    """Return the batch sizes that are used where they are not those of the settings: name → the number of rows, the setting."""
    used = {name: rows_per_step(*rows_and_size) for name, rows_and_size in settings.items()}
    return {name: size for name, size in used.items() if size != settings[name][1]}


def training_batches(lengths: Sequence[int] | IndexArray, batch_size: int, steps: int, seed: int) -> Iterator[IndexArray]:
    """Yield ``steps`` batches of row indices: endless reshuffled passes over all rows, grouped by length.

    Rows are drawn without replacement within a pass, and no batch has a row twice; up to 16 batches of a pass at a time, at
    most a quarter of it, are sorted by length and dealt in random order, so that padding is small and passes still differ.
    Where a batch would have every row, it has half of them: all seeds would train alike otherwise.
    """
    sizes = np.asarray(lengths)
    return drawn_batches(len(sizes), lambda rows: sizes[rows], batch_size, steps, seed)


def drawn_batches(
    count: int, lengths_of: Callable[[IndexArray], IndexArray], batch_size: int, steps: int, seed: int
) -> Iterator[IndexArray]:
    """Yield what :func:`training_batches` does for ``count`` rows, but read the lengths of the drawn rows only.

    Takes 8 bytes per row, and twice that between two passes.
    """
    random = np.random.default_rng(seed)
    batch_size = rows_per_step(count, batch_size)
    # Sorting a whole small pass would deal nearly the same batches in every pass.
    window_size = max(1, min(_WINDOW, count // (4 * batch_size))) * batch_size
    left = np.zeros(0, np.int64)  # rows of the last pass that filled no batch
    given = 0
    while given < steps:
        order = random.permutation(count)
        if len(left):
            # The one batch of two passes: what is left of one, filled up with other rows of the next.
            head = order[:batch_size]  # enough of them
            fresh = head[~np.isin(head, left)][: batch_size - len(left)]
            yield np.concatenate([left, fresh])
            given += 1
            # The rest of the head moves up to what follows it: the pass is long, and is not copied.
            order[len(fresh) : batch_size] = head[~np.isin(head, fresh)]
            order = order[len(fresh) :]
        whole = min(len(order) // batch_size, steps - given) * batch_size
        for start in range(0, whole, window_size):
            window = order[start : min(start + window_size, whole)]
            batches = window[np.argsort(lengths_of(window), kind="stable")].reshape(-1, batch_size)
            yield from batches[random.permutation(len(batches))]
        given += whole // batch_size
        left = order[whole:]
