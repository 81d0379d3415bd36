"""``petkit``, and ``python -m petkit``: the standard streams are made usable first, whatever the caller left of them."""

import codecs
import os
import sys
from pathlib import Path
from typing import Any, TextIO


class _Remarks:
    """Standard error that never ends the work: when it cannot be written (a full disk, no reader), its text is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return self._drop(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop("")

    def _drop(self, text: str) -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)


def escape(error: UnicodeError) -> tuple[str, int]:
    r"""Return what an encoding lacks as ``\u2192``, in text as in JSON (a pair of them beyond U+FFFF).

    >>> codecs.register_error("petkit.escape", escape)
    >>> "→ 😀".encode("cp1252", "petkit.escape")
    b'\\u2192 \\ud83d\\ude00'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


def open_streams() -> None:
    """Replace closed outputs, escape what their encoding lacks, and let no remark end the work.

    A closed standard input stays None, but its number is taken, so that no file that is opened later gets it.
    """
    codecs.register_error("petkit.escape", escape)
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    sys.stdout.reconfigure(errors="petkit.escape")  # type: ignore[union-attr]
    sys.stderr = _Remarks(sys.stderr)


def main() -> None:
    """Run the command line; a Ctrl-C while it is imported leaves no traceback either."""
    open_streams()
    try:
        from petkit.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
