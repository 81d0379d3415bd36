"""Garbage collections in a run examine only what the run creates."""

from __future__ import annotations

import gc
import weakref

from petkit.engine.device import quick_collections


class Node:
    """An object that only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_from_before_does_not_stay_for_the_run() -> None:
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        gone = weakref.ref(Node())
        with quick_collections():
            assert gone() is None and gc.get_freeze_count() > 0
            made = weakref.ref(Node())
            gc.collect()
            assert made() is None
        assert gc.get_freeze_count() == 0
    finally:
        if frozen:
            gc.freeze()
