"""Garbage collections in a run examine only what the run creates."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from petkit.engine import device


class Node:
    """An object that only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_from_before_does_not_stay_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_freezing", threading.Lock())  # a fixture of the whole session has taken the other one
    gc.unfreeze()
    try:
        gone = weakref.ref(Node())
        with device.quick_collections():
            assert gone() is None and gc.get_freeze_count() > 0
            made = weakref.ref(Node())
            with device.quick_collections():
                gc.collect()
                assert made() is None
            assert gc.get_freeze_count() > 0  # still, after the inner block
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_what_the_process_froze_itself_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_freezing", threading.Lock())
    gc.freeze()
    with device.quick_collections():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() > 0
