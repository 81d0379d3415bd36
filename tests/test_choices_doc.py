"""The table of docs/choices.md: every key in it exists, and every row can be written into a pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from petkit.config.loader import load_pipeline
from petkit.config.registry import Names
from petkit.config.schema.pipeline import PipelineSpec
from petkit.config.yaml_document import parse_document
from petkit.task.task import Task
from tests.cli import project
from tests.test_docs import COMMANDS, PAGES, ROOT

SEVERAL = "verbalizers"  # not a key of the specification: the loader makes patterns of it
LABELS_OF_ROWS = ["World", "Sports"]
CANDIDATES = "candidates"  # nor is this: the loader makes a verbalizer of it
LEFT_OPEN = "…"
LABELS = {"World": ["world"], "Sports": ["sports"]}


class Row(NamedTuple):
    """One row: the wish, and the code spans of its second and third cell."""

    wish: str
    written: tuple[str, ...]
    explained: tuple[str, ...]


def table() -> list[Row]:
    section = PAGES["choices.md"].partition("## Every option")[2]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [
        Row(wish, *(tuple(re.findall(r"`([^`]+)`", cell)) for cell in (written, explained))) for wish, written, explained in cells
    ]


ROWS = table()
IDS = [row.wish.split(" (")[0] for row in ROWS]


def inside(section: str) -> type[BaseModel] | None:
    """Return what a key of a pipeline contains; each of several verbalizers is a verbalizer."""
    return section_at("verbalizer" if section == SEVERAL else section)


def section_at(*keys: str) -> type[BaseModel] | None:
    """Return the section of the specification that lies at ``keys``; None where these lead to a value."""
    section: type[BaseModel] | None = PipelineSpec
    for key in keys:
        assert section is not None and key in section.model_fields, ".".join(keys)
        annotation = section.model_fields[key].annotation
        inside = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = inside[0] if inside and annotation in (inside[0], inside[0] | None) else None
    return section


def choices(kind: Any = PipelineSpec) -> Iterator[str]:
    """Yield every text that the specification offers as a choice."""
    if get_origin(kind) is Annotated and isinstance(kind.__metadata__[0], Names):
        yield from kind.__metadata__[0]
    elif get_origin(kind) is Literal:
        yield from (choice for choice in get_args(kind) if isinstance(choice, str))
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for field in kind.model_fields.values():
            yield from choices(field.annotation)
            yield from (name for names in field.metadata if isinstance(names, Names) for name in names)
    else:
        for part in get_args(kind):
            yield from choices(part)


def is_mapping(code: str) -> bool:
    return bool(re.match(r"[a-z_]+: ", code))


def check_keys(value: Any, *place: str) -> None:
    """Check that all keys of a mapping are those of the section at ``place``; other values are left to the loader."""
    section = section_at(*place)
    if section is None or not isinstance(value, Mapping):
        return
    for key in value.keys() - {LEFT_OPEN}:
        check_keys(value[key], *place, key)


def as_written(row: Row) -> dict[str, Any]:
    """Return what a row says to write, as one piece of a pipeline file; a key of a section stands after that section."""
    found: dict[str, Any] = {}
    section = ""
    for code in row.written:
        if is_mapping(code):
            ((key, value),) = parse_document(code, "docs/choices.md").data.items()
            if key == "text":
                found["patterns"] = [{"id": "shown", "text": value}]
            elif key == CANDIDATES:
                found["verbalizer"] = {key: value}
            elif key in PipelineSpec.model_fields or key == SEVERAL:
                found[key] = dict(value) if isinstance(value, Mapping) else value
                section = key if isinstance(value, Mapping) else section
            else:
                found[section][key] = value
        elif section and code in (inside(section) or PipelineSpec).model_fields:
            found[section].setdefault(code, None)
    return found


def test_the_table_is_found() -> None:
    assert len(ROWS) >= 18 and all(row.written for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_everything_written_as_code_exists(row: Row) -> None:
    for key, value in as_written(row).items():
        for own in value.values() if key == SEVERAL else [value]:
            check_keys(own, key.removesuffix("s") if key == SEVERAL else key)
    for code in row.written:
        words = code.split()
        if words[0] == "petkit":
            assert words[1] in COMMANDS
        elif "/" in code:
            assert (ROOT / code).exists()
        elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", code):
            section_at(*code.split("."))
        elif not is_mapping(code):
            keys = {name for section in as_written(row) for name in (inside(section) or PipelineSpec).model_fields}
            assert code in keys | {*choices()}


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_pipeline_takes_what_is_written(
    row: Row, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petkit.task.model_checks.obstacle", lambda device: None)  # packages of extras may be missing
    pipeline = project.write(here, model_folder("bert"))
    for path in here.glob("*.jsonl"):  # with the columns of candidates
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        more = {"first": LABELS_OF_ROWS[0], "second": LABELS_OF_ROWS[1], "options": LABELS_OF_ROWS}
        path.write_text("".join(json.dumps({**row, **more}) + "\n" for row in rows), encoding="utf-8")
    data = yaml.safe_load(pipeline.read_text(encoding="utf-8"))
    data["patterns"] = [{"id": f"p{number}", "text": "{mask} news: {text}"} for number in range(3)]
    for key, value in as_written(row).items():
        if not isinstance(value, Mapping):
            data[key] = data[key] if value == LEFT_OPEN else value
            continue
        complete = {name: inside for name, inside in value.items() if inside is not None and inside != LEFT_OPEN}
        if value.get("labels") == LEFT_OPEN:
            complete["labels"] = LABELS
        data[key] = complete if key == "verbalizer" else data.get(key, {}) | complete
    if SEVERAL in data:  # in the place of the one
        del data["verbalizer"]
    pipeline.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")

    Task.checked(load_pipeline(pipeline))
