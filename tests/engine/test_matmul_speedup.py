"""The measured speed of matrix products: remembered on disk, by processor and number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from petkit.engine import matmul_speedup as module
from petkit.engine.matmul_speedup import matmul_speedup


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was measured; measuring gives how often it happened."""
    calls: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "measure_matmul_speedup", lambda device: calls.append(device) or float(len(calls)))
    matmul_speedup.cache_clear()
    yield calls
    matmul_speedup.cache_clear()


def test_one_measurement_serves_later_processes(measured: list[str]) -> None:
    assert [matmul_speedup("cpu", 1), matmul_speedup("cpu", 1)] == [1.0, 1.0]
    matmul_speedup.cache_clear()  # another process
    assert matmul_speedup("cpu", 1) == 1.0 and measured == ["cpu"]
    assert matmul_speedup("cpu", 2) == 2.0 and matmul_speedup("cpu", 1) == 1.0
    assert matmul_speedup("mps", 1) == 0.0 and len(measured) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": null}', b"\xff", b'{"a": {}}'])
def test_a_damaged_file_is_replaced(content: bytes, measured: list[str], tmp_path: Path) -> None:
    matmul_speedup("cpu", 1)
    (kept,) = (tmp_path / "cache" / "petkit").iterdir()
    kept.write_bytes(content)
    matmul_speedup.cache_clear()
    assert matmul_speedup("cpu", 1) == 2.0
    matmul_speedup.cache_clear()
    assert matmul_speedup("cpu", 1) == 2.0 and len(measured) == 2


def test_a_cache_folder_that_cannot_be_written_does_not_matter(measured: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert matmul_speedup("cpu", 1) == 1.0
