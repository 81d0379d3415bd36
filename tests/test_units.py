"""Times and sizes as people say them."""

from __future__ import annotations

import pytest

from petkit.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "1 s"), (1.6, "2 s"), (89.0, "89 s"), (90.0, "2 min"), (3000.0, "50 min"), (5400.0, "1 h 30 min"), (36_300.0, "10 h 05 min")],
)  # fmt: skip
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 kB"), (1499, "1 kB"), (1_500_000, "1.5 MB"), (92_300_000, "92 MB"), (1_234_000_000, "1.2 GB"), (31e9, "31 GB")],
)
def test_sizes(count: int, told: str) -> None:
    assert size(count) == told
