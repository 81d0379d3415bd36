"""Rows of different lengths: in memory with absent entries, in Parquet as lists of each row's own length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from petkit.ensemble import log_softmax
from petkit.storage.parquet_shards import read_matrix, read_shards, write_shard
from petkit.storage.ragged import ABSENT, from_rows, present, stacked, widened

RAGGED = np.array([[1.0, -2.0, ABSENT], [0.5, 3.0, 4.0]], np.float32)


def test_shards_keep_each_rows_own_numbers(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"logits": RAGGED}, ragged=True)
    write_shard(tmp_path, 1, {"logits": RAGGED[:1, :2]}, ragged=True)

    assert pq.read_table(tmp_path / "part-00000.parquet")["logits"].to_pylist() == [[1.0, -2.0], [0.5, 3.0, 4.0]]
    first, second = (shard["logits"] for shard in read_shards(tmp_path, ["logits"]))
    assert np.array_equal(first, RAGGED) and np.array_equal(second, RAGGED[:1, :2])
    assert np.array_equal(read_matrix(tmp_path, "logits"), np.concatenate([RAGGED, RAGGED[:1]]))
    assert len(pq.read_table(tmp_path)) == 3  # whatever the shards' widths, they are of one type


def test_rows_of_one_length_are_lists_of_fixed_size(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"logits": RAGGED[1:]})
    assert str(pq.read_schema(tmp_path / "part-00000.parquet").field("logits").type) == "fixed_size_list<element: float>[3]"


def test_absent_entries_have_no_probability_at_any_temperature() -> None:
    for temperature in (1e-3, 1.0, 1e3):
        probabilities = np.exp(log_softmax(RAGGED, temperature))
        assert probabilities[0, 2] == 0 and np.isfinite(log_softmax(RAGGED, temperature)).all()
        assert present(RAGGED / np.float32(temperature)).tolist() == [[True, True, False], [True, True, True]]


def test_widening_adds_absent_columns_only() -> None:
    assert widened(RAGGED, 2) is RAGGED
    assert not present(widened(RAGGED, 5))[:, 3:].any()
    assert np.array_equal(stacked([RAGGED[:1, :1], RAGGED]), np.vstack([[[1.0, ABSENT, ABSENT]], RAGGED]).astype(np.float32))
    assert np.array_equal(from_rows(np.array([1.0, -2.0, 0.5, 3.0, 4.0], np.float32), [2, 3]), RAGGED)
