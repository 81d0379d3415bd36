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
passed = 0


def crash_point(name: str) -> None:
    """Do nothing, unless a test requests a fault here: its error comes here and at every later point."""
    if request := os.environ.get(VARIABLE):
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
        raise OSError(number := getattr(errno, fault), os.strerror(number))
    os.kill(os.getpid(), signal.SIGKILL)
