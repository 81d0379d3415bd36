"""Nothing is read or written through a link in a run folder: a folder made by others would lead into other files of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from petkit.errors import RunConflict, shown_path
from petkit.storage.integrity import is_link, stays_inside


def refuse_links_to(folder: Path, step: str) -> None:
    """Refuse a step that lies elsewhere: its files are not the run's, and made anew it would take their place.

    Raises:
        RunConflict: its name leads out of the run folder, or something on the way to it is a link.
    """
    if not stays_inside(step):
        raise RunConflict(f"{shown_path(folder)}: {step!r} leads out of the folder (take the run from where you have it again)")
    place = folder
    for part in Path(step).parts:
        place /= part
        if is_link(place):
            why = f"{place.relative_to(folder).as_posix()} is a link"
            raise RunConflict(f"{shown_path(folder)}: {why} (put the folder itself there, or choose another --out)")


def refuse_links_at(folder: Path, names: Iterable[str]) -> None:
    """Refuse links in the place of files that are about to be written.

    Raises:
        RunConflict: one of them is a link.
    """
    for name in names:
        if is_link(folder / name):
            why = f"{name} is a link, and petkit writes nothing outside of the folder"
            raise RunConflict(f"{shown_path(folder)}: {why} (remove it)")
