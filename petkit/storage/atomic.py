"""Atomic writes: a file is written under a temporary name, forced to disk, and renamed."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from petkit.storage.fault_points import crash_point

# Error numbers of a disk that refuses data and, where a library drops these, the wording.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (*_FULL, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO, errno.ESTALE)
# A file system takes names of 255 bytes; a temporary one is 14 longer than this.
_NAME_BYTES = 240
_FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "not enough space on the disk", "requested and")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """Yield a stream; on a clean exit its content replaces ``path``, which is unchanged until then and keeps its mode."""
    # No two processes write to the same name, which is not too long where that of the file is not.
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    temporary = path.with_name(f".{name}.{uuid4().hex[:8]}.tmp")
    with naming(path):
        crash_point("file: before write")
        try:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                if path.exists():
                    temporary.chmod(path.stat().st_mode & 0o777)
                yield stream
            crash_point("file: written")
            sync(temporary)
            crash_point("file: before rename")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        crash_point("file: renamed")
        sync(path.parent)


def is_left_over(name: str, *files: str) -> bool:
    """Say whether this is a temporary file of a process killed while it wrote one of the ``files``."""
    return name.endswith(".tmp") and name.startswith(tuple(f".{file}." for file in files))


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    with whole_file(path) as stream:
        stream.write(text)


def append_line(path: Path, line: str) -> None:
    """Append a line to a log, if there is room; it starts a new line even where a power failure cut the last one."""
    try:
        with naming(path):
            crash_point("event: before write")
            with path.open("ab+") as stream:
                begins = ""
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    begins = "" if stream.read() == b"\n" else "\n"
                stream.write(f"{begins}{line}\n".encode())
            crash_point("event: written")
    except OSError as error:
        if lack_of_room(error) is None:
            raise


def sync(path: Path) -> None:
    """Force a file or folder to disk, where the system can."""
    if os.name == "nt" and path.is_dir():
        return
    with naming(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def follow_umask(folder: Path) -> None:
    """Give a folder and all in it the modes of new files; some libraries write files for their owner alone."""
    probe = folder / ".mode"
    probe.mkdir()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.rmdir()
    for place, _, names in os.walk(folder):
        Path(place).chmod(mode)
        for name in names:
            (Path(place) / name).chmod(mode & 0o666)


def sync_tree(folder: Path) -> None:
    """Force all files in a folder to disk, then the folders that hold their names."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file name to errors of the disk; other errors, such as too little memory, pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _REFUSED:
            error.filename = str(path)
        raise


def lack_of_room(error: BaseException) -> str | None:
    """Describe a lack of disk space; None where an error is about something else."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or any(words in str(error) for words in _FULL_IN_WORDS):
        return "the disk is full"
    if number == errno.EFBIG or "File too large" in str(error):
        return "a file may not grow as large as needed (ulimit -f shows the limit)"
    return None


def disk_refusal(error: BaseException, folder: Path) -> str | None:
    """Describe what the disk refused, for a file in ``folder`` or because it is full; None where an error is about something else."""
    full = lack_of_room(error)
    if full is not None or not isinstance(error, OSError) or error.filename is None:
        return full
    path, folder = Path(str(error.filename)).absolute(), folder.absolute()
    if not path.is_relative_to(folder):
        return None
    return f"{path.relative_to(folder).as_posix()} cannot be read or written: {error.strerror or error}"
