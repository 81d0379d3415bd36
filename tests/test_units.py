"""Times and sizes as people say them."""

from __future__ import annotations

import pytest

from petkit.formatting import binary_size, duration, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "1 s"), (1.6, "2 s"), (89.0, "89 s"), (90.0, "2 min"), (3000.0, "50 min"), (5400.0, "1 h 30 min"), (36_300.0, "10 h 05 min")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 kB"), (1499, "1 kB"), (1_500_000, "1.5 MB"), (92_300_000, "92 MB"), (1_234_000_000, "1.2 GB"), (31e9, "31 GB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


def test_sizes_of_caps() -> None:
    sizes = (7, 1023, 1024, 1536, 4 * 2**20, 999 * 2**20, 1500 * 2**20, 50 * 2**30, 2**41)

    shown = ["7 bytes", "1,023 bytes", "1 KiB", "1.5 KiB", "4 MiB", "999 MiB", "1.46 GiB", "50 GiB", "2,048 GiB"]
    assert [binary_size(size) for size in sizes] == shown
