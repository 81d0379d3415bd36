"""Refusal of links in a run folder: a folder from an untrusted source could lead to other files of the user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from petkit.errors import RunConflict, shown_path
from petkit.storage.integrity import is_link, stays_inside


def refuse_links_to(folder: Path, step: str) -> None:
    """Refuse a step whose files are outside the run folder.

    Raises:
        RunConflict: its name leads out of the run folder, or a part of its path is a link.
    """
    if not stays_inside(step):
        raise RunConflict(f"{shown_path(folder)}: {step!r} leads out of the folder (copy the run again from its source)")
    place = folder
    for part in Path(step).parts:
        place /= part
        if is_link(place):
            why = f"{place.relative_to(folder).as_posix()} is a link"
            raise RunConflict(f"{shown_path(folder)}: {why} (put the folder itself there, or choose another --out)")


def refuse_links_at(folder: Path, names: Iterable[str]) -> None:
    """Refuse to write to files that are links.

    Raises:
        RunConflict: one of them is a link.
    """
    for name in names:
        if is_link(folder / name):
            why = f"{name} is a link, and petkit writes nothing outside the folder"
            raise RunConflict(f"{shown_path(folder)}: {why} (remove it)")
