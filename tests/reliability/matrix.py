"""Every kind of file in a run folder × everything that can happen to it → what petkit makes of it.

A cell is good if the damage is found or has no part in anything, nothing damaged is ever read, no other finished step is
made again, and the command that made the folder either makes it whole again, byte for byte, or says what to do.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petkit.errors import PetkitError
from petkit.runs.store import RunStore
from petkit.runs.verify import verify
from tests.reliability.benches import Bench

NOT_MADE_BY_STEPS = ("manifest.json", "config.resolved.yaml", "events.jsonl", ".lock")


@dataclass(frozen=True)
class Cell:
    """One fault, and what came of it.

    Attributes:
        artefact: the kind of file.
        found: what ``petkit verify`` said: a state, or ``not found``.
        used: the folder's use gave the same answer as before, or was ``refused``.
        again: the command that made the folder ``repaired`` it, ``refused`` it, or had ``nothing to do``.
        wrong: what must not be; empty in a good cell.
    """

    bench: str
    artefact: str
    fault: str
    found: str
    used: str
    again: str
    wrong: str = ""


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: max(len(content) * 2 // 3, 1)])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path, other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def link(path: Path, other: Path) -> None:
    """Move it away and leave a link to where it is: the same bytes, today."""
    away = other.parent / "elsewhere"
    shutil.move(path, away)
    path.symlink_to(away)


FAULTS: dict[str, Callable[[Path, Path], None]] = {
    "bit flipped": flip,
    "truncated": truncate,
    "emptied": empty,
    "deleted": delete,
    "other content": swap,
    "linked away": link,
}


def artefacts(folder: Path) -> dict[str, str]:
    """Return one file of every kind in a run folder: kind → name."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found.setdefault(re.sub(r"^stage_a/[^/]+/(?=model|logits|folds)", "stage_a/<teacher>/", name), name)
    return found


def faults_for(path: Path) -> list[str]:
    """Return what can happen to a file: an empty one can be deleted, replaced or linked away."""
    small = ("bit flipped", "truncated", "emptied")
    return [fault for fault in FAULTS if path.stat().st_size or fault not in small]


class Matrix:
    """The cells of one kind of run folder."""

    def __init__(self, bench: Bench, scratch: Path) -> None:
        self.bench, self.scratch = bench, scratch
        bench.make()
        self.answer = bench.use(bench.clean)
        whole = scratch / "whole"
        bench.again(bench.copy(whole))
        self.products = products(whole)

    def cells(self) -> list[tuple[str, str, str]]:
        """Return every kind of file with its name and fault."""
        kinds = artefacts(self.bench.clean)
        return [(kind, name, fault) for kind, name in kinds.items() for fault in faults_for(self.bench.clean / name)]

    def damaged(self, name: str, fault: str) -> Path:
        """Return a copy of the folder in which that happened to a file."""
        folder = self.bench.copy(self.scratch / "run")
        other = self.scratch / "other"
        shutil.rmtree(self.scratch / "elsewhere", ignore_errors=True)
        (self.scratch / "elsewhere").unlink(missing_ok=True)
        others = [path for path in sorted(folder.rglob("*")) if path.suffix == Path(name).suffix and path.is_file()]
        whole = (folder / name).read_bytes()
        different = next((path for path in others if path.read_bytes() != whole), None)
        other.write_bytes(different.read_bytes() if different else b"{}")
        FAULTS[fault](folder / name, other)
        return folder

    def found(self, folder: Path) -> str:
        """Return what ``petkit verify`` says at worst."""
        states = {entry.state for entry in verify(folder).entries}
        return next((state for state in ("damaged", "unreadable", "unknown", "remark") if state in states), "not found")

    def cell(self, kind: str, name: str, fault: str) -> Cell:
        """Try one fault."""
        folder = self.damaged(name, fault)
        wrong: list[str] = []
        found = self.found(folder)
        if found == "not found" and name != ".lock":
            wrong.append("verify does not find it")
        before = checksums(folder)
        used = self._use(folder, wrong)
        again = self._again(folder, wrong)
        own = next((step for step in checksums(self.bench.clean) if name.startswith(f"{step}/")), None)
        redone = [step for step, checksum in before.items() if checksums(folder).get(step) != checksum and step != own]
        if redone and not name.startswith("checkpoints/"):
            wrong.append(f"{redone[0]} was lost or made again")
        if again != "refused":
            if products(folder) != self.products:
                wrong.append("the end is another than that of a clean run")
            if self.found(folder) in ("damaged", "unreadable"):
                wrong.append("damage is left")
        return Cell(self.bench.name, kind, fault, found, used, again, "; ".join(wrong))

    def _use(self, folder: Path, wrong: list[str]) -> str:
        try:
            answer = self.bench.use(folder)
        except PetkitError as error:
            if "\n" in str(error):
                wrong.append("the refusal has several lines")
            return "refused"
        if answer != self.answer:
            wrong.append("something damaged was read")
        return "as before"

    def _again(self, folder: Path, wrong: list[str]) -> str:
        try:
            ran: Any = self.bench.again(folder)
        except PetkitError as error:
            if "\n" in str(error) or "(" not in str(error):
                wrong.append("the refusal has no hint")
            return "refused"
        return "repaired" if ran else "nothing to do"


def checksums(folder: Path) -> dict[str, str]:
    """Return the finished steps of a run folder and which making of each it is."""
    store = RunStore(folder)
    records = {step: store._record(step) for step in store.steps()}
    return {step: record.checksum for step, record in records.items() if record is not None}


def products(folder: Path) -> dict[str, bytes]:
    """Return what steps made, without the records of when and where."""
    paths = [path for step in RunStore(folder).steps() for path in sorted((folder / step).rglob("*"))]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file() and path.name != "step.json"
    }


def table(cells: list[Cell]) -> Iterator[str]:
    """Give the matrix as lines: kinds of files with the same outcomes together."""
    for bench in dict.fromkeys(cell.bench for cell in cells):
        own = [cell for cell in cells if cell.bench == bench]
        rows: dict[tuple[str, ...], list[str]] = {}
        for kind in dict.fromkeys(cell.artefact for cell in own):
            outcomes = {cell.fault: f"{cell.found} / {cell.used} / {cell.again}" for cell in own if cell.artefact == kind}
            rows.setdefault(tuple(outcomes.get(fault, "–") for fault in FAULTS), []).append(kind)
        yield f"{bench}: petkit verify / use / the same command again"
        for outcomes_, kinds in rows.items():
            yield "  " + ", ".join(kinds)
            reported: dict[str, list[str]] = {}
            for fault, outcome in zip(FAULTS, outcomes_, strict=True):
                reported.setdefault(outcome, []).append(fault)
            yield from (f"      {outcome:<42} {', '.join(faults)}" for outcome, faults in reported.items())
    bad = [cell for cell in cells if cell.wrong]
    yield f"{len(cells)} cells, {len(bad)} bad"
    yield from (f"  {cell.bench}: {cell.artefact}, {cell.fault}: {cell.wrong}" for cell in bad)
