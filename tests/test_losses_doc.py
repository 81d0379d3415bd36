"""docs/losses.md: its Python runs, its table names every objective, its keys exist and its numbers are the code's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from petkit import losses
from petkit.config.schema.pipeline import PipelineSpec

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "losses.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ROWS = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in TEXT.splitlines() if line.startswith("| `")]
KEYS = sorted(set(re.findall(r"`((?:teachers|student|soft_labels)\.\w+|label_kind)(?::[^`]*)?`", TEXT)))


def test_python_runs() -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, 1):
        assert "assert" in block
        exec(compile(block, f"docs/losses.md, block {number}", "exec"), names)
    assert len(BLOCKS) >= 4


def test_table_names_every_objective() -> None:
    assert sorted(row[0].strip("`") for row in ROWS) == sorted(
        set(losses.__all__) - {"DIVERGENCES", "LOSSES", "mutual_information_bound"}
    )
    assert all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("key", KEYS)
def test_key_exists(key: str) -> None:
    section: type[BaseModel] = PipelineSpec
    for name in key.split("."):
        assert name in section.model_fields
        kind = section.model_fields[name].annotation
        section = kind if inspect.isclass(kind) and issubclass(kind, BaseModel) else section


def test_page_is_two_pages() -> None:
    assert len(TEXT.splitlines()) <= 160
