"""Puts what a pipeline names by file in its place: patterns, verbalizers, and every pattern with every one of several verbalizers.

What is put together looks as if it had been written in one file, and every value keeps its own file and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from petkit import limits
from petkit.config import library
from petkit.config.schema.section import NAME
from petkit.config.yaml_document import Document, Location, Place
from petkit.errors import BeyondLimit, InvalidInput, Problem, did_you_mean, shortened
from petkit.formatting import binary_size

# What stands for the pipeline's verbalizer where it cannot be read, so that everything else is checked.
_UNREAD: Mapping[str, Any] = {"labels": {"unread": ("a",), "unread too": ("b",)}}
# How deep inside a verbalizer of a pattern values keep their lines, down to each label: they are repeated in every pattern.
_KEPT_DEPTH = 2
FolderOf: TypeAlias = Callable[[Location], Path]


class _Verbalizer(NamedTuple):
    """A verbalizer as written, and where."""

    content: Any
    places: Mapping[Location, Place]

    def below(self, location: Location, depth: int = limits.CONFIG_DEPTH) -> dict[Location, Place]:
        """Return its places where it is put at ``location``."""
        return {(*location, *inside): place for inside, place in self.places.items() if len(inside) <= depth}

    def in_pattern(self, index: int) -> dict[Location, Place]:
        """Return its places in a pattern: those of its keys, and of its labels."""
        kept = {inside: place for inside, place in self.places.items() if len(inside) < _KEPT_DEPTH or inside[:1] == ("labels",)}
        return _Verbalizer(self.content, kept).below(("patterns", index, "verbalizer"), _KEPT_DEPTH)


def put_together(document: Document, folder_of: FolderOf) -> list[Problem]:
    """Read the files that a pipeline names for its patterns and verbalizers; returns what is wrong with them.

    Args:
        folder_of: place in the pipeline → the folder from which a file there is named.

    Raises:
        BeyondLimit: more than a pipeline may hold.
    """
    files = _Files(document)
    # Before their files are read: values then have the places of these.
    overridden = {key for key in ("verbalizer", "verbalizers", "candidates") if document.place((key,))[0].startswith("--set ")}
    problems = _graft_patterns(files, folder_of(("patterns",)))
    problems += graft_verbalizer(document, folder_of(("verbalizer",)), files)
    problems += _graft_candidates(document, overridden)
    return problems + _pair_with_verbalizers(files, folder_of, overridden="verbalizer" in overridden)


def graft_verbalizer(document: Document, folder: Path, files: _Files | None = None) -> list[Problem]:
    """Replace the name of the pipeline's verbalizer file by the verbalizer in it."""
    written = document.data.get("verbalizer")
    if not isinstance(written, str):
        return []
    verbalizer, problems = (files or _Files(document)).verbalizer(written, ("verbalizer",), folder)
    _give(document, verbalizer)
    return problems


def _graft_candidates(document: Document, overridden: Set[str]) -> list[Problem]:
    """Replace ``candidates`` by the verbalizer that reads them."""
    location = ("candidates",)
    written = document.data.pop("candidates", None)
    if written is None:
        return []
    for other in ("verbalizer", "verbalizers"):
        if document.data.get(other) is not None:
            # What is written with --set is meant; what stands in the file has to give way.
            in_file = {"candidates", other} - overridden
            hint = f"add --set {in_file.pop()}=null" if len(in_file) == 1 else "keep one of them"
            return [document.problem(location, f"{other} is given too, and its labels would be the answers", hint)]
    places = {("candidates", *place[1:]): own for place, own in document.places.items() if place[:1] == location}
    _give(document, _Verbalizer({"candidates": written}, {(): document.place(location), **places}))
    return []


def _give(document: Document, verbalizer: _Verbalizer | None) -> None:
    """Make this the pipeline's verbalizer; where it could not be read, one that patterns have of their own."""
    if verbalizer is None:
        patterns = document.data.get("patterns")
        written = patterns if isinstance(patterns, tuple) else ()
        own = [pattern.get("verbalizer") for pattern in written if isinstance(pattern, Mapping)]
        content = next((entry for entry in own if isinstance(entry, Mapping)), _UNREAD)
        document.data["verbalizer"] = {"labels": content.get("labels", _UNREAD["labels"])}
    else:
        document.data["verbalizer"] = verbalizer.content
        document.places |= verbalizer.below(("verbalizer",))


