"""What an installed petkit has to show: ``petkit library``, and ``petkit init --example``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from petkit.config.library import entries
from petkit.config.loader import load_pipeline
from tests.cli.conftest import Outcome
from tests.library import EXAMPLE


def test_the_library_is_listed(petkit_command: Callable[..., Outcome]) -> None:
    in_words, as_json = petkit_command("library"), petkit_command("library", "--json")

    lines = [line.split() for line in in_words.out.splitlines()[1:]]
    assert [(line[0], line[1], " ".join(line[2:])) for line in lines] == [(*asdict(entry).values(),) for entry in entries()]
    assert json.loads(as_json.out) == [asdict(entry) for entry in entries()]
    assert (in_words.code, as_json.code) == (0, 0)


def test_an_example_is_written(petkit_command: Callable[..., Outcome], here: Path) -> None:
    answer = petkit_command("init", "new/shop", "--example", EXAMPLE.name)

    written = {path.relative_to(here / "new/shop").as_posix() for path in (here / "new/shop").rglob("*") if path.is_file()}
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "Next: petkit validate new/shop/pipeline.yaml")
    assert written == {
        "pipeline.yaml", "patterns.yaml", "verbalizer.yaml",
        "data/README.md", "data/train.jsonl", "data/unlabeled.jsonl", "data/test.jsonl",
    }  # fmt: skip
    for name in written:
        original = (EXAMPLE / name).read_text(encoding="utf-8").replace(f"examples/{EXAMPLE.name}/", "new/shop/")
        assert (here / "new/shop" / name).read_text(encoding="utf-8") == original
    assert "petkit run new/shop/pipeline.yaml" in (here / "new/shop/pipeline.yaml").read_text(encoding="utf-8")
    spec = load_pipeline("new/shop/pipeline.yaml").spec
    assert spec.patterns == load_pipeline(EXAMPLE / "pipeline.yaml").spec.patterns
    assert spec.data.train == str(here / "new/shop/data/train.jsonl")
