"""Tables in shards: Parquet files of a few thousand rows, so that a million rows are never in memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from petkit.storage.atomic import naming
from petkit.storage.fault_points import crash_point
from petkit.storage.integrity import read_record
from petkit.storage.ragged import from_rows, present, stacked

SHARD_ROWS = 8192


def write_shard(folder: Path, index: int, columns: Mapping[str, Any], *, ragged: bool = False) -> None:
    """Write one shard. Two-dimensional arrays become lists of fixed size, other values plain columns.

    Args:
        ragged: rows have numbers of their own, and lists as many as are not absent.
    """
    arrays = dict(columns)
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            arrays[name] = _lists(np.ascontiguousarray(values, np.float32), ragged=ragged)
    path = folder / f"part-{index:05d}.parquet"
    with naming(path):
        crash_point("shard: before write")
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(arrays), path, compression="zstd")
        crash_point("shard: written")


def read_shards(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the shards in order: float lists as ``(rows, width)`` arrays, other columns as lists.

    Of a finished step, only those listed in its record.
    """
    found = sorted(folder.glob("part-*.parquet"))
    step, record = next(((step, record) for step in (folder, folder.parent) if (record := read_record(step))), (folder, None))
    for path in found:
        if record is None or path.relative_to(step).as_posix() in record.files:  # None: work in progress
            table = pq.read_table(path, columns=columns)
            yield {name: _values(table[name]) for name in columns}


def read_matrix(folder: Path, column: str) -> NDArray[np.float32]:
    """Return a float-list column of all shards as one ``(rows, width)`` array."""
    return stacked(shard[column] for shard in read_shards(folder, [column]))


def _lists(matrix: NDArray[np.float32], *, ragged: bool) -> pa.Array:
    if not ragged:
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    own = present(matrix)
    offsets = np.concatenate([[0], own.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix[own]))


def _values(column: pa.ChunkedArray) -> Any:
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(whole.type):
        return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)
    if pa.types.is_list(whole.type) and pa.types.is_float32(whole.type.value_type):
        lengths = whole.value_lengths().to_numpy(zero_copy_only=False)
        return from_rows(whole.flatten().to_numpy(zero_copy_only=False), lengths)
    return whole.to_pylist()
