"""A run folder made by an older petkit: steps of a newer version are stale, all are whole, and it predicts the same."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.cli import main
from petkit.engine.device import Device
from petkit.task.task import Task
from petkit.teachers.training import training_inputs
from tests.tiny_task import load

MADE = Path(__file__).parent / "older_run"
# The steps whose version was raised since.
RAISED = {
    r"stage_c/model": "stale: step.version 2 → 3",
    r"evaluation": "stale: step.version 3 → 5, evaluation.teachers added",
    r"baselines/.*": "stale: step.version 2 → 3",
}


@pytest.fixture
def older(here: Path) -> Path:
    """A copy of the folder that the older petkit left, as the current folder."""
    shutil.copytree(MADE, here, dirs_exist_ok=True)
    for name, then in (("pipeline", "learning_rate: 5.0e-5, hard_weight: 0.2"), ("adapters", "hard_weight: 0.2")):
        pipeline = here / f"{name}.yaml"
        pipeline.write_text(pipeline.read_text().replace("student: {", f"student: {{{then}, "))  # the defaults then
    return here


@pytest.fixture
def petkit_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``petkit`` in this process; returns its standard output."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["petkit", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or 0) == code
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(("pipeline", "run"), [("pipeline.yaml", "run"), ("adapters.yaml", "adapters")])
def test_only_steps_of_a_newer_version_are_stale(
    pipeline: str, run: str, older: Path, petkit_command: Callable[..., str]
) -> None:
    before = _files(older / run)

    planned = json.loads(petkit_command("run", pipeline, "--out", run, "--dry-run", "--json"))

    for step in planned["steps"]:
        why = next((why for name, why in RAISED.items() if re.fullmatch(name, step["step"])), "")
        assert (step["action"], step["why"]) == ("stale", why) if why else step["action"] in ("skip", "run")
        assert step["action"] != "run" or step["why"].startswith("after stage_a/")
    assert {f"{step['step']}/step.json" for step in planned["steps"]} == {name for name in before if name.endswith("step.json")}
    assert _files(older / run) == before


def test_what_an_older_version_made_is_not_replaced_unasked(older: Path, petkit_command: Callable[..., str]) -> None:
    before = _files(older / "run")

    report = petkit_command("run", "pipeline.yaml", "--out", "run", "--quiet", "--json", code=2)

    (mistake,) = json.loads(report)["mistakes"]
    assert "made with other settings" in mistake["message"] and "step.version" in mistake["message"]
    assert _files(older / "run") == before


@pytest.mark.parametrize(
    ("command", "folder"), [("stage-a", "run"), ("adapt", "adapted"), ("pretrain-prompt", "prompt"), ("stage-a", "adapters")]
)
def test_what_is_the_same_today_is_not_made_again(
    command: str, folder: str, older: Path, petkit_command: Callable[..., str]
) -> None:
    before = _files(older / folder)

    pipeline = "adapters.yaml" if folder == "adapters" else "pipeline.yaml"
    report = json.loads(petkit_command(command, pipeline, "--out", folder, "--quiet", "--json"))

    assert report["ran"] in ([], False)
    assert {name: content for name, content in _files(older / folder).items() if name.endswith((".safetensors", ".parquet"))} == {
        name: content for name, content in before.items() if name.endswith((".safetensors", ".parquet"))
    }


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        ({}, 2),
        ({"dropout": 0.1}, 3),
        ({"adapter": "lora"}, 2),
        ({"adapter": {"kind": "lora", "dropout": 0.1}}, 3),
        ({"adapter": {"kind": "prompt_tuning", "tokens": 2}}, 2),
    ],
)
def test_teachers_that_drop_units_have_a_newer_version(settings: dict[str, Any], version: int, pipeline_file: Path) -> None:
    """Other units than in 0.1.0, because the last layer has fewer."""
    task = Task.checked(load(pipeline_file, f"teachers={json.dumps(settings)}"))
    assert training_inputs(task, Device("cpu", "float32", 1), task.teachers[0], [])["step.version"] == version


@pytest.mark.parametrize("folder", ["run", "adapters", "adapted", "prompt"])
def test_it_verifies_whole(folder: str, older: Path, petkit_command: Callable[..., str]) -> None:
    report = json.loads(petkit_command("verify", folder, "--json"))

    assert {entry["state"] for entry in report["entries"]} == {"whole"}
    assert len(report["entries"]) == 3 + len(list((older / folder).rglob("step.json")))  # with those at the top


@pytest.mark.parametrize(("run", "which"), [("run", "student"), ("run", "teachers"), ("adapters", "student")])
def test_it_predicts_the_same(run: str, which: str, older: Path, petkit_command: Callable[..., str]) -> None:
    petkit_command("predict", run, "--input", "unlabeled.jsonl", "--output", "now.jsonl", "--with", which, "--offline")

    now, then = (Path(name).read_bytes() for name in ("now.jsonl", f"predicted-{run}-{which}.jsonl"))
    # The last layer was computed at every position then: sums are rounded in another order.
    assert [json.loads(line) for line in now.splitlines()] == [_about(line) for line in then.splitlines()]


def _about(line: bytes) -> dict[str, object]:
    row = json.loads(line)
    return {**row, **{name: pytest.approx(value, abs=1e-5) for name, value in row.items() if isinstance(value, float | dict)}}


def _files(folder: Path) -> dict[str, bytes]:
    """All files but the log, and the pipeline with its absolute paths."""
    own = ("events.jsonl", "config.resolved.yaml")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in own]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
