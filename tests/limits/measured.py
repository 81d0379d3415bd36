"""The real command line in a process of its own, forked from a small server, and what that took."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from tests.processor import slowness

# The promise of docs/limits.md, on an ordinary processor.
MOST_SECONDS = 2.0 * slowness()
MOST_MEBIBYTES = 200


@dataclass(frozen=True)
class Measured:
    """What a command printed and took.

    Attributes:
        seconds: of the processor, with what the server needed to start and import.
        mebibytes: the peak memory of the process, with what it shares with the server.
    """

    code: int
    out: str
    err: str
    seconds: float
    mebibytes: float


# A forked process counts the memory of its parent, and that of the tests is large; the server has only imported what every
# command that reads rows or a pipeline imports.
_SERVER = """
import json, os, resource, sys, traceback
import petkit.cli, petkit.config.loader, petkit.data.precheck, petkit.data.records, pyarrow.parquet
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        code = 70
        try:
            os.chdir(request["folder"])
            for number, (name, flags) in enumerate(((request["stdin"], os.O_RDONLY), *((name, 0o1101) for name in request["into"]))):
                os.dup2(os.open(name, flags, 0o600), number)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8")
            sys.argv = ["petkit", *request["arguments"]]
            petkit.cli.main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    own = resource.getrusage(resource.RUSAGE_SELF)
    seconds = sum(used.ru_utime + used.ru_stime for used in (usage, own))
    print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss]), flush=True)
"""


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SERVER]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    atexit.register(server.communicate)  # it ends with its input
    return server


def petkit(*arguments: object, stdin: IO[bytes] | None = None) -> Measured:
    """Run ``petkit`` in the current folder and measure it."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as elsewhere:
        into = [Path(elsewhere) / name for name in ("out", "err")]
        request = {
            "folder": str(Path.cwd()),
            "stdin": stdin.name if stdin else "/dev/null",
            "into": list(map(str, into)),
            "arguments": list(map(str, arguments)),
        }
        print(json.dumps(request), file=server.stdin, flush=True)
        code, seconds, memory = json.loads(server.stdout.readline())
        out, err = (path.read_text(encoding="utf-8") for path in into)
    return Measured(code, out, err, seconds, memory / (2**20 if sys.platform == "darwin" else 2**10))


def check_refused(answer: Measured, *reported: str) -> None:
    """Assert one line with place and hint, exit code 2, in time and memory."""
    assert (answer.code, answer.out) == (2, ""), answer.err[-2000:]
    assert len(answer.err.splitlines()) == 1, answer.err[:2000]
    assert len(answer.err) < 600
    for part in reported:
        assert part in answer.err
    assert answer.seconds < MOST_SECONDS, answer
    assert answer.mebibytes < MOST_MEBIBYTES, answer
