"""Tables in shards: what is written is read, in order and exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petkit.storage.parquet_shards import read_matrix, read_shards, write_shard


def logits(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)


def test_round_trip(tmp_path: Path) -> None:
    values = logits(4)
    values[0] = [np.float32(1e-30), np.float32(-1e30), np.nan]
    write_shard(tmp_path, 0, {"id": ["a", "ü", "", "d"], "logits": values, "entropy": values[:, 0]})
    (shard,) = read_shards(tmp_path, ["id", "logits", "entropy"])
    assert shard["id"] == ["a", "ü", "", "d"]
    assert shard["logits"].dtype == np.float32
    np.testing.assert_array_equal(shard["logits"], values)
    np.testing.assert_array_equal(np.array(shard["entropy"], np.float32), values[:, 0])


def test_shards_come_in_order_and_join(tmp_path: Path) -> None:
    blocks = [logits(rows, seed) for seed, rows in enumerate([5, 1, 7])]
    for index in (10, 2, 0):  # written in another order; 10 sorts after 2
        write_shard(tmp_path / "deep" / "er", index, {"logits": blocks[[0, 2, 10].index(index)]})
    np.testing.assert_array_equal(read_matrix(tmp_path / "deep" / "er", "logits"), np.concatenate(blocks))
    assert len(read_matrix(tmp_path / "deep" / "er", "logits")) == 13


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"id": ["a"], "logits": logits(1)})
    (shard,) = read_shards(tmp_path, ["id"])
    assert shard == {"id": ["a"]}


def test_other_float_widths_are_stored_as_float32(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"logits": np.asfortranarray(logits(6).astype(np.float64))})
    assert pq.read_schema(tmp_path / "part-00000.parquet").field("logits").type == pa.list_(pa.float32(), 3)
    np.testing.assert_array_equal(read_matrix(tmp_path, "logits"), logits(6))


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shard(tmp_path / name, 0, {"id": ["a", "b"], "logits": logits(2)})
    assert (tmp_path / "one" / "part-00000.parquet").read_bytes() == (tmp_path / "two" / "part-00000.parquet").read_bytes()


def test_truncated_shard_is_not_read(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {"logits": logits(50)})
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(pa.ArrowInvalid):
        read_matrix(tmp_path, "logits")
