"""The library that comes with petkit: patterns, verbalizers, pipelines and examples, named ``petkit:topic`` where files are named.

In a checkout these are the folders at its top; in an installed package they are in ``petkit/library``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from petkit.config.yaml_document import Document, read_document
from petkit.errors import InvalidInput, Problem, did_you_mean

PREFIX = "petkit:"
KINDS = ("patterns", "verbalizers", "pipelines", "examples")
_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "library"
ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


@dataclass(frozen=True)
class Entry:
    """One entry of the library.

    Attributes:
        kind: one of :data:`KINDS`.
        name: as pipelines and commands take it.
        description: the first sentence of its opening comment.
    """

    kind: str
    name: str
    description: str


def entries() -> list[Entry]:
    """Return everything that is in the library."""
    return [
        Entry(kind, name if kind == "examples" else PREFIX + name, _first_sentence(path))
        for kind in KINDS
        for name, path in files(kind).items()
    ]


@cache
def files(kind: str) -> Mapping[str, Path]:
    """Return the files of a kind by name; an example's is its pipeline."""
    folder = ROOT / kind
    if kind == "examples":
        return {path.parent.name: path for path in sorted(folder.glob("*/pipeline.yaml"))}
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def named(name: str) -> bool:
    """Return whether a file's name means a file of the library."""
    return name.startswith(PREFIX)


def locate(name: str, kind: str, folder: Path = Path()) -> Path:
    """Return the file with this name: of the library, or as seen from ``folder``."""
    if not named(name):
        return folder / name
    short, known = name.removeprefix(PREFIX), files(kind)
    if short not in known:  # never a path: nothing outside of the library can be named
        message = f"not among the {kind} of petkit's library"
        raise InvalidInput([Problem.of_file(name, message, did_you_mean(short, list(known)))])
    return known[short]


def read(name: str, kind: str, folder: Path = Path()) -> Document:
    """Read the file with this name; messages about a file of the library show the name."""
    return read_document(locate(name, kind, folder), name if named(name) else None)


def read_pipeline(name: str) -> Document:
    """Read the pipeline with this name; one of the library has its patterns and verbalizers from there, by name."""
    document = read(name, "pipelines")
    if named(name):
        for key in document.data.keys() & {"patterns", "verbalizer", "verbalizers"}:
            files = document.data[key]
            if isinstance(files, Mapping):  # written in the pipeline itself
                continue
            names = [PREFIX + Path(file).stem for file in ([files] if isinstance(files, str) else files)]
            document.data[key] = names[0] if isinstance(files, str) else tuple(names)
    return document


def data_folder(pipeline: Path) -> Path:
    """Return the folder from which a pipeline of the library names its data: the current folder replaces the library's."""
    return Path.cwd() / pipeline.parent.relative_to(ROOT)


def _first_sentence(path: Path) -> str:
    opening = path.read_text(encoding="utf-8").partition("\n#\n")[0].replace("\n# ", " ").removeprefix("# ")
    return re.split(r"\.(?: |$)", opening, maxsplit=1)[0]
