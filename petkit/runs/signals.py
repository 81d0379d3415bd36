"""Ctrl-C and SIGTERM: the first lets the batch in progress end and what is done be kept, the second leaves at once.

Nothing published is ever half-written, whenever a process ends; this only saves the work in progress.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked: int | None = None


@contextmanager
def stopping_gently(tell: Callable[[str], None]) -> Iterator[None]:
    """Within, the first signal is only noted, for :func:`leave_if_asked` to follow; a second one interrupts at once.

    Signals belong to a program's main thread; in others this changes nothing.

    Args:
        tell: hears what the first signal leads to.

    Raises:
        KeyboardInterrupt: Ctrl-C, at a point where nothing is lost.
        SystemExit: SIGTERM, likewise; exit code 143.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        global _asked
        if _asked is not None:
            _leave(number)
        _asked = number
        with suppress(Exception, SystemExit):  # a terminal that has gone must not cost the work in progress
            tell("stopping after this batch; what is done is kept (again: stop at once)")

    before: dict[int, Any] = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


def stop_requested() -> bool:
    """Say whether a signal asked to stop."""
    return _asked is not None


def stop_if_requested() -> None:
    """Leave, if a signal asked to: called where nothing would be lost."""
    if _asked is not None:
        _leave(_asked)


def _leave(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
