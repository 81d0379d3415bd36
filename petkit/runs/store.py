"""The run folder. A step is finished if and only if its ``step.json`` says so and its files are whole.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/<step>/…, <step>/step.json         finished steps
    RUN/.work/                             work in progress; emptied whenever a run starts
    RUN/.lock                              held while a process works on the run

A step is made in ``.work``, its ``step.json`` is written last, and one rename publishes it. Steps speak for themselves:
a manifest that was damaged is written anew from them.
"""

from __future__ import annotations

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
from petkit.storage.atomic import (
    append_line,
    disk_refusal,
    is_left_over,
    is_summed,
    naming,
    summed,
    sync,
    sync_tree,
    write_text,
)
from petkit.storage.fault_points import crash_point
from petkit.storage.integrity import (
    MANIFEST,
    RECORD,
    SCHEMA,
    Record,
    as_manifest,
    checked_line,
    content_of,
    damage,
    is_link,
    is_looked_for,
    read_record,
    sealed,
    sha256,
    stays_inside,
    unlisted_files,
)
from petkit.storage.links import refuse_links_at, refuse_links_to

# What a run folder can hold, as its manifest says (``kind``; a plain run says nothing) and as people are told.
RUN, ADAPTED_MODEL, PRETRAINED_PROMPT = "run", "adapted model", "pretrained prompt"
_TOLD = {RUN: "a run", ADAPTED_MODEL: "an adapted model", PRETRAINED_PROMPT: "a pretrained prompt"}
CONFIG, EVENTS, LOCK, WORK = "config.resolved.yaml", "events.jsonl", ".lock", ".work"


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
        self.shown, self.told = shown_path(self.folder), _TOLD[kind]
        self._proven: set[str] = set()  # seals of records whose files were read and found whole

    # -- reading ---------------------------------------------------------------------------------

    def status(self, step: str, inputs: Inputs, unknown: Sequence[str] = (), *, prove: bool = True) -> Status:
        """Compare a step's record with its files, and with the inputs it would be made from now.

        Args:
            unknown: names of inputs that are about to be made anew; they are taken to be as before.
            prove: read all its files (once per process); else look at their sizes only.

        Raises:
            Unreadable: a file cannot be read.
            RunConflict: there is something in its folder that making it anew would destroy, or that would be read with it.
        """
        refuse_links_to(self.folder, step)
        refuse_links_to(self.folder, f"{CHECKPOINTS}/{step}")  # removed once the step is finished
        record = self._record(step)
        if record is None:
            if os.path.lexists(self.folder / step / RECORD):
                return Status("damaged", f"{RECORD} is damaged")
            return Status("missing", f"{RECORD} is missing" if os.path.isdir(self.folder / step) else "not done yet")  # noqa: PTH112
        found = self._damage(step, record, hashes=prove)
        if found:
            return Status("damaged", found)
        self._refuse_unlisted_files(step, record)
        before = record.inputs
        now_known = {**inputs, **{name: before[name] for name in unknown if name in before}}
        if record.fingerprint != fingerprint(now_known):
            return Status("stale", changes(before, now_known) or "made by another version of petkit")
        return Status("finished")

    def path(self, step: str) -> Path:
        """Return the folder of a finished step, after proving that every file in it is whole.

        Raises:
            IncompleteRun: not finished, or damaged.
            Unreadable: a file cannot be read.
            RunConflict: there is a file in its folder that petkit did not write and might read, or it lies elsewhere.
        """
        refuse_links_to(self.folder, step)
        record = self._record(step)
        if record is None and not os.path.lexists(self.folder / step / RECORD):
            raise IncompleteRun(f"{self.shown}: {step} is not finished")
        found = RECORD if record is None else self._damage(step, record, hashes=True)
        if record is None or found:
            hint = f"petkit run makes it anew; petkit verify {self.shown} looks for more"
            raise IncompleteRun(f"{self.shown}: {step} is damaged: {found} ({hint})")
        self._refuse_unlisted_files(step, record)
        return self.folder / step

    def content(self, step: str) -> str | None:
        """Return the hash of everything a finished step holds, or None."""
        record = self._record(step)
        return None if record is None else fingerprint({name: digest for name, (_, digest) in record.files.items()})

    def inputs(self, step: str) -> dict[str, Any]:
        """Return the inputs a finished step was made from (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record.inputs)

    def facts(self, step: str) -> dict[str, Any]:
        """Return what a finished step told of its making (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else dict(record.facts)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or an empty mapping before the first run.

        A run whose manifest was damaged or lost is known by its finished steps. What these tell comes back in its place,
        with ``recovered`` saying why.

        Raises:
            RunConflict: the folder holds something that is no petkit run.
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
    def holds(self) -> str:
        """What the folder holds, as people are told."""
        return _TOLD.get(str(self.manifest().get("kind", RUN)), "something else")

    def is_described(self) -> bool:
        """Say whether the manifest and the resolved pipeline are there and whole."""
        return "recovered" not in self.manifest() and is_summed(content_of(self.folder / CONFIG) or b"")

    def steps(self, places: Sequence[str] = STEP_FOLDERS) -> list[str]:
        """Return the names of all steps (or of what is kept in other places) that have a record, whole or not, sorted."""
        found = (Path(at) for place in places for at, _, names in os.walk(self.folder / place) if RECORD in names)
        return sorted(folder.relative_to(self.folder).as_posix() for folder in found)

    # -- writing ---------------------------------------------------------------------------------

    def refuse_foreign(self) -> None:
        """Refuse a folder that is not this program's to write into.

        Raises:
            RunConflict: it is a file, holds something that is no petkit run, one of another kind, or links.
        """
        if not os.path.exists(self.folder):  # noqa: PTH110 (no possible name: told when it is made)
            return
        if not self.folder.is_dir():
            raise RunConflict(f"{self.shown}: is a file, not a folder (choose another --out)")
        manifest = self.manifest()
        if manifest and manifest.get("kind", RUN) != self.kind:
            raise RunConflict(f"{self.shown}: holds {self.holds}, not {self.told} (choose another --out)")
        if not manifest and not all(_is_before_manifest(entry.name) for entry in self.folder.iterdir()):
            raise RunConflict(f"{self.shown}: is not empty and holds no petkit run (choose another --out)")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this process; the system frees the lock when the process dies.

        Raises:
            RunConflict: another process works on it, it cannot be written, or it is no run folder.
        """
        self.refuse_foreign()
        refuse_links_at(self.folder, (MANIFEST, CONFIG, EVENTS, LOCK, WORK))
        try:
            crash_point("lock: before")
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise RunConflict(f"{self.shown}: in use by another process (wait for it, or choose another --out)") from None
        except OSError as error:
            raise RunConflict(f"{self.shown}: cannot be written: {error.strerror}") from None
        try:
            crash_point("lock: held")
            self._sweep()
            crash_point("lock: swept")
            yield
        except Exception as error:
            refused = None if isinstance(error, PetkitError) else disk_refusal(error, self.folder)
            if refused is None:
                raise
            hint = "what is finished is kept: mend that and run the same command again"
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

        ``facts`` may be filled until then. What was published before under this name is replaced.

        Raises:
            RunConflict: it would lie elsewhere.
        """
        refuse_links_to(self.folder, step)
        task = Path(tempfile.mkdtemp(dir=self.scratch("steps")))
        try:
            crash_point("publish: begun")
            with naming(self.folder / step):
                yield task
            crash_point("publish: filled")
            sync_tree(task)
            crash_point("publish: files on disk")
            files = {
                path.relative_to(task).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for path in sorted(task.rglob("*"))
                if path.is_file()
            }
            record = {
                "schema": SCHEMA, "kind": self.kind, "step": step, "fingerprint": fingerprint(inputs), "files": files,
                "inputs": dict(inputs), "facts": facts, "finished": now(), "versions": package_versions(), "machine": machine(),
            }  # fmt: skip
            write_text(task / RECORD, sealed(record))
            task.chmod(0o755)
            crash_point("publish: recorded")
            self._put(task, self.folder / step)
            crash_point("publish: done")
        finally:
            shutil.rmtree(task, ignore_errors=True)

    def _put(self, task: Path, target: Path) -> None:
        """Give finished work its name, for good; what had that name before comes back if it cannot be."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = None
        if os.path.lexists(target):
            # A folder cannot be renamed over a full one; the old one steps aside, and goes once the new one is on disk.
            old = Path(tempfile.mkdtemp(dir=self.scratch("replaced"))) / "old"
            crash_point("publish: before the old step goes")
            os.replace(target, old)
        try:
            if old is not None:
                crash_point("publish: old step aside")
            crash_point("publish: before rename")
            os.replace(task, target)
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
        write_text(self.folder / MANIFEST, sealed({"schema": SCHEMA, **manifest}))

    def write_text(self, name: str, text: str) -> None:
        """Write a small YAML file at the top of the run folder atomically; its last line is the hash of the others."""
        write_text(self.folder / name, summed(text))

    def log(self, event: Event) -> None:
        """Append an event to ``events.jsonl``, if there is room; nothing ever reads it but people."""
        entry = {"time": now(), "event": type(event).__name__, **asdict(event)}
        append_line(self.folder / EVENTS, checked_line(entry))

    # -- inside ----------------------------------------------------------------------------------

    def _record(self, step: str) -> Record | None:
        record = read_record(self.folder / step) if stays_inside(step) else None
        return record if record is not None and record.step == step else None

    def _damage(self, step: str, record: Record, *, hashes: bool) -> str:
        hashes = hashes and record.seal not in self._proven
        found = damage(self.folder / step, record, hashes=hashes)
        if hashes and not found:
            self._proven.add(record.seal)
        return found

    def _refuse_unlisted_files(self, step: str, record: Record) -> None:
        for name in unlisted_files(self.folder / step, record):
            if is_looked_for(name):
                why = f"{step}/{name} was not written by petkit, and might be read with the files beside it"
                raise RunConflict(f"{self.shown}: {why} (move it out of the run folder)")

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        for entry in self.folder.iterdir():
            if is_left_over(entry.name, MANIFEST) or is_left_over(entry.name, CONFIG):
                entry.unlink()


def _is_before_manifest(name: str) -> bool:
    """Say whether a run killed before its manifest was written can have left this."""
    return name in (LOCK, WORK) or is_left_over(name, MANIFEST)
