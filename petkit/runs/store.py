"""The run folder. A step is finished if and only if its ``step.json`` says so and its files are whole.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/<step>/…, <step>/step.json         finished steps
    RUN/.work/                             work in progress; emptied whenever a run starts
    RUN/.lock                              held while a process works on the run

A step is made in ``.work``, its ``step.json`` is written last, and one rename publishes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from filelock import FileLock, Timeout

from petkit.errors import IncompleteRun, RunConflict, shown_path
from petkit.events import Event
from petkit.runs.fingerprint import Inputs, changes, fingerprint
from petkit.runs.provenance import machine, now, package_versions

SCHEMA = 1
STEP_FILE = "step.json"
# What a run folder can hold, as its manifest says (``kind``; a plain run says nothing) and as people are told.
RUN, ADAPTED_MODEL, PRETRAINED_PROMPT = "run", "adapted model", "pretrained prompt"
_TOLD = {RUN: "a run", ADAPTED_MODEL: "an adapted model", PRETRAINED_PROMPT: "a pretrained prompt"}
# What a run killed before its manifest was written can leave behind.
_MAPPINGS = ("arithmetic", "data", "versions", "machine")  # of a manifest
_BEFORE_MANIFEST = (".lock", ".work", ".manifest.json.tmp")


@dataclass(frozen=True)
class Status:
    """How a step stands: finished, stale (made by other settings), damaged or missing; ``why`` in words."""

    state: Literal["finished", "stale", "damaged", "missing"]
    why: str = ""


class RunStore:
    """One run folder. Reading needs no lock; publishing happens inside :meth:`locked`.

    Args:
        folder: need not exist yet.
        kind: what it holds, or will.
    """

    def __init__(self, folder: str | Path, kind: str = RUN) -> None:
        self.folder, self.kind = Path(folder), kind
        self.shown = shown_path(self.folder)
        self._verified: set[str] = set()

    # -- reading ---------------------------------------------------------------------------------

    def status(self, step: str, inputs: Inputs, unknown: Sequence[str] = ()) -> Status:
        """Compare a step's record with the inputs it would be made from now (sizes are checked, not hashes).

        Args:
            unknown: names of inputs that are about to be made anew; they are taken to be as before.
        """
        record = self._record(step)
        if record is None:
            return Status("missing", "not done yet")
        damage = self._damage(step, record, hashes=False)
        if damage:
            return Status("damaged", damage)
        before = record["inputs"]
        now_known = {**inputs, **{name: before[name] for name in unknown if name in before}}
        if record["fingerprint"] != fingerprint(now_known):
            return Status("stale", changes(before, now_known) or "made by another version of petkit")
        return Status("finished")

    def path(self, step: str) -> Path:
        """Return the folder of a finished step, after proving that every file in it is whole.

        Raises:
            IncompleteRun: not finished, or damaged.
        """
        record = self._record(step)
        if record is None:
            raise IncompleteRun(f"{self.shown}: {step} is not finished")
        if step not in self._verified:
            damage = self._damage(step, record, hashes=True)
            if damage:
                raise IncompleteRun(f"{self.shown}: {step} is damaged: {damage} (delete the folder {step} and run again)")
            self._verified.add(step)
        return self.folder / step

    def content(self, step: str) -> str | None:
        """Return the hash of everything a finished step holds, or None."""
        record = self._record(step)
        return None if record is None else fingerprint({name: entry["sha256"] for name, entry in record["files"].items()})

    def inputs(self, step: str) -> dict[str, Any]:
        """Return the inputs a finished step was made from (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record["inputs"])

    def facts(self, step: str) -> dict[str, Any]:
        """Return what a finished step told of its making (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record["facts"])

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or an empty mapping before the first run.

        Raises:
            RunConflict: the folder holds something that is no petkit run.
        """
        path = self.folder / "manifest.json"
        if not os.path.isfile(path):  # noqa: PTH113 (as below)
            return {}
        manifest = _read_json(path)
        if manifest is None or not _is_schema(manifest) or not all(isinstance(manifest.get(key, {}), dict) for key in _MAPPINGS):
            raise RunConflict(f"{self.shown}: manifest.json was not written by this version of petkit (choose another --out)")
        return manifest

    @property
    def holds(self) -> str:
        """What the folder holds, as people are told."""
        return _TOLD.get(str(self.manifest().get("kind", RUN)), "something else")

    # -- writing ---------------------------------------------------------------------------------

    def refuse_foreign(self) -> None:
        """Refuse a folder that is not this program's to write into.

        Raises:
            RunConflict: it is a file, or holds something that is no petkit run, or one of another kind.
        """
        if not os.path.exists(self.folder):  # noqa: PTH110 (no such name: told when it is made)
            return
        if not self.folder.is_dir():
            raise RunConflict(f"{self.shown}: is a file, not a folder (choose another --out)")
        manifest = self.manifest()
        kind = manifest.get("kind", RUN)
        if manifest and kind != self.kind:
            told = f"holds {self.holds}, not {_TOLD[self.kind]}"
            raise RunConflict(f"{self.shown}: {told} (choose another --out)")
        if not manifest and any(entry.name not in _BEFORE_MANIFEST for entry in self.folder.iterdir()):
            raise RunConflict(f"{self.shown}: is not empty and holds no petkit run (choose another --out)")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this process; the system frees the lock when the process dies.

        Raises:
            RunConflict: another process works on it, it cannot be written, or it is no run folder.
        """
        self.refuse_foreign()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise RunConflict(f"{self.shown}: in use by another process (wait for it, or choose another --out)") from None
        except OSError as error:
            raise RunConflict(f"{self.shown}: cannot be written: {error.strerror}") from None
        try:
            shutil.rmtree(self.folder / ".work", ignore_errors=True)
            yield
        finally:
            shutil.rmtree(self.folder / ".work", ignore_errors=True)
            lock.release()

    def scratch(self, name: str) -> Path:
        """Return a folder for this process's temporary files; gone when the lock is released."""
        folder = self.folder / ".work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def publishing(self, step: str, inputs: Inputs, facts: dict[str, Any]) -> Iterator[Path]:
        """Yield an empty folder to fill; on a clean exit it becomes the finished step, whole or not at all.

        ``facts`` may be filled until then. What was published before under this name is replaced.
        """
        work = Path(tempfile.mkdtemp(dir=self.scratch("steps")))
        yield work
        files = {}
        for path in sorted(entry for entry in work.rglob("*") if entry.is_file()):
            _sync(path)
            files[path.relative_to(work).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        record = {
            "schema": SCHEMA, "step": step, "fingerprint": fingerprint(inputs), "inputs": dict(inputs), "files": files,
            "facts": facts, "finished": now(), "versions": package_versions(), "machine": machine(),
        }  # fmt: skip
        write_json(work / STEP_FILE, record)
        target = self.folder / step
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            # A folder cannot be renamed over a full one; the old one steps aside and goes with .work.
            os.replace(target, Path(tempfile.mkdtemp(dir=self.scratch("replaced"))) / "old")
        work.chmod(0o755)
        os.replace(work, target)
        _sync(target.parent)
        self._verified.discard(step)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``manifest.json`` atomically."""
        write_json(self.folder / "manifest.json", {"schema": SCHEMA, **manifest})

    def write_text(self, name: str, text: str) -> None:
        """Write a small file at the top of the run folder atomically."""
        write_text(self.folder / name, text)

    def log(self, event: Event) -> None:
        """Append an event to ``events.jsonl``."""
        entry = {"time": now(), "event": type(event).__name__, **asdict(event)}
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")

    # -- inside ----------------------------------------------------------------------------------

    def _record(self, step: str) -> dict[str, Any] | None:
        record = _read_json(self.folder / step / STEP_FILE)
        return record if record is not None and record.get("step") == step and _is_record(record) else None

    def _damage(self, step: str, record: dict[str, Any], *, hashes: bool) -> str:
        for name, entry in record["files"].items():
            path = self.folder / step / name
            if not os.path.isfile(path):  # noqa: PTH113 (a Path raises where the name is too long for the system)
                return f"{name} is missing"
            if path.stat().st_size != entry["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
            if hashes and sha256(path) != entry["sha256"]:
                return f"{name} has changed"
        return ""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that the file is there whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    os.replace(temporary, path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key is written twice")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that petkit writes")


def _is_schema(data: Mapping[str, Any]) -> bool:
    return type(data.get("schema")) is int and data["schema"] == SCHEMA


def _is_record(data: Mapping[str, Any]) -> bool:
    """Say whether data is what :meth:`RunStore.publishing` writes, naming no file outside of the step."""
    files = data.get("files")
    if not _is_schema(data) or not isinstance(data.get("fingerprint"), str) or not isinstance(files, dict):
        return False
    return all(isinstance(data.get(key), dict) for key in ("inputs", "facts")) and all(starmap(_is_file, files.items()))


def _is_file(name: str, entry: Any) -> bool:
    path = PurePosixPath(name)
    inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    known = isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
    return inside and known


def _sync(path: Path) -> None:
    """Force a file or folder to disk, where the system can."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
