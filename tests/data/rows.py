"""Small data files, and how they are read in these tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import ExampleSource

LABELS = ("World", "Sports")


def jsonl(path: Path, rows: Sequence[Any]) -> str:
    """Write one JSON line per row; rows that are text are written as they stand."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def source(
    path: str,
    fields: Sequence[str] = ("text",),
    labels: Sequence[str] | None = LABELS,
    kind: str = "single",
    **settings: Any,
) -> ExampleSource:
    """Open a file as examples; ``settings`` are those of the data section."""
    return ExampleSource(path, DataSpec(train=path, unlabeled=path, **settings), fields, labels, kind)


def problems(opened: ExampleSource) -> list[str]:
    """Return the report of a whole pass."""
    return [str(problem) for problem in opened.scan().problems]
