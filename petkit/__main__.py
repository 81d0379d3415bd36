"""``petkit``, and ``python -m petkit``: streams and environment are made usable first, whatever the caller left of them."""

import codecs
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# Variables that begin so change which kernels libraries compute with, in which format, or what they print on standard output.
_KERNELS = (
    "ATEN_", "DNNL_", "FBGEMM_", "MKL_", "NPY_", "NVIDIA_TF32_", "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "ONEDNN_", "OPENBLAS_",
    "PYTORCH_JIT", "PYTORCH_TENSOREXPR", "TORCH_",
)  # fmt: skip
# These only say how many threads a library may start; petkit sets the number that it computes with.
_KEPT = ("MKL_NUM_THREADS", "MKL_THREADING_LAYER", "OPENBLAS_NUM_THREADS")
# oneDNN keeps a compiled kernel for every shape it has met, hundreds of megabytes for texts of all lengths.
_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
# Threads that wait for each other look so often before they sleep. GNU's default, 300,000, takes the core that another program
# would use, and each operation then waits for that program: training beside two busy processes took 12 times as long.
_WAITING = ("GOMP_SPINCOUNT", "1000")


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


def clear_environment() -> None:
    """Remove what would change results; libraries read it when they are imported or first compute."""
    for name in list(os.environ):
        if name.upper().startswith(_KERNELS) and name not in _KEPT:
            del os.environ[name]
    os.environ.update(dict.fromkeys(_CACHES, "32"))
    if "OMP_WAIT_POLICY" not in os.environ:  # the user's choice, as is a number of their own
        os.environ.setdefault(*_WAITING)


def main() -> None:
    """Run the command line; a Ctrl-C while it is imported leaves no traceback either."""
    open_streams()
    clear_environment()
    try:
        from petkit.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
