"""Parquet files of more than texts and labels: what no pattern uses may be as large as it likes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import ExampleSource
from petkit.data.parquet import parquet_rows
from petkit.data.precheck import look_at
from petkit.errors import BeyondLimit
from tests.cli.conftest import Outcome, petkit_command, tiny

__all__ = ["petkit_command", "tiny"]

TEXTS = ["a game", "a vote", "a match"]


def embeddings(kind: Any, entries: int = 1_536) -> pa.Array:
    values = pa.array(np.arange(len(TEXTS) * entries) % 100, kind)
    return pa.FixedSizeListArray.from_arrays(values, entries)


def write(path: Path, unused: pa.Array) -> None:
    table = {"id": ["x", "y", "z"], "unused": unused, "text": TEXTS, "label": ["Sports", "World", "Sports"]}
    pq.write_table(pa.table(table), path, compression="zstd")


def source(path: str, **columns: str) -> ExampleSource:
    return ExampleSource(path, DataSpec(unlabeled=path, columns=columns), ["text"], ["World", "Sports"])


@pytest.mark.parametrize(
    "unused",
    [
        embeddings(pa.float32()),
        embeddings(pa.int8()),
        pa.array([{"deep": [[0.5] * 2_000]}] * len(TEXTS)),
        pa.array([b"\0" * 9_000_000, b"", b""]),
    ],
    ids=["floats", "whole numbers", "nested", "an image"],
)
def test_unused_columns_may_be_large(unused: pa.Array, here: Path) -> None:
    write(here / "rows.parquet", unused)
    rows = source("rows.parquet")
    assert [(row.id, row.fields["text"], row.label) for row in rows] == [
        ("x", TEXTS[0], 1),
        ("y", TEXTS[1], 0),
        ("z", TEXTS[2], 1),
    ]
    assert rows.scan().problems == () and rows.scan().columns == ("id", "unused", "text", "label")


@pytest.mark.parametrize("kind", [pa.float32(), pa.int8()], ids=str)
def test_long_lists_of_numbers_are_kept_where_all_columns_are_read(kind: Any, here: Path) -> None:
    kept = embeddings(kind)
    write(here / "rows.parquet", kept)
    look_at("rows.parquet")
    assert [row["unused"] for row in parquet_rows(here / "rows.parquet")] == kept.to_pylist()


def test_lists_of_numbers_that_are_too_long_to_keep_are_refused(here: Path) -> None:
    numbers = pa.array(np.zeros(300_003), pa.int8())
    write(here / "rows.parquet", pa.FixedSizeListArray.from_arrays(numbers, 100_001))
    with pytest.raises(BeyondLimit, match="unused: lists of more than 100,000 numbers a row"):
        list(parquet_rows(here / "rows.parquet"))
    equal = pa.DictionaryArray.from_arrays(pa.array(np.zeros(18_000_000), pa.int32()), pa.array([7], pa.int64()))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 18_000_001, 6_000), pa.int32()), equal)
    pq.write_table(pa.table({"unused": lists}), here / "equal.parquet")
    with pytest.raises(BeyondLimit, match=r"unpacks [0-9,]+-fold to 17.2 MiB"):
        list(parquet_rows(here / "equal.parquet"))


def test_short_lists_are_read_all_the_same(here: Path) -> None:
    write(here / "rows.parquet", embeddings(pa.int8(), 2))
    assert [row["unused"] for row in parquet_rows(here / "rows.parquet")] == [[0, 1], [2, 3], [4, 5]]


def test_a_column_that_is_used_is_checked(here: Path) -> None:
    write(here / "rows.parquet", pa.array([list(map(str, range(1_536)))] * 3))
    with pytest.raises(BeyondLimit, match=r"lists of more than 1,000 entries a row"):
        list(source("rows.parquet", label="unused"))
    write(here / "rows.parquet", pa.array(["a " * 3_000_000] * 3))
    with pytest.raises(BeyondLimit, match="4 MiB"):
        list(source("rows.parquet", text="unused"))


@pytest.mark.parametrize(
    "unused", [embeddings(pa.float32()), pa.array([b"\0" * 9_000_000, b"", b""])], ids=["floats", "an image"]
)
def test_a_pipeline_knows_its_columns_before_its_first_look(
    unused: pa.Array, tiny: Path, petkit_command: Callable[..., Outcome]
) -> None:
    write(tiny / "rows.parquet", unused)
    answer = petkit_command("validate", "pipeline.yaml", "--set", "data.unlabeled=rows.parquet")
    assert (answer.code, answer.err) == (0, "")
