"""Folders that can be proven whole: a record of the size and hash of every file, under a seal of its own.

    FOLDER/step.json     written last; a file that is not as it says was damaged, or changed by hand

Every finished step of a run has one, and keeps it where its folder is copied to.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from petkit.errors import ModelRefused, PetkitError, shown_path

SCHEMA = 1
RECORD, MANIFEST = "step.json", "manifest.json"
# Loaders look for files of these kinds by name: one that is not recorded would be read with those that are.
_LOOKED_FOR = (".jinja", ".json", ".model", ".parquet", ".py", ".safetensors", ".txt")
_SEAL = '"seal": "{}"'
_MAPPINGS = ("arithmetic", "data", "versions", "machine")  # of manifests and records, where they have them


class Unreadable(PetkitError):
    """The system refuses to read a file. That it is damaged is not known, so nothing is made anew for it."""


@dataclass(frozen=True)
class Record:
    """What a finished step says of itself.

    Attributes:
        files: name → bytes and SHA-256.
        seal: SHA-256 of the record itself; another one is another step, or another making of it.
        data: everything, as it was written.
    """

    step: str
    fingerprint: str
    inputs: dict[str, Any]
    files: dict[str, tuple[int, str]]
    facts: dict[str, Any]
    seal: str
    data: dict[str, Any]


def sealed(data: Mapping[str, Any]) -> str:
    """Return data as JSON that ends with the hash of all its other bytes."""
    text = json.dumps({**data, "seal": ""}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    before, _, after = text.rpartition(_SEAL.format(""))
    return before + _SEAL.format(hashlib.sha256(text.encode()).hexdigest()) + after


def unsealed(content: bytes) -> dict[str, Any] | None:
    """Return what :func:`sealed` wrote, its seal with it; None if a single bit of it has changed, or it never could."""
    try:
        text = content.decode("utf-8")
        data = json.loads(text, object_pairs_hook=_each_key_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    seal = data.get("seal") if isinstance(data, dict) else None
    if not isinstance(seal, str):
        return None
    before, _, after = text.rpartition(_SEAL.format(seal))
    as_it_was = before + _SEAL.format("") + after
    return data if hashlib.sha256(as_it_was.encode()).hexdigest() == seal else None


def as_manifest(content: bytes) -> dict[str, Any] | None:
    """Return what a manifest says, of whatever version; None if it is damaged, or something else that is sealed."""
    data = unsealed(content)
    if data is None or "step" in data or type(data.get("schema")) is not int or not _has_mappings(data):
        return None
    return data


def checked_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as a line of JSON with a checksum."""
    text = json.dumps(entry, ensure_ascii=False)
    return json.dumps({**entry, "check": f"{zlib.crc32(text.encode()):08x}"}, ensure_ascii=False)


def is_checked_line(line: bytes) -> bool:
    """Say whether a line is as :func:`checked_line` wrote it."""
    try:
        entry = json.loads(line)
        check = entry.pop("check")
        return bool(check == f"{zlib.crc32(json.dumps(entry, ensure_ascii=False).encode()):08x}")
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return False