class _Files:
    """The verbalizer files of a pipeline, each read once."""

    def __init__(self, document: Document) -> None:
        self.document, self.size = document, 0
        self.read: dict[Path, _Verbalizer | None] = {}  # None: what is wrong with it was reported

    def verbalizer(self, name: str, location: Location, folder: Path) -> tuple[_Verbalizer | None, list[Problem]]:
        """Return the verbalizer in a file that is named at ``location``, or what is wrong with the file."""
        try:
            path = library.locate(name, "verbalizers", folder)
        except InvalidInput as error:
            return None, _named_in(error, self.document, location)
        if path not in self.read:
            with suppress(OSError, ValueError):  # reported when it is read
                self.size += path.stat().st_size
            if self.size > limits.CONFIG_BYTES:
                message = f"verbalizer files exceed {binary_size(limits.CONFIG_BYTES)} in total"
                raise BeyondLimit([self.document.problem(location, message)])
            try:
                source = library.read(name, "verbalizers", folder)
            except InvalidInput as error:
                self.read[path] = None
                return None, _named_in(error, self.document, location)
            self.read[path] = _Verbalizer(source.data, source.places)
        return self.read[path], []


def _graft_patterns(files: _Files, folder: Path) -> list[Problem]:
    """Replace pattern file names by the patterns in them, and in patterns the names of verbalizer files."""
    document = files.document
    written = document.data.get("patterns")
    names = (written,) if isinstance(written, str) else written
    if not isinstance(names, tuple):
        return []  # reported by the schema
    if not names or not all(isinstance(name, str) for name in names):
        return _graft_own_verbalizers(files, names, [folder] * len(names))
    problems: list[Problem] = []
    patterns: list[Any] = []
    folders: list[Path] = []
    size = 0
    for old in [old for old in document.places if old[:1] == ("patterns",) and len(old) > 1]:
        del document.places[old]  # of the files' names
    for name in names:
        with suppress(OSError, ValueError, InvalidInput):  # reported when it is read
            size += library.locate(name, "patterns", folder).stat().st_size
    if size > limits.CONFIG_BYTES:
        message = f"pattern files exceed {binary_size(limits.CONFIG_BYTES)} in total"
        raise BeyondLimit([document.problem(("patterns",), message)])
    for name in names:
        try:
            source = library.read(name, "patterns", folder)
        except InvalidInput as error:
            problems += _named_in(error, document, ("patterns",))
            continue
        others = [key for key in source.data if key != "patterns"]
        problems += [source.problem((key,), "unknown key", did_you_mean(key, ["patterns"]), key=key) for key in others]
        found = source.data.get("patterns")
        if not isinstance(found, tuple):
            problems.append(source.problem((), "must contain a list under the key 'patterns'", key="patterns"))
            continue
        for location, place in source.places.items():
            if location[:1] == ("patterns",) and len(location) > 1:
                document.places[("patterns", int(location[1]) + len(patterns), *location[2:])] = place
        patterns += found
        folders += [library.locate(name, "patterns", folder).parent] * len(found)
    document.data["patterns"] = tuple(patterns)
    if problems and not patterns:
        document.data["patterns"] = ({"id": "unread", "text": "{unread} {mask}"},)
    return problems + _graft_own_verbalizers(files, patterns, folders)


def _graft_own_verbalizers(files: _Files, patterns: Sequence[Any], folders: Sequence[Path]) -> list[Problem]:
    """Replace the verbalizer files that patterns name by the verbalizers in them; too many patterns are reported later."""
    problems: list[Problem] = []
    if len(patterns) > limits.PATTERNS:
        return problems
    whole = list(patterns)
    for index, (pattern, folder) in enumerate(zip(patterns, folders, strict=True)):
        name = pattern.get("verbalizer") if isinstance(pattern, Mapping) else None
        if isinstance(name, str):
            location = ("patterns", index, "verbalizer")
            verbalizer, found = files.verbalizer(name, location, folder)
            problems += found
            whole[index] = {**pattern, "verbalizer": None if verbalizer is None else verbalizer.content}
            files.document.places |= {} if verbalizer is None else verbalizer.in_pattern(index)
    if any(new is not old for new, old in zip(whole, patterns, strict=True)):
        files.document.data["patterns"] = tuple(whole)
    return problems


