"""The record of a finished step, and what differs between it and the files in its folder.

    FOLDER/step.json     written last: the size and SHA-256 of every other file, and a checksum of the record itself

The record stays with the folder when it is copied out of its run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from petkit.errors import ModelRefused, PetkitError, shown_path
from petkit.storage.checksum import checked_json

SCHEMA = 1
RECORD, MANIFEST = "step.json", "manifest.json"
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
# Loaders look for files with these endings: one that is not recorded would be read with those that are.
_LOOKED_FOR = (".jinja", ".json", ".model", ".parquet", ".py", ".safetensors", ".txt")
_RECORD_TYPES = {"schema": int, "step": str, "fingerprint": str, "inputs": dict, "facts": dict, "files": dict}


class Unreadable(PetkitError):
    """The system refuses to read a file; it may be undamaged, so nothing is made again because of it."""

    def __init__(self, path: Path, error: OSError) -> None:
        hint = "nothing was changed; fix the disk or the permissions and retry"
        super().__init__(f"{shown_path(path)}: cannot be read: {error.strerror} ({hint})")


@dataclass(frozen=True)
class Record:
    """The content of a ``step.json``.

    Attributes:
        files: name → bytes and SHA-256.
        checksum: SHA-256 of the record itself; it identifies one making of one step.
        data: the whole document.
    """

    step: str
    fingerprint: str
    inputs: dict[str, Any]
    files: dict[str, tuple[int, str]]
    facts: dict[str, Any]
    checksum: str
    data: dict[str, Any]


def as_manifest(content: bytes) -> dict[str, Any] | None:
    """Return the content of a manifest of any version; None if it is damaged or not a manifest."""
    data = checked_json(content)
    return data if data and "step" not in data and type(data.get("schema")) is int and _has_mappings(data) else None


def content_of(path: Path) -> bytes | None:
    """Return the bytes of a file; None if it does not exist."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in (*_MISSING, errno.EISDIR):
            return None
        raise Unreadable(path, error) from error


def is_link(path: Path) -> bool:
    """Say whether a path is a link; a name that is too long for the system is not."""
    return os.path.islink(path)  # noqa: PTH114 (a Path raises for such a name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(path, error) from error


def read_record(folder: Path) -> Record | None:
    """Return the record in a folder; None if it is missing or damaged."""
    content = content_of(folder / RECORD)
    data = None if content is None or is_link(folder / RECORD) else checked_json(content)
    if data is None or not _is_record(data):
        return None
    files = {name: (entry["bytes"], entry["sha256"]) for name, entry in data["files"].items()}
    return Record(data["step"], data["fingerprint"], data["inputs"], files, data["facts"], data["seal"], data)


def compare(folder: Path, record: Record, *, hashes: bool = True) -> tuple[str, str, str]:
    """Return what is damaged, in words; if nothing is, an unlisted file that a loader might read, and another unlisted file.

    Args:
        hashes: read and hash every file; otherwise compare sizes only.
    """
    damage = next(filter(None, (_damage(folder, name, *entry, hashes) for name, entry in record.files.items())), "")
    if damage:
        return damage, "", ""
    found = set[str]()
    for place, folders, names in os.walk(folder):
        inner, links = Path(place).relative_to(folder), [name for name in folders if is_link(Path(place) / name)]
        found.update((inner / name).as_posix() for name in (*names, *links))
    unlisted = sorted(found - {*record.files, RECORD})
    read = [name for name in unlisted if is_looked_for(name)]
    return "", next(iter(read), ""), next((name for name in unlisted if name not in read), "")


def _damage(folder: Path, name: str, size: int, digest: str, hashes: bool) -> str:
    if not stays_inside(name):
        return f"{RECORD} names {name!r}, which is outside the folder"
    path = PurePosixPath(name)
    link = next((part for part in (path, *path.parents[:-1]) if is_link(folder / part)), None)
    if link is not None:
        return f"{link} is a link"
    try:
        found = (folder / name).lstat()
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        if isinstance(error, OSError) and error.errno not in _MISSING:
            raise Unreadable(folder / name, error) from error
        return f"{name} is missing"
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is not a file"
    if found.st_size != size:
        return f"{name} has {found.st_size} bytes instead of {size}"
    return f"{name} has changed" if hashes and sha256(folder / name) != digest else ""


def is_looked_for(name: str) -> bool:
    """Say whether a loader might read an unlisted file of this name."""
    path = PurePosixPath(name)
    # Several tools write a manifest.json next to models; no loader reads it.
    return not path.name.startswith(".") and path.name != MANIFEST and path.suffix.lower() in _LOOKED_FOR


def stays_inside(name: str) -> bool:
    """Say whether a relative name stays inside its folder, on every system."""
    path = PurePosixPath(name)
    return bool(name) and not {*name} & {"\\", ":", "\0"} and not path.is_absolute() and ".." not in path.parts


def mistake(folder: Path) -> str:
    """Describe the damage of a folder that a step of a run was copied to; empty if there is none, or it is not such a folder.

    Files are read once per process while their sizes and times stay. The Hub's cache is not compared with a record that
    was uploaded with the files: it consists of links, and of some of the files only.
    """
    if is_hub_snapshot(folder):
        return ""
    if not os.path.lexists(folder / RECORD):
        return f"{RECORD} is missing" if _is_in_a_run(folder.resolve()) else ""
    seen = [path.lstat() for path in sorted(folder.rglob("*"))]
    return _mistake(folder.resolve(), tuple((info.st_size, info.st_mtime_ns, info.st_ino) for info in seen))


def is_hub_snapshot(folder: Path) -> bool:
    """Say whether a folder is a model in the Hub's cache."""
    whole = folder.resolve()
    return whole.parent.name == "snapshots" and whole.parent.parent.name.startswith("models--")


def refuse_damaged(folder: Path) -> None:
    """Refuse a model folder that came from a run and has changed since."""
    wrong = mistake(folder)
    if wrong:
        hint = f"take the folder from its run again, or, if you changed it yourself, delete its {RECORD}"
        raise ModelRefused(f"{shown_path(folder)}: {wrong} ({hint})")


@lru_cache(maxsize=64)
def _mistake(folder: Path, seen: tuple[tuple[int, int, int], ...]) -> str:
    record = read_record(folder)
    if record is None:
        return f"{RECORD} is damaged"
    damage, added, _ = compare(folder, record)
    return damage or (f"{added} was added later" if added else "")


def _is_in_a_run(folder: Path) -> bool:
    """Say whether a folder is where a run keeps a finished step."""
    manifests = [(parent, content_of(parent / MANIFEST)) for parent in folder.parents[:3]]
    return any(
        content and as_manifest(content) and ".work" not in folder.relative_to(parent).parts for parent, content in manifests
    )


def _has_mappings(data: Mapping[str, Any]) -> bool:
    """Say whether the optional parts of a manifest or record are mappings."""
    return all(isinstance(data.get(key, {}), dict) for key in ("arithmetic", "data", "versions", "machine"))


def _is_record(data: Mapping[str, Any]) -> bool:
    """Say whether data has the structure of a step's record."""
    return (
        all(type(data.get(key)) is kind for key, kind in _RECORD_TYPES.items())
        and data["schema"] == SCHEMA
        and _has_mappings(data)
        and all(
            isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
            for entry in data["files"].values()
        )
    )