def content_of(path: Path) -> bytes | None:
    """Return what a file holds; None if there is none.

    Raises:
        Unreadable: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no file has such a name
            return None
        raise _refused(path, error) from None


def is_link(path: Path) -> bool:
    """Say whether a name is that of a link; one that no file can have is not."""
    return os.path.islink(path)  # noqa: PTH114 (a Path raises where the name is too long for the system)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        Unreadable: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _refused(path, error) from None


def read_record(folder: Path) -> Record | None:
    """Return the record in a folder; None if there is none, or none that is whole."""
    content = content_of(folder / RECORD)
    data = None if content is None or is_link(folder / RECORD) else unsealed(content)
    if data is None or not _is_record(data):
        return None
    files = {name: (entry["bytes"], entry["sha256"]) for name, entry in data["files"].items()}
    return Record(data["step"], data["fingerprint"], data["inputs"], files, data["facts"], data["seal"], data)


def damage(folder: Path, record: Record, *, hashes: bool = True) -> str:
    """Say what is wrong with the first file that is not as recorded; empty if all are.

    Args:
        hashes: read every file; else look at sizes only.

    Raises:
        Unreadable: a file cannot be read.
    """
    for name, (size, digest) in record.files.items():
        if not stays_inside(name):
            return f"{RECORD} names {name!r}, which is outside of the folder"
        link = next((part for part in _parts(name) if is_link(folder / part)), None)
        if link is not None:
            return f"{link} is a link"
        try:
            found = (folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no possible name
            return f"{name} is missing"
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return f"{name} is missing"
            raise _refused(folder / name, error) from None
        if not stat.S_ISREG(found.st_mode):
            return f"{name} is no file"
        if found.st_size != size:
            return f"{name} has {found.st_size} bytes instead of {size}"
        if hashes and sha256(folder / name) != digest:
            return f"{name} has changed"
    return ""


def unlisted_files(folder: Path, record: Record) -> list[str]:
    """Return the files in a folder that its record does not name."""
    found = []
    for place, folders, names in os.walk(folder):
        inner = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [(inner / name).as_posix() for name in (*names, *links)]
    return sorted({*found} - {*record.files, RECORD})


def is_looked_for(name: str) -> bool:
    """Say whether a loader might read a file of this name beside those it was given."""
    path = PurePosixPath(name)
    # Several tools write a manifest.json beside models, and nobody reads it there.
    return not path.name.startswith(".") and path.name != MANIFEST and path.suffix.lower() in _LOOKED_FOR


def stays_inside(name: str) -> bool:
    """Say whether a name leads to something in the folder it belongs to, on every system."""
    path = PurePosixPath(name)
    return bool(name) and not {*name} & {"\\", ":", "\0"} and not path.is_absolute() and ".." not in path.parts


def mistake(folder: Path) -> str:
    """Say what speaks against reading a folder that a step of a run was copied to; empty if nothing, or if it is none.

    Files are read once per process, as long as their sizes and times stay. The cache of the hub is not compared with a
    record that was uploaded with the files: it is made of links, and of some of the files only.

    Raises:
        Unreadable: a file cannot be read.
    """
    if is_hub_snapshot(folder):
        return ""
    if not os.path.lexists(folder / RECORD):
        return f"{RECORD} is missing" if _is_in_a_run(folder.resolve()) else ""
    seen = [path.lstat() for path in sorted(folder.rglob("*"))]
    return _mistake(folder.resolve(), tuple((info.st_size, info.st_mtime_ns, info.st_ino) for info in seen))


def is_hub_snapshot(folder: Path) -> bool:
    """Say whether a folder has the place of a model in the hub's cache."""
    whole = folder.resolve()
    return whole.parent.name == "snapshots" and whole.parent.parent.name.startswith("models--")


def refuse_damaged(folder: Path) -> None:
    """Refuse a model folder that came from a run and is no longer as it was there.

    Raises:
        ModelRefused: with the cure.
        Unreadable: a file cannot be read.
    """
    wrong = mistake(folder)
    if wrong:
        hint = f"take the folder from its run again, or, if you changed it yourself, delete its {RECORD}"
        raise ModelRefused(f"{shown_path(folder)}: {wrong} ({hint})")


@lru_cache(maxsize=64)
def _mistake(folder: Path, seen: tuple[tuple[int, int, int], ...]) -> str:
    record = read_record(folder)
    if record is None:
        return f"{RECORD} is damaged"
    added = [name for name in unlisted_files(folder, record) if is_looked_for(name)]
    return damage(folder, record) or (f"{added[0]} was put in by others" if added else "")


def _is_in_a_run(folder: Path) -> bool:
    """Say whether a folder has the place of a finished step."""
    manifests = [(parent, content_of(parent / MANIFEST)) for parent in [*folder.parents][:3]]
    return any(
        content and as_manifest(content) and ".work" not in folder.relative_to(parent).parts for parent, content in manifests
    )


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key is written twice")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that petkit writes")


def _has_mappings(data: Mapping[str, Any]) -> bool:
    return all(isinstance(data.get(key, {}), dict) for key in _MAPPINGS)


def _is_record(data: Mapping[str, Any]) -> bool:
    """Say whether data is of the shape that a finished step writes."""
    schema, files = data.get("schema"), data.get("files")
    texts = all(isinstance(data.get(key), str) for key in ("step", "fingerprint"))
    mappings = all(isinstance(data.get(key), dict) for key in ("inputs", "facts")) and _has_mappings(data)
    if type(schema) is not int or schema != SCHEMA or not texts or not mappings or not isinstance(files, dict):
        return False
    return all(
        isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def _parts(name: str) -> list[str]:
    """Return a file's name and those of the folders it lies in."""
    path = PurePosixPath(name)
    return [path.as_posix(), *(parent.as_posix() for parent in path.parents if parent.name)]


def _refused(path: Path, error: OSError) -> Unreadable:
    hint = "nothing was changed: mend the disk or the permissions and try again"
    return Unreadable(f"{shown_path(path)}: cannot be read: {error.strerror} ({hint})")
