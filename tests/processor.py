"""Time of the processor, which a busy machine does not distort, and how slow the processor is."""

from __future__ import annotations

import os
import time


def processor_seconds() -> float:
    """Return the seconds that this process and its ended child processes have used."""
    return sum(os.times()[:4])


def slowness() -> float:
    """Return how many times slower than an ordinary processor this one runs Python (at least 1)."""
    started = time.process_time()
    sum(number for number in range(1_000_000))
    return max(1.0, (time.process_time() - started) / 0.04)
