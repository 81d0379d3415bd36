"""Named places where tests kill a run or let its disk fail: next to every write, rename and marker.

    PETKIT_CRASH_AT="publish: renamed"             SIGKILL when this point is first passed
    PETKIT_CRASH_AT="file: before write#3"         … when it is passed for the third time
    PETKIT_CRASH_AT="*#40=ENOSPC"                  the disk is full from the fortieth point of all on

Only tests set the variable; without it a point costs one look-up in the environment.
"""

from __future__ import annotations

import errno
import os
import signal

VARIABLE = "PETKIT_CRASH_AT"
ANY = "*"
# In the order in which a run passes them.
POINTS = (
    "lock: before",
    "lock: held",
    "lock: swept",
    "file: before write",
    "file: written",
    "file: before rename",
    "file: renamed",
    "event: before write",
    "event: written",
    "publish: begun",
    "shard: before write",
    "shard: written",
    "model: before write",
    "model: written",
    "publish: filled",
    "publish: files on disk",
    "publish: recorded",
    "publish: before the old step goes",
    "publish: old step aside",
    "publish: before rename",
    "publish: renamed",
    "publish: done",
    "rows: before write",
    "rows: written",
    "checkpoint: before write",
    "checkpoint: written",
    "checkpoint: before one goes",
    "checkpoint: one aside",
    "project: before write",
    "project: before rename",
)
passed = 0


def crash_point(name: str) -> None:
    """Do nothing, unless a test requests a fault here.

    Raises:
        OSError: the requested fault, here and at every later point.
    """
    request = os.environ.get(VARIABLE)
    if request:
        _strike(name, request)


def _strike(name: str, request: str) -> None:
    global passed
    place, _, fault = request.partition("=")
    wanted, _, count = place.partition("#")
    if wanted not in (ANY, name):
        return
    passed += 1
    if passed < int(count or 1):
        return
    if fault:
        number = getattr(errno, fault)
        raise OSError(number, os.strerror(number))
    os.kill(os.getpid(), signal.SIGKILL)
