"""What needs no model to be refused is refused before one is downloaded or loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import InvalidInput, RunConflict
from petkit.models import hub, loading
from petkit.pretraining import unlabeled_texts
from petkit.pretraining.adapt import adapt
from petkit.pretraining.pretrain_prompt import pretrain_prompt
from petkit.stages import pipeline as spine
from tests.tiny_task import load

Start = Callable[..., object]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were looked up on the hub, or read."""
    found: list[str] = []

    def count(name: str, *rest: object) -> object:
        found.append(name)
        raise InvalidInput([])

    monkeypatch.setattr(hub, "hub_folder", count)
    monkeypatch.setattr(loading, "load_config", count)
    monkeypatch.setattr(unlabeled_texts, "load_config", count)
    return found


@pytest.mark.parametrize("start", [spine.prepare, adapt, pretrain_prompt])
def test_a_folder_that_is_not_to_be_written(start: Start, loads: list[str], pipeline_file: Path, copy: Path, here: Path) -> None:
    (here / "file").write_text("")
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("")
    (here / "linked").mkdir()
    (here / "linked" / "manifest.json").symlink_to(copy / "manifest.json")
    pipeline = load(pipeline_file, "model=somebody/model@v1")
    cases = [("file", "auto"), ("full", "auto"), ("linked", "auto"), ("run/inner", "auto"), ("run", "never"), ("new", "require")]
    for folder, resume in cases:
        with pytest.raises(RunConflict):
            start(pipeline, here / folder, resume=resume)
    with pytest.raises(InvalidInput, match="--resume: unknown 'maybe'"):
        start(pipeline, here / "new", resume="maybe")
    with pytest.raises(InvalidInput, match=r"compute\.device"):
        start(load(pipeline_file, "model=somebody/model@v1", "compute.device=cuda:9"), here / "new")
    assert loads == [] and not (here / "new").exists()


def test_a_stage_that_is_not_there(loads: list[str], pipeline_file: Path, here: Path) -> None:
    with pytest.raises(InvalidInput, match="force: unknown stage 'd'"):
        spine.prepare(load(pipeline_file), here / "new", force="d")
    assert loads == []


def test_models_are_looked_up_last(loads: list[str], pipeline_file: Path, here: Path) -> None:
    with pytest.raises(InvalidInput):
        spine.prepare(load(pipeline_file, "model=somebody/model@v1"), here / "new")
    assert loads == ["somebody/model@v1"]
