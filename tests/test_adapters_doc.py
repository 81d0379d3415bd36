"""The options that docs/adapters.md lists are those there are, with their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from petkit.config.schema.adapter import adapter_class
from petkit.config.yaml_document import parse_document

ROOT = Path(__file__).resolve().parents[1]
DOC = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


def options() -> dict[str, dict[str, str]]:
    """Return kind → option → default, as the table has them."""
    found: dict[str, dict[str, str]] = {}
    kinds: list[str] = []
    table = DOC.split("| kind | option | default | meaning |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        kind, option, default, _ = (cell.strip() for cell in line.strip("|").split("|"))
        kinds = re.findall(r"`(\w+)`", kind) or kinds
        names = re.findall(r"`(\w+)`", option)
        defaults = default.replace("`", "").split(", ") if len(names) > 1 else [default.replace("`", "")]
        for each in kinds:
            found.setdefault(each, {}).update(zip(names, defaults, strict=True))
    return found


@pytest.mark.parametrize("kind", ["lora", "qlora", "ia3", "p_tuning_v2", "p_tuning_v1", "prompt_tuning"])
def test_options(kind: str) -> None:
    fields = {name: field.default for name, field in adapter_class(kind).model_fields.items() if name != "kind"}
    stated = options()[kind]
    assert stated.keys() == fields.keys()
    for name, default in fields.items():
        if default is not None:  # words say what stands for it
            assert parse_document(stated[name], "table").data == default, name


def test_the_example() -> None:
    block = DOC.split("```yaml\n")[1].split("```")[0]
    written = parse_document(block, "docs/adapters.md").data
    sets = [f"{section}.adapter.{key}={value}" for section in written for key, value in written[section]["adapter"].items()]
    spec = load_pipeline(ROOT / "examples" / "support-tickets" / "pipeline.yaml", sets).spec
    assert (spec.teachers.adapter.kind, spec.student.adapter.kind) == ("lora", "p_tuning_v2")
