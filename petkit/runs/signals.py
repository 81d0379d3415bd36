"""Ctrl-C and SIGTERM: the first signal stops after the batch in progress and keeps finished work, the second stops at once.

Published steps are whole whenever a process ends; this saves the work in progress.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_requested: int | None = None


@contextmanager
def stopping_gently(report: Callable[[str], None]) -> Iterator[None]:
    """A context in which the first signal is only reported, for :func:`stop_if_requested`; a second one interrupts at once.

    Ctrl-C raises KeyboardInterrupt and SIGTERM SystemExit with exit code 143, where nothing is lost. Signals belong to a
    program's main thread; in others this changes nothing.
    """
    global _requested
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        global _requested
        again, _requested = _requested is not None, number
        if again:
            stop_if_requested()
        with suppress(Exception, SystemExit):  # a terminal that has gone must not cost the work in progress
            report("stopping after this batch; finished work is kept (again: stop at once)")

    before: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested = None


def stop_requested() -> bool:
    """Say whether a signal requested to stop."""
    return _requested is not None


def stop_if_requested() -> None:
    """Leave, if a signal requested it; called where nothing would be lost."""
    if _requested == signal.SIGINT:
        raise KeyboardInterrupt
    if _requested is not None:
        raise SystemExit(128 + _requested)
