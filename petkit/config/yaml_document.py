"""Strict YAML with a place for every value.

YAML's traps are closed here: ``no``, ``yes`` and ``on`` are strings, ``1e-5`` is a number, a key
written twice is refused, and every value remembers its file and line for error messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml

from petkit import limits
from petkit.errors import BeyondLimit, InvalidInput, Problem, first_line, shown_path
from petkit.formatting import binary_size
from petkit.storage.regular_file import refuse_no_file

Location: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[str, int | None]

_MOST = f"{limits.PATTERNS} patterns or {limits.LABELS:,} labels at most"
# Here a plain scalar is text as written: label `0`, word `007`, column `yes`.
_TEXT_KEYS = frozenset({"text", "id", "task"})
_TEXT_HOLDERS = frozenset({"labels", "descriptions", "label_names", "columns"})
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map"))
_INT = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan"),
}  # fmt: skip


@dataclass
class Document:
    """Plain data (dicts, tuples, scalars) and where each value was written."""

    data: Any
    places: dict[Location, Place] = field(default_factory=dict)

    def place(self, location: Location) -> Place:
        """Return file and line of ``location``, or of its nearest written parent."""
        return next(self.places[location[:depth]] for depth in range(len(location), -1, -1) if location[:depth] in self.places)

    def problem(self, location: Location, message: str, hint: str = "", *, key: str | None = None) -> Problem:
        """Return a problem placed at ``location``; ``key`` defaults to its dotted path."""
        file, line = self.place(location)
        return Problem.of_file(file, message, hint, line=line, key=".".join(map(str, location)) if key is None else key)


def read_document(path: Path, shown: str | None = None) -> Document:
    """Read one YAML file whose top level is a mapping; ``shown`` names it in messages (default: its path)."""
    shown = shown_path(path) if shown is None else shown
    refuse_no_file(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(limits.CONFIG_BYTES + 1)
    except OSError as error:
        raise InvalidInput([Problem.of_file(shown, f"cannot be read: {error.strerror}")]) from None
    if len(raw) > limits.CONFIG_BYTES:
        message = f"larger than {binary_size(limits.CONFIG_BYTES)}; too large for a configuration file"
        raise BeyondLimit([Problem.of_file(shown, message, "rows belong into data files")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidInput([Problem.of_file(shown, "not UTF-8", "save the file as UTF-8", line=line)]) from None
    document = parse_document(text, shown)
    if document.data is None:
        raise InvalidInput([Problem.of_file(shown, "the file is empty", line=1)])
    if not isinstance(document.data, dict):
        raise InvalidInput([Problem.of_file(shown, "the top level must be a mapping of keys to values", line=1)])
    return document


def parse_document(text: str, shown: str, *, under: Location = ()) -> Document:
    """Parse YAML ``text``; ``shown`` names it in messages; ``under`` is where in a larger document it belongs."""
    try:
        reader = _Reader(text, shown, under)
        node = reader.get_single_node()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        why, hint, line = _explained(error, text)
        raise InvalidInput([Problem.of_file(shown, f"not valid YAML: {why}", hint, line=line)]) from None
    if node is None:
        return Document(None, {(): (shown, 1)})
    reader.values = 0  # counted again: aliases of aliases grow without bound, and one may hold itself
    document = Document(reader.build(node, ()), reader.places)
    if reader.problems:
        raise InvalidInput(reader.problems)
    return document


def _explained(error: Exception, text: str) -> tuple[str, str, int | None]:
    """Return what is wrong in a text, the hint for the mistake that patterns invite, and the line."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = error.problem or str(error.context)
        problem = f"{error.context}, {problem}" if problem.startswith("but ") else problem
        hint = "put a text with a colon or braces in quotes" if problem.startswith("mapping values") else ""
        return problem, hint, None if mark is None else mark.line + 1
    if isinstance(error, yaml.YAMLError):
        at = text.count("\n", 0, error.position) + 1 if isinstance(error, yaml.reader.ReaderError) else None
        return first_line(error), "", at
    # The parser hands escapes and version numbers on unchecked.
    return "an escape that stands for no character, or a version of YAML that does not exist", "", None


class _Reader(yaml.SafeLoader):
    """Turns a text into nodes and these into data with places and problems; stops where the text holds too much."""

    def __init__(self, text: str, shown: str, under: Location) -> None:
        super().__init__(text)
        self.shown = shown
        self.under = under
        self.places: dict[Location, Place] = {}
        self.problems: list[Problem] = []
        self.values = 0
        self._depth = -1

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if parent is not None and len(parent.value) >= limits.ENTRIES:
            self._refuse(parent.start_mark.line, f"more than {limits.ENTRIES:,} entries in one list or mapping", _MOST)
        self._count(self.peek_event().start_mark.line, self._depth)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _count(self, line: int, depth: int) -> None:
        self.values += 1
        if self.values > limits.CONFIG_VALUES:
            self._refuse(line, f"more than {limits.CONFIG_VALUES:,} values, aliases written out")
        if depth > limits.CONFIG_DEPTH:
            self._refuse(line, f"nested more than {limits.CONFIG_DEPTH} deep")

    def _refuse(self, line: int, message: str, hint: str = "too large for a configuration file") -> NoReturn:
        raise BeyondLimit([Problem.of_file(self.shown, message, hint, line=line + 1)])

    def build(self, node: yaml.Node, location: Location) -> Any:
        self.places.setdefault(location, (self.shown, node.start_mark.line + 1))
        self._count(node.start_mark.line, len(location))
        if node.tag not in _TAGS and not (isinstance(node, yaml.ScalarNode) and node.tag.endswith((":merge", ":value"))):
            self._complain(node, location, f"tag {node.tag!r} is not allowed")
            return None
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, (*self.under, *location))
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.build(child, (*location, index)) for index, child in enumerate(node.value))
        return self._mapping(node, location)

    def _mapping(self, node: yaml.Node, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(key_node, location, "a key must be plain text")
            elif key in data:
                first = self.places[(*location, key)][1]
                self._complain(key_node, location, f"key {key!r} is written twice", f"first on line {first}")
            else:
                self.places[(*location, key)] = (self.shown, key_node.start_mark.line + 1)
                data[key] = self.build(value_node, (*location, key))
        return data

    def _complain(self, node: yaml.Node, location: Location, message: str, hint: str = "") -> None:
        key, line = ".".join(map(str, location)), node.start_mark.line + 1
        self.problems.append(Problem.of_file(self.shown, message, hint, line=line, key=key))


def _scalar(node: yaml.ScalarNode, location: Location) -> Any:
    as_text = not _TEXT_KEYS.isdisjoint(location) or not _TEXT_HOLDERS.isdisjoint(location[:-1])
    value: str = node.value
    if node.style is not None:  # quoted or block text
        return value
    if as_text:
        return value or None
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if _INT.fullmatch(value):
        return int(value) if len(value) < 4000 else value
    return float(value) if NUMBER.fullmatch(value) else value
