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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from petkit.errors import DiskRefused, IncompleteRun, PetkitError, RunConflict, shown_path
from petkit.events import Event
from petkit.runs.fingerprint import Inputs, changes, fingerprint
from petkit.runs.layout import CHECKPOINTS, STEP_FOLDERS
from petkit.runs.provenance import environment, machine, now, package_versions, reported_by
from petkit.storage import integrity
from petkit.storage.atomic import append_line, disk_refusal, follow_umask, is_left_over, naming, sync, sync_tree, write_text
from petkit.storage.checksum import is_checked_yaml, json_with_checksum, log_line, yaml_with_checksum
from petkit.storage.fault_points import crash_point
from petkit.storage.integrity import MANIFEST, RECORD, SCHEMA, Record, Unreadable, is_link, stays_inside

# The contents of a run folder, as its manifest names them (``kind``; missing in a plain run) and as messages do.
RUN, ADAPTED_MODEL, PRETRAINED_PROMPT = "run", "adapted model", "pretrained prompt"
_KIND_NAMES = {RUN: "a run", ADAPTED_MODEL: "an adapted model", PRETRAINED_PROMPT: "a pretrained prompt"}
CONFIG, EVENTS, LOCK, WORK = "config.resolved.yaml", "events.jsonl", ".lock", ".work"
# The folders in WORK (see :meth:`RunStore.scratch`).
Scratch = Literal["steps", "replaced", "checkpoints", "tokens", "sentences"]


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
        """
        record, found = self._examine(step, hashes=hashes)
        self._refuse_link(f"{CHECKPOINTS}/{step}")  # removed once the step is finished
        if found:
            return Status("damaged", found if record is not None else f"{found} is damaged")
        if record is None:
            return Status("missing", f"{RECORD} is missing" if os.path.isdir(self.folder / step) else "not done yet")  # noqa: PTH112
        before = record.inputs
        now_known = {**inputs, **{name: before[name] for name in unknown if name in before}}
        if record.fingerprint != fingerprint(now_known):
            return Status("stale", changes(before, now_known) or "made by another version of petkit")
        return Status("finished")

    def path(self, step: str) -> Path:
        """Return the folder of a finished step, after verifying every file in it."""
        record, found = self._examine(step, hashes=True)
        if found:
            hint = f"petkit run makes it again; petkit verify {self.shown} checks the rest"
            raise IncompleteRun(f"{self.shown}: {step} is damaged: {found} ({hint})")
        if record is None:
            raise IncompleteRun(f"{self.shown}: {step} is not finished")
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
        return {} if record is None else record.inputs

    def facts(self, step: str) -> dict[str, Any]:
        """Return the figures recorded with a finished step (empty if there is none)."""
        record = self._record(step)
        return {} if record is None else record.facts

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or an empty mapping before the first run.

        Where a manifest was damaged or lost, what the finished steps record comes in its place, with ``recovered`` saying why.
        """
        content = integrity.content_of(self.folder / MANIFEST)
        linked = is_link(self.folder / MANIFEST)
        manifest = None if content is None or linked else integrity.as_manifest(content)
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
        return "recovered" not in self.manifest() and is_checked_yaml(integrity.content_of(self.folder / CONFIG) or b"")

    def describe(self, facts: Mapping[str, Any], arithmetic: Mapping[str, Any], config: str, *, all_again: bool = False) -> None:
        """Write the manifest and the resolved pipeline; the date stays, and unless ``all_again`` the environment of the start.

        ``arithmetic`` is the present device and precision.
        """
        before = self.manifest()
        begun = environment(arithmetic, {} if all_again else before)
        self.write_manifest({**facts, "created": before.get("created", now()), **begun})
        write_text(self.folder / CONFIG, yaml_with_checksum(config))

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``manifest.json`` atomically."""
        write_text(self.folder / MANIFEST, json_with_checksum({"schema": SCHEMA, **manifest}))

    def steps(self, places: Sequence[str] = STEP_FOLDERS) -> list[str]:
        """Return the names of all steps (or checkpoints) that have a record, whole or damaged, sorted."""
        found = (Path(at) for place in places for at, _, names in os.walk(self.folder / place) if RECORD in names)
        return sorted(folder.relative_to(self.folder).as_posix() for folder in found)

    def refuse_foreign(self) -> None:
        """Refuse a folder that petkit must not write into: a file, a place in another run, or anything but a run of this kind."""
        outer = next((parent for parent in self.folder.absolute().resolve().parents if _is_run_folder(parent)), None)
        if outer is not None:
            raise RunConflict(f"{self.shown}: is inside the run folder {shown_path(outer)} (choose another --out)")
        if not os.path.exists(self.folder):  # noqa: PTH110 (an impossible name is reported when it is made)
            return
        if not self.folder.is_dir():
            raise RunConflict(f"{self.shown}: is a file, not a folder (choose another --out)")
        manifest = self.manifest()
        if manifest and manifest.get("kind", RUN) != self.kind:
            raise RunConflict(f"{self.shown}: contains {self.content_name}, not {self.kind_name} (choose another --out)")
        # A run killed before it wrote its manifest leaves some files.
        if not manifest and not all(
            path.name in (LOCK, WORK) or is_left_over(path.name, MANIFEST) for path in self.folder.iterdir()
        ):
            raise RunConflict(f"{self.shown}: is not empty and does not contain a petkit run (choose another --out)")
        if (added := foreign_work(self.folder)) is not None:
            why = f"{added} was not written by petkit, which empties {WORK}"
            raise RunConflict(f"{self.shown}: {why} (move it away, or choose another --out)")
        for name in (MANIFEST, CONFIG, EVENTS, LOCK, WORK):
            if is_link(self.folder / name):
                why = f"{name} is a link, and petkit writes nothing outside the folder"
                raise RunConflict(f"{self.shown}: {why} (remove it)")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run folder for this process; the system frees the lock when the process dies."""
        self.refuse_foreign()
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
            shutil.rmtree(self.folder / WORK, ignore_errors=True)  # left by a killed process
            for entry in self.folder.iterdir():
                if is_left_over(entry.name, MANIFEST, CONFIG):
                    entry.unlink()
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

    def free_bytes(self) -> int:
        """Return how many bytes are free where the folder is or would be."""
        place = self.folder.absolute()
        while not os.path.exists(place):  # noqa: PTH110 (a Path raises where the name is too long for the system)
            place = place.parent
        return shutil.disk_usage(place).free

    def scratch(self, name: Scratch) -> Path:
        """Return a folder for this process's temporary files; gone when the lock is released."""
        folder = self.folder / WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def publishing(self, step: str, inputs: Inputs, facts: dict[str, Any]) -> Iterator[Path]:
        """Yield an empty folder to fill; on a clean exit it becomes the finished step, whole or not at all.

        ``facts`` may be filled until then. An earlier step of this name is replaced.
        """
        self._refuse_link(step)
        work = Path(tempfile.mkdtemp(dir=self.scratch("steps")))
        try:
            crash_point("publish: begun")
            with naming(self.folder / step):
                yield work
            crash_point("publish: filled")
            follow_umask(work)
            sync_tree(work)
            crash_point("publish: files on disk")
            files = {
                path.relative_to(work).as_posix(): {"bytes": path.stat().st_size, "sha256": integrity.sha256(path)}
                for path in sorted(work.rglob("*"))
                if path.is_file()
            }
            record = {
                "schema": SCHEMA, "kind": self.kind, "step": step, "fingerprint": fingerprint(inputs), "files": files,
                "inputs": dict(inputs), "facts": facts, "finished": now(), "versions": package_versions(), "machine": machine(),
                **({"revisions": revisions} if (revisions := self.manifest().get("revisions")) else {}),
            }  # fmt: skip
            write_text(work / RECORD, json_with_checksum(record))
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
        for parent in target.parents[: len(target.relative_to(self.folder).parts)]:
            sync(parent)
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)

    def log(self, event: Event) -> None:
        """Append an event to ``events.jsonl``, for people to read, if there is room."""
        append_line(self.folder / EVENTS, log_line({"time": now(), "event": type(event).__name__, **asdict(event)}))

    def _record(self, step: str) -> Record | None:
        record = integrity.read_record(self.folder / step) if stays_inside(step) else None
        return record if record is not None and record.step == step else None

    def _examine(self, step: str, *, hashes: bool) -> tuple[Record | None, str]:
        """Return the record of a step, and what is damaged: empty if it is whole or missing.

        A folder with a file that petkit did not write and might read is refused.
        """
        self._refuse_link(step)
        record = self._record(step)
        if record is None:
            return None, RECORD if os.path.lexists(self.folder / step / RECORD) else ""
        hashes = hashes and record.checksum not in self._verified
        found, added, _ = integrity.compare(self.folder / step, record, hashes=hashes)
        if hashes and not found:
            self._verified.add(record.checksum)
        if added:
            why = f"{step}/{added} was not written by petkit, and might be read with the other files"
            raise RunConflict(f"{self.shown}: {why} (move it out of the run folder)")
        return record, found

    def _refuse_link(self, step: str) -> None:
        """Refuse a step whose files are outside the run folder, which may come from an untrusted source."""
        if not stays_inside(step):
            raise RunConflict(f"{self.shown}: {step!r} leads out of the folder (copy the run again from its source)")
        for part in (Path(step), *Path(step).parents):
            if is_link(self.folder / part) and part.name:
                why = f"{part.as_posix()} is a link"
                raise RunConflict(f"{self.shown}: {why} (put the folder itself there, or choose another --out)")


def foreign_work(folder: Path) -> str | None:
    """Return the name of something in a run's folder for work in progress, or in its place, that petkit did not write."""
    work = folder / WORK
    if work.is_dir():
        return next((f"{WORK}/{path.name}" for path in sorted(work.iterdir()) if path.name not in get_args(Scratch)), None)
    return WORK if os.path.lexists(work) and not is_link(work) else None  # a link is refused where the folder is locked


def _is_run_folder(folder: Path) -> bool:
    """Return whether a folder is a run's: it has petkit's manifest, or the lock and the log of a run that lost it."""
    with suppress(Unreadable):
        if integrity.as_manifest(integrity.content_of(folder / MANIFEST) or b""):
            return True
    return os.path.exists(folder / LOCK) and any(os.path.exists(folder / name) for name in (EVENTS, WORK))  # noqa: PTH110
