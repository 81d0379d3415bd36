"""The stages alone, asked for beforehand: ``--dry-run`` refuses and skips as the real run does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]


@pytest.mark.parametrize(("command", "first"), [("stage-b", "stage-a"), ("stage-c", "stage-b")])
def test_dry_run_before_its_time_is_refused_as_the_run_is(command: str, first: str, tiny: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(tiny)

    dry = petkit_command(command, "pipeline.yaml", "--dry-run")

    assert (dry.code, dry.out) == (2, "")
    assert f"run petkit {first} first" in dry.err
    assert project.snapshot(tiny) == before
    assert petkit_command(command, "pipeline.yaml") == dry


@pytest.fixture
def run(tiny: Path, finished_run: Path) -> Path:
    """A copy of the finished run beside the tiny project."""
    return Path(shutil.copytree(finished_run, tiny / "run"))


def test_stage_c_is_finished_also_without_the_teachers(run: Path, petkit_command: Petkit) -> None:
    shutil.rmtree(run / "stage_a")
    command = ("stage-c", "pipeline.yaml", "--out", "run", "--json")

    dry = petkit_command(*command, "--dry-run")

    assert (dry.code, dry.err) == (0, "")
    assert [(entry["step"], entry["action"]) for entry in json.loads(dry.out)["steps"]] == [("stage_c/model", "skip")]
    assert json.loads(petkit_command(*command, "--quiet").out)["ran"] == []


@pytest.mark.parametrize(("command", "step"), [("stage-b", "stage_b"), ("stage-c", "stage_c/model")])
def test_what_a_stage_reads_is_not_stale_unless_that_is_allowed(
    command: str, step: str, run: Path, petkit_command: Petkit
) -> None:
    options = ("--out", "run", "--json", "--set", "teachers.steps=3")
    stale = ["stage_a/colon-1/model", "stage_a/brackets-1/model"]

    dry = petkit_command(command, "pipeline.yaml", *options, "--dry-run")
    refused = petkit_command(command, "pipeline.yaml", *options, "--quiet")
    allowed = json.loads(petkit_command(command, "pipeline.yaml", *options, "--quiet", "--allow-stale").out)

    planned = [(entry["step"], entry["action"]) for entry in json.loads(dry.out)["steps"]]
    assert planned == [*((teacher, "stale") for teacher in stale), (step, "skip")]
    assert refused.code == 2 and len(json.loads(refused.out)["mistakes"]) == 1
    assert "run: would read steps made with other settings:" in refused.err
    assert allowed["ran"] == [] and allowed["stale"] == dict.fromkeys(stale, "stale: teachers.steps 2 → 3")


@pytest.mark.parametrize("command", ["run", "stage-a"])
def test_a_command_that_reads_no_earlier_stage_does_not_know_allow_stale(command: str, petkit_command: Petkit) -> None:
    answer = petkit_command(command, "pipeline.yaml", "--allow-stale")
    assert answer.code == 2 and "No such option: --allow-stale" in answer.err


def test_stage_b_refuses_logits_of_other_rows(run: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(run / "stage_b")
    rows = [{"text": text} for text in reversed(project.UNLABELED)]
    Path("unlabeled.jsonl").write_text(project.json_lines(rows), encoding="utf-8")

    answer = petkit_command("stage-b", "pipeline.yaml", "--out", "run", "--force", "--quiet", "--allow-stale")

    assert (answer.code, answer.out) == (2, "")
    reported = "run: the logits of teacher colon-1 are out of date: data.unlabeled changed (run petkit stage-a --force)\n"
    assert answer.err == reported
    assert project.snapshot(run / "stage_b") == before