def _pair_with_verbalizers(files: _Files, folder_of: FolderOf, *, overridden: bool) -> list[Problem]:
    """Replace ``verbalizers`` by one pattern for every pair of a pattern and a verbalizer, named ``<pattern>-<verbalizer>``.

    The first of them becomes the pipeline's verbalizer, whose labels and descriptions count.
    """
    document, location = files.document, ("verbalizers",)
    written = document.data.pop("verbalizers", None)
    if written is None:
        return []
    if document.data.get("verbalizer") is not None:
        hint = "add --set verbalizers=null" if overridden else "keep one of them, or set verbalizer: null"
        return [document.problem(location, "verbalizer is given too", hint)]
    named, problems = _named_verbalizers(written, files, folder_of)
    first = next(iter(named.values()), None)
    _give(document, first)
    patterns = document.data.get("patterns")
    if not isinstance(patterns, tuple) or len(named) < 2:
        return problems
    if (count := len(patterns) * len(named)) > limits.PATTERNS:
        factors = f"{len(patterns):,} patterns × {len(named):,} verbalizers"
        message = f"{factors} are {count:,} patterns; at most {limits.PATTERNS}"
        raise BeyondLimit([*problems, document.problem(location, message, "keep the best ones")])
    places_of: list[dict[Location, Place]] = [{} for _ in patterns]
    for place in [place for place in document.places if place[0:1] == ("patterns",) and len(place) > 1]:
        places_of[int(place[1])][place[2:]] = document.places.pop(place)
    pairs: list[Any] = []
    for pattern, places in zip(patterns, places_of, strict=True):
        for name, verbalizer in named.items():
            at: Location = ("patterns", len(pairs))
            document.places |= {(*at, *inside): place for inside, place in places.items()}
            if not isinstance(pattern, Mapping) or not isinstance(pattern.get("id"), str):
                pairs.append(pattern)  # reported by the schema
                continue
            if pattern.get("verbalizer") is not None:
                message = f"pattern {pattern['id']!r} has a verbalizer of its own, and verbalizers gives every pattern all of its"
                problems.append(document.problem((*at, "verbalizer"), message, "leave one of them out", key=""))
            # With the first one a pattern answers as any pattern does.
            own = {} if verbalizer is first else {"verbalizer": verbalizer.content}
            document.places |= verbalizer.in_pattern(len(pairs)) if own else {}
            pairs.append({**pattern, "id": f"{pattern['id']}-{name}", **own})
    document.data["patterns"] = tuple(pairs)
    return problems


def _named_verbalizers(written: Any, files: _Files, folder_of: FolderOf) -> tuple[dict[str, _Verbalizer], list[Problem]]:
    """Return the verbalizers of a list of files, named as these are, or of a mapping from names to files or verbalizers."""
    document, location = files.document, ("verbalizers",)
    entries: list[tuple[str, str | int, Any]]  # name, key and what is written
    if isinstance(written, tuple) and written and all(isinstance(name, str) for name in written):
        entries = [(Path(name.removeprefix(library.PREFIX)).stem, index, name) for index, name in enumerate(written)]
    elif isinstance(written, Mapping) and written and all(isinstance(entry, (str, Mapping)) for entry in written.values()):
        entries = [(name, name, entry) for name, entry in written.items()]
    else:
        hint = "write verbalizers: [first.yaml, second.yaml]"
        return {}, [document.problem(location, "must be a list of verbalizer files, or a mapping from names to them", hint)]
    named: dict[str, _Verbalizer] = {}
    problems: list[Problem] = []
    for name, key, entry in entries:
        at = (*location, key)
        mapping = "write a mapping from names to files: verbalizers: {short: first.yaml, long: second.yaml}"
        if name in named:
            problems.append(document.problem(at, f"{name!r} is the name of two files, and teachers are called by it", mapping))
        elif re.fullmatch(NAME, name) is None:
            message = f"{shortened(repr(name), 100)} becomes part of teachers' names: small letters, digits, - and _ only"
            problems.append(document.problem(at, message, mapping))
        if isinstance(entry, str):
            verbalizer, found = files.verbalizer(entry, at, folder_of(at))
            problems += found
            named |= {} if verbalizer is None else {name: verbalizer}
        else:
            places = {place[2:]: own for place, own in document.places.items() if place[:2] == at}
            named[name] = _Verbalizer(entry, places)
    return named, problems


def _named_in(error: InvalidInput, document: Document, location: Location) -> list[Problem]:
    """Say of a missing file where it was named; leave other mistakes at their own place."""
    return [
        document.problem(location, f"{shortened(found.file, 300)}: {found.message}", found.hint) if found.line is None else found
        for found in error.problems
    ]
