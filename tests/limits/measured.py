"""The real command line in a process of its own, and what that took."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO


def _slowness() -> float:
    """Return how many times slower than an ordinary processor this one runs Python (at least 1)."""
    started = time.process_time()
    sum(number for number in range(1_000_000))
    return max(1.0, (time.process_time() - started) / 0.04)


# The promise is two seconds on an ordinary processor. Time is that of the processor: a busy machine distorts the clock.
MOST_SECONDS = 2.0 * _slowness()
MOST_MEBIBYTES = 200


@dataclass(frozen=True)
class Measured:
    """What a command said and took.

    Attributes:
        seconds: of the processor, in this process and for it.
        mebibytes: the most memory it held.
    """

    code: int
    out: str
    err: str
    seconds: float
    mebibytes: float


# A new process counts the memory of the one it was made from, and that of the tests is large: a small one stands between.
_LAUNCHER = """
import json, os, sys
child = os.posix_spawn(sys.executable, [sys.executable, "-m", "petkit", *sys.argv[2:]], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss], report)
"""


def petkit(*arguments: object, stdin: IO[bytes] | int = subprocess.DEVNULL) -> Measured:
    """Run ``python -m petkit`` in the current folder and measure it."""
    with tempfile.TemporaryDirectory() as elsewhere:
        report = Path(elsewhere) / "report.json"
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(report), *map(str, arguments)]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True)
        code, seconds, memory = json.loads(report.read_text())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Measured(code, done.stdout.decode(), done.stderr.decode(), seconds, memory / unit)


def check_refused(answer: Measured, *told: str) -> None:
    """Assert one line with place and cure, exit code 2, in time and memory."""
    assert (answer.code, answer.out) == (2, ""), answer.err[-2000:]
    assert len(answer.err.splitlines()) == 1, answer.err[:2000]
    assert len(answer.err) < 600
    for part in told:
        assert part in answer.err
    assert answer.seconds < MOST_SECONDS, answer
    assert answer.mebibytes < MOST_MEBIBYTES, answer
