"""The run folder. A step is finished if and only if its ``step.json`` says so and its files are whole.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/<step>/…, <step>/step.json         finished steps
    RUN/.work/                             work in progress; emptied whenever a run starts
    RUN/.lock                              held while a process works on the run

A step is made in ``.work``, its ``step.json`` is written last, and one rename publishes it. Steps describe themselves:
a damaged manifest is written again from them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from petkit.errors import DiskRefused, IncompleteRun, PetkitError, RunConflict, shown_path
from petkit.events import Event
from petkit.runs.fingerprint import Inputs, changes, fingerprint
from petkit.runs.layout import CHECKPOINTS, STEP_FOLDERS
from petkit.runs.provenance import machine, now, package_versions, reported_by
from petkit.storage.atomic import append_line, disk_refusal, is_left_over, naming, sync, sync_tree, write_text
from petkit.storage.checksum import is_checked_yaml, json_with_checksum, log_line, yaml_with_checksum
from petkit.storage.fault_points import crash_point
from petkit.storage.integrity import (
    MANIFEST,
    RECORD,
    SCHEMA,
    Record,
    as_manifest,
    content_of,
    damage,
    is_link,
    is_looked_for,
    read_record,
    sha256,
    stays_inside,
    unlisted_files,
)
from petkit.storage.links import refuse_links_at, refuse_links_to

# The contents of a run folder, as its manifest names them (``kind``; missing in a plain run) and as messages do.
RUN, ADAPTED_MODEL, PRETRAINED_PROMPT = "run", "adapted model", "pretrained prompt"
_KIND_NAMES = {RUN: "a run", ADAPTED_MODEL: "an adapted model", PRETRAINED_PROMPT: "a pretrained prompt"}
CONFIG, EVENTS, LOCK, WORK = "config.resolved.yaml", "events.jsonl", ".lock", ".work"


@dataclass(frozen=True)
class Status:
    """The state of a step: finished, stale (made with other settings), damaged or missing; ``why`` in words."""

    state: Literal["finished", "stale", "damaged", "missing"]
    why: str = ""


class RunStore:
    """One run folder. Reading needs no lock; publishing happens inside :meth:`locked`.

    Args:
        folder: need not exist yet.
        kind: what it contains, or will.
    """

    def __init__(self, folder: str | Path, kind: str = RUN) -> None:
        self.folder, self.kind = Path(folder), kind
        self.shown, self.kind_name = shown_path(self.folder), _KIND_NAMES[kind]
        self._verified: set[str] = set()  # checksums of records whose files were read and found whole

    def status(self, step: str, inputs: Inputs, unknown: Sequence[str] = (), *, hashes: bool = True) -> Status:
        """Compare a step's record with its files, and with the inputs it would be made from now.

        Args:
            unknown: names of inputs that are about to be made again; they are assumed unchanged.
            hashes: read all its files (once per process); otherwise compare sizes only.

        Raises:
            Unreadable: a file cannot be read.
            RunConflict: its folder contains something that would be destroyed or read with it.
        """
        refuse_links_to(self.folder, step)
        refuse_links_to(self.folder, f"{CHECKPOINTS}/{step}")  # removed once the step is finished
        record = self._record(step)
        if record is None:
            if os.path.lexists(self.folder / step / RECORD):
                return Status("damaged", f"{RECORD} is damaged")
            return Status("missing", f"{RECORD} is missing" if os.path.isdir(self.folder / step) else "not done yet")  # noqa: PTH112
        found = self._damage(step, record, hashes=hashes)
        if found:
            return Status("damaged", found)
        self._refuse_unlisted_files(step, record)
        before = record.inputs
        now_known = {**inputs, **{name: before[name] for name in unknown if name in before}}
        if record.fingerprint != fingerprint(now_known):
            return Status("stale", changes(before, now_known) or "made by another version of petkit")
        return Status("finished")

    def path(self, step: str) -> Path:
        """Return the folder of a finished step, after verifying every file in it.

        Raises:
            IncompleteRun: not finished, or damaged.
            Unreadable: a file cannot be read.
            RunConflict: its folder contains a file that petkit did not write and might read, or is a link.
        """
        refuse_links_to(self.folder, step)
        record = self._record(step)
        if record is None and not os.path.lexists(self.folder / step / RECORD):
            raise IncompleteRun(f"{self.shown}: {step} is not finished")
        found = RECORD if record is None else self._damage(step, record, hashes=True)
        if record is None or found:
            hint = f"petkit run makes it again; petkit verify {self.shown} checks the rest"
            raise IncompleteRun(f"{self.shown}: {step} is damaged: {found} ({hint})")
        self._refuse_unlisted_files(step, record)
        return self.folder / step

    def read(self, step: str, name: str) -> dict[str, Any]:
        """Return the content of a JSON file of a finished step, as :meth:`path` finds it."""
        content: dict[str, Any] = json.loads((self.path(step) / name).read_text(encoding="utf-8"))
        return content

    def content(self, step: str) -> str | None:
        """Return the hash of all files of a finished step, or None."""
        record = self._record(step)
        return None if record is None else fingerprint({name: digest for name, (_, digest) in record.files.items()})

    def inputs(self, step: str) -> dict[str, Any]:
        """Return the inputs a finished step was made from (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record.inputs)

    def facts(self, step: str) -> dict[str, Any]:
        """Return the figures recorded with a finished step (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record.facts)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or an empty mapping before the first run.

        Where a manifest was damaged or lost, what the finished steps record comes in its place, with ``recovered`` saying why.

        Raises:
            RunConflict: the folder contains something other than a petkit run.
            Unreadable: the manifest cannot be read.
        """
        content = content_of(self.folder / MANIFEST)
        linked = is_link(self.folder / MANIFEST)
        manifest = None if content is None or linked else as_manifest(content)
        if manifest is not None and manifest.get("schema") == SCHEMA:
            return manifest
        records = [] if manifest is not None else [self._record(step) for step in self.steps((*STEP_FOLDERS, CHECKPOINTS))]
        known = [record for record in records if record is not None]
        if known:
            return {"schema": SCHEMA, **reported_by(known), "recovered": "is missing" if content is None else "was damaged"}
        if content is None and not linked:
            return {}
        raise RunConflict(f"{self.shown}: {MANIFEST} was not written by this version of petkit (choose another --out)")

    @property
    def content_name(self) -> str:
        """What the folder contains, as messages name it."""
        return _KIND_NAMES.get(str(self.manifest().get("kind", RUN)), "something else")

    def is_described(self) -> bool:
        """Say whether the manifest and the resolved pipeline are whole."""
        return "recovered" not in self.manifest() and is_checked_yaml(content_of(self.folder / CONFIG) or b"")

    def steps(self, places: Sequence[str] = STEP_FOLDERS) -> list[str]:
        """Return the names of all steps (or checkpoints) that have a record, whole or damaged, sorted."""
        found = (Path(at) for place in places for at, _, names in os.walk(self.folder / place) if RECORD in names)
        return sorted(folder.relative_to(self.folder).as_posix() for folder in found)

    def refuse_foreign(self) -> None:
        """Refuse a folder that petkit must not write into.

        Raises:
            RunConflict: it is a file, or contains something other than a petkit run of this kind.
        """
        if not os.path.exists(self.folder):  # noqa: PTH110 (an impossible name is reported when it is made)
            return
        if not self.folder.is_dir():
            raise RunConflict(f"{self.shown}: is a file, not a folder (choose another --out)")
        manifest = self.manifest()
        if manifest and manifest.get("kind", RUN) != self.kind:
            raise RunConflict(f"{self.shown}: contains {self.content_name}, not {self.kind_name} (choose another --out)")
        if not manifest and not all(_is_before_manifest(entry.name) for entry in self.folder.iterdir()):
            raise RunConflict(f"{self.shown}: is not empty and does not contain a petkit run (choose another --out)")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run folder for this process; the system frees the lock when the process dies.

        Raises:
            RunConflict: another process uses it, it cannot be written, or it is not a run folder.
        """
        self.refuse_foreign()
        refuse_links_at(self.folder, (MANIFEST, CONFIG, EVENTS, LOCK, WORK))
        try:
            crash_point("lock: before")
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise RunConflict(f"{self.shown}: in use by another process (wait for it, or choose another --out)") from error
        except OSError as error:
            raise RunConflict(f"{self.shown}: cannot be written: {error.strerror}") from error
        try:
            crash_point("lock: held")
            self._sweep()
            crash_point("lock: swept")
            yield
        except Exception as error:
            refused = None if isinstance(error, PetkitError) else disk_refusal(error, self.folder)
            if refused is None:
                raise
            hint = "finished steps are kept; fix the problem and rerun the same command"
            raise DiskRefused(f"{self.shown}: {refused} ({hint})") from error
        finally:
            shutil.rmtree(self.folder / WORK, ignore_errors=True)
            lock.release()

    def scratch(self, name: str) -> Path:
        """Return a folder for this process's temporary files; gone when the lock is released."""
        folder = self.folder / WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def publishing(self, step: str, inputs: Inputs, facts: dict[str, Any]) -> Iterator[Path]:
        """Yield an empty folder to fill; on a clean exit it becomes the finished step, whole or not at all.

        ``facts`` may be filled until then. An earlier step of this name is replaced.

        Raises:
            RunConflict: its place leads out of the run folder.
        """
        refuse_links_to(self.folder, step)
        work = Path(tempfile.mkdtemp(dir=self.scratch("steps")))
        try:
            crash_point("publish: begun")
            with naming(self.folder / step):
                yield work
            crash_point("publish: filled")
            sync_tree(work)
            crash_point("publish: files on disk")
            files = {
                path.relative_to(work).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for path in sorted(work.rglob("*"))
                if path.is_file()
            }
            record = {
                "schema": SCHEMA, "kind": self.kind, "step": step, "fingerprint": fingerprint(inputs), "files": files,
                "inputs": dict(inputs), "facts": facts, "finished": now(), "versions": package_versions(), "machine": machine(),
            }  # fmt: skip
            write_text(work / RECORD, json_with_checksum(record))
            work.chmod(0o755)
            crash_point("publish: recorded")
            self._put(work, self.folder / step)
            crash_point("publish: done")
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _put(self, work: Path, target: Path) -> None:
        """Rename finished work to its place; if that fails, what was there before comes back."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = None
        if os.path.lexists(target):
            # A folder cannot replace a full one; the old one is moved, and removed once the new one is on disk.
            old = Path(tempfile.mkdtemp(dir=self.scratch("replaced"))) / "old"
            crash_point("publish: before the old step goes")
            os.replace(target, old)
        try:
            if old is not None:
                crash_point("publish: old step aside")
            crash_point("publish: before rename")
            os.replace(work, target)
        except BaseException:
            if old is not None:
                os.replace(old, target)
            raise
        crash_point("publish: renamed")
        for parent in target.parents:
            sync(parent)
            if parent == self.folder:
                break
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``manifest.json`` atomically."""
        write_text(self.folder / MANIFEST, json_with_checksum({"schema": SCHEMA, **manifest}))

    def write_text(self, name: str, text: str) -> None:
        """Write a small YAML file at the top of the run folder atomically, with a checksum."""
        write_text(self.folder / name, yaml_with_checksum(text))

    def log(self, event: Event) -> None:
        """Append an event to ``events.jsonl``, for people to read, if there is room."""
        append_line(self.folder / EVENTS, log_line({"time": now(), "event": type(event).__name__, **asdict(event)}))

    def _record(self, step: str) -> Record | None:
        record = read_record(self.folder / step) if stays_inside(step) else None
        return record if record is not None and record.step == step else None

    def _damage(self, step: str, record: Record, *, hashes: bool) -> str:
        hashes = hashes and record.checksum not in self._verified
        found = damage(self.folder / step, record, hashes=hashes)
        if hashes and not found:
            self._verified.add(record.checksum)
        return found

    def _refuse_unlisted_files(self, step: str, record: Record) -> None:
        for name in unlisted_files(self.folder / step, record):
            if is_looked_for(name):
                why = f"{step}/{name} was not written by petkit, and might be read with the other files"
                raise RunConflict(f"{self.shown}: {why} (move it out of the run folder)")

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        for entry in self.folder.iterdir():
            if is_left_over(entry.name, MANIFEST) or is_left_over(entry.name, CONFIG):
                entry.unlink()


def _is_before_manifest(name: str) -> bool:
    """Say whether a run killed before it wrote its manifest can have left this."""
    return name in (LOCK, WORK) or is_left_over(name, MANIFEST)
