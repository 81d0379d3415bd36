"""``petkit verify``: whether everything in a run folder is unchanged since it was finished. Reads only.

Every file of every step and checkpoint is read and hashed; the manifest, the resolved pipeline and each line of the log
carry sums of their own. For what is damaged it says which command makes it again.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from petkit.errors import ModelRefused, RunConflict, shown_path
from petkit.runs.layout import CHECKPOINTS, STEP_FOLDERS
from petkit.runs.store import ADAPTED_MODEL, CONFIG, EVENTS, LOCK, PRETRAINED_PROMPT, RUN, WORK, RunStore, foreign_work
from petkit.storage.atomic import is_left_over
from petkit.storage.checksum import is_checked_log_line, is_checked_yaml
from petkit.storage.integrity import MANIFEST, RECORD, Unreadable, as_manifest, compare, content_of, is_looked_for, read_record

# "unknown" was not written by petkit and is not read by it; a "remark" has no part in any result.
State = Literal["whole", "damaged", "unreadable", "unfinished", "unknown", "remark"]
_NOT_USED = "it will not be used: that work starts earlier or from scratch"
_ELSE = "if it is not a step of this pipeline, move it away"
_STAGES = ("stage_a", "stage_b", "stage_c")
# By the kind of folder: the command that makes it, and what is made in it, one after another.
_MAKING = {RUN: ("run", _STAGES), ADAPTED_MODEL: ("adapt", ("model",)), PRETRAINED_PROMPT: ("pretrain-prompt", ("prompt",))}


@dataclass(frozen=True)
class Verified:
    """The state of one step, checkpoint or file, the reason where it is not whole, and what to do."""

    name: str
    state: State
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Verification:
    """Everything in a run folder, or in the folder of one step."""

    folder: str
    entries: tuple[Verified, ...]

    @property
    def whole(self) -> bool:
        """Whether every file was read, and none is damaged."""
        return not any(entry.state in ("damaged", "unreadable") for entry in self.entries)

    @property
    def damaged(self) -> bool:
        """Whether something is damaged; a file that cannot be read may be whole."""
        return any(entry.state == "damaged" for entry in self.entries)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, as far as the folder shows: a missing evaluation or baseline leaves no trace."""
        return not any(entry.state == "unfinished" for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        entries = [asdict(entry) for entry in self.entries]
        return {"folder": self.folder, "whole": self.whole, "finished": self.finished, "entries": entries}


def verify(folder: Path) -> Verification:
    """Verify a run folder, or a folder that one of its steps was copied to."""
    if not folder.is_dir():
        raise ModelRefused(f"{shown_path(folder)}: {'is a file, not a folder' if folder.is_file() else 'no such folder'}")
    if os.path.lexists(folder / RECORD):
        return Verification(str(folder), (_verify_step(folder, "", "take the folder from its run again"),))
    store = RunStore(folder)
    steps = store.steps()
    if not steps and not (folder / CONFIG).exists() and not (folder / MANIFEST).exists():
        raise ModelRefused(f"{shown_path(folder)}: does not contain a petkit run")
    return Verification(str(folder), tuple(_Run(store, steps).entries()))


class _Run:
    """One look at a run folder."""

    def __init__(self, store: RunStore, steps: list[str]) -> None:
        self.folder, self.steps, self.checkpoints = store.folder, steps, store.steps([CHECKPOINTS])
        config, kind, readable = self.folder / CONFIG, RUN, False
        with suppress(RunConflict, Unreadable):
            kind = str(store.manifest().get("kind", RUN))
        with suppress(Unreadable):
            readable = kind == RUN and is_checked_yaml(content_of(config) or b"")
        command, self.parts = _MAKING.get(kind, ("run", ()))
        self.again = shlex.join(["petkit", command, str(config) if readable else "PIPELINE", "--out", str(self.folder)])
        self.redo = f"{self.again} makes it again, and nothing else"

    def entries(self) -> Iterator[Verified]:
        """Yield the files at the top, the steps, the checkpoints and the rest."""
        changed, again = "has changed", f"{self.again} writes it again"
        yield self._top(MANIFEST, lambda file: "" if as_manifest(file) else changed, f"steps stay: {again}")
        yield self._top(CONFIG, lambda file: "" if is_checked_yaml(file) else changed, f"nothing reads it: {again}")
        yield self._top(EVENTS, _damage_in_log, "nothing reads it", "remark")
        for name in self.steps:
            yield _verify_step(self.folder / name, name, self.redo)
        yield from self._without_record()
        yield from self._gone()
        for name in self.checkpoints:
            found, hint = _verify_step(self.folder / name, name, _NOT_USED), "if the pipeline no longer has this step, remove it"
            begun = Verified(name, "unfinished", "work in progress", f"{self.again} goes on; {hint}")
            yield begun if found.state == "whole" else found
        yield from self._left_overs()

    def _top(self, name: str, damage_in: Callable[[bytes], str], hint: str, state: State = "damaged") -> Verified:
        path = self.folder / name
        if path.is_symlink():
            return Verified(name, "damaged", "is a link", f"remove the link; {hint}")
        try:
            content = content_of(path)
        except Unreadable as error:
            return Verified(name, "unreadable", str(error))
        why = "is missing" if content is None else damage_in(content)
        return Verified(name, state, why, hint) if why else Verified(name, "whole")

    def _without_record(self) -> Iterator[Verified]:
        """Yield folders of steps or checkpoints without a record, and files next to them."""
        for top in (*STEP_FOLDERS, CHECKPOINTS):
            hint = _NOT_USED if top == CHECKPOINTS else f"{self.redo}; {_ELSE}"
            if (self.folder / top).is_symlink():
                yield self._link(top)
                continue
            for place, folders, names in os.walk(self.folder / top):
                here = Path(place).relative_to(self.folder).as_posix()
                if here in (*self.steps, *self.checkpoints):
                    folders.clear()
                    continue
                yield from (self._link(f"{here}/{name}") for name in folders if (Path(place) / name).is_symlink())
                if any(is_looked_for(name) for name in names):
                    yield Verified(here, "damaged", f"{RECORD} is missing", hint)
                    folders.clear()
                elif names:
                    yield _foreign(f"{here}/{min(names)}")

    def _link(self, name: str) -> Verified:
        """Return what a link to a folder is: in place of a step, or of a folder of steps, every run refuses it."""
        inside = (self.folder / name / part / RECORD for part in (".", "model", "logits", "folds"))
        if name in (*STEP_FOLDERS, CHECKPOINTS) or any(map(os.path.lexists, inside)):
            return Verified(name, "damaged", "is a link", "put the folder itself there")
        return Verified(name, "unknown", "is a link", "petkit does not follow it")

    def _gone(self) -> Iterator[Verified]:
        """Yield the steps that others were made from and that are missing, then the first stage that has none yet."""
        gone = dict[str, str]()
        # From the results backwards: a teacher that left the pipeline may have left something behind.
        to_look_at = [step for step in self.steps if not step.startswith("stage_a/")]
        for step in to_look_at:  # grows by what each step needs
            record = None
            with suppress(Unreadable):  # reported as such
                record = read_record(self.folder / step)
            for name in record.inputs if record is not None else ():
                if name in self.steps and name not in to_look_at:
                    to_look_at.append(name)
                elif name.split("/")[0] in _STAGES and not os.path.lexists(self.folder / name):
                    gone.setdefault(name, step)
        for name, step in sorted(gone.items()):
            yield Verified(name, "damaged", f"is missing, and {step} was made from it", self.redo)
        reported = {step.split("/")[0] for step in gone}
        for top in self.parts:
            begun = any(names for _, _, names in os.walk(self.folder / top)) or (self.folder / top).is_symlink()
            if not begun and top not in reported:
                yield Verified(top, "unfinished", "not done yet, or deleted", f"{self.again} goes on")
                return

    def _left_overs(self) -> Iterator[Verified]:
        for path in sorted(self.folder.iterdir()):
            name = path.name
            if path.is_symlink() and name in (LOCK, WORK):
                yield Verified(name, "damaged", "is a link", "remove the link")
            elif name == WORK and (added := foreign_work(self.folder)) is not None:
                yield _foreign(added)
            elif name == WORK or is_left_over(name, MANIFEST, CONFIG):
                yield Verified(name, "remark", "belongs to a running or a killed run", "the next run removes it")
            elif name not in (MANIFEST, CONFIG, EVENTS, LOCK, CHECKPOINTS, *STEP_FOLDERS):
                yield _foreign(name)


def _foreign(name: str, why: str = "was not written by petkit") -> Verified:
    return Verified(name, "unknown", why, "petkit does not read it")


def _verify_step(folder: Path, name: str, hint: str) -> Verified:
    """Compare a step's folder with its record.

    Args:
        name: under which the run knows it; empty for a copy, which may be called anything.
    """
    shown = name or folder.name
    try:
        record = read_record(folder)
        if record is None:
            return Verified(shown, "damaged", f"{RECORD} is damaged", hint)
        if name and record.step != name:
            return Verified(shown, "damaged", f"{RECORD} is that of {record.step}", f"{hint}; {_ELSE}")
        damage, added, other = compare(folder, record)
    except Unreadable as error:
        return Verified(shown, "unreadable", str(error))
    if damage:
        return Verified(shown, "damaged", damage, hint)
    if added:
        return Verified(shown, "damaged", f"{added} was added later and might be read", "move it out of the folder")
    return _foreign(shown, f"{other} was added later") if other else Verified(shown, "whole")


def _damage_in_log(content: bytes) -> str:
    """Describe the damage of a log; empty if there is none."""
    bad = [number for number, line in enumerate(content.splitlines(), 1) if not is_checked_log_line(line)]
    if bad:
        return f"line {bad[0]} is cut or has changed" + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
    return "" if content.endswith(b"\n") else "the last line is cut" if content else "is empty"
