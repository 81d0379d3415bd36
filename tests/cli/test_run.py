"""``petkit run`` and the stages alone, on a tiny model: what is done, said and left alone."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from petkit import events
from petkit.cli import console, spell_out_force
from petkit.cli.progress import RunDisplay
from petkit.formatting import duration, size
from petkit.stages import pipeline as spine
from tests.cli import project
from tests.cli.conftest import Outcome

STEPS = (
    "stage_a/colon-1/model",
    "stage_a/colon-1/logits",
    "stage_a/brackets-1/model",
    "stage_a/brackets-1/logits",
    "stage_b",
    "stage_c/model",
    "evaluation",
)
FINISHED = dict.fromkeys(STEPS, "skip")
NOT_DONE = dict.fromkeys(STEPS, "run")
Petkit = Callable[..., Outcome]


@pytest.fixture
def beside_run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny project with its finished run folder ``run``, and the current folder there."""
    shutil.copytree(finished_run.parent, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def plan(answer: Outcome) -> dict[str, str]:
    """Return step → action of a dry run with ``--json``."""
    assert (answer.code, answer.err) == (0, "")
    return {entry["step"]: entry["action"] for entry in json.loads(answer.out)["steps"]}


def reasons(answer: Outcome) -> dict[str, str]:
    """Return step → reason of a dry run with ``--json``."""
    return {entry["step"]: entry["why"] for entry in json.loads(answer.out)["steps"]}


def test_run_and_run_again(tiny: Path, petkit_command: Petkit) -> None:
    first = petkit_command("run", "pipeline.yaml")

    assert first.code == 0
    run = tiny / "runs" / "tiny"
    assert all((run / step / "step.json").is_file() for step in STEPS)
    for shown in ("accuracy on 3 test rows", "teacher colon-1", "teacher brackets-1", "ensemble", "student"):
        assert f"\n{shown}" in f"\n{first.out}"
    assert first.out.endswith(f"classifier: {Path('runs/tiny/stage_c/model')}\n")
    before = project.snapshot(run)

    second = petkit_command("run", "pipeline.yaml")

    assert second.code == 0
    assert second.out.startswith("Nothing to do: every step is finished and up to date.\n")
    assert second.err.splitlines() == [f"{step}: up to date" for step in STEPS]
    rewritten = {"events.jsonl", "manifest.json", "config.resolved.yaml"}
    after = project.snapshot(run)
    assert {name: after[name] for name in after if name not in rewritten} == {
        name: before[name] for name in before if name not in rewritten
    }
    assert not (run / ".work").exists()


def test_each_step_is_one_line_where_nobody_watches(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("run", "pipeline.yaml")

    done = [line for line in answer.err.splitlines() if "done in" in line]
    assert [line.partition(":")[0] for line in done] == list(STEPS)
    assert answer.err.startswith("about ") and " of disk will be needed; " in answer.err.splitlines()[0]
    assert len(answer.err.splitlines()) <= len(STEPS) + 5  # each of two remarks takes a line and breaks that of its step in two
    assert "\x1b" not in answer.err + answer.out and "\r" not in answer.err


def test_quiet_and_json(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("run", "pipeline.yaml", "--quiet", "--json", "--out", "elsewhere")

    assert (answer.code, answer.err) == (0, "")
    reported: dict[str, Any] = json.loads(answer.out)
    assert reported["run"] == "elsewhere"
    assert (tiny / reported["student"] / "config.json").is_file()
    assert tuple(reported["ran"]) == STEPS
    assert reported["metrics"]["rows"] == 3
    assert set(reported["metrics"]["teachers"]) == {"colon-1", "brackets-1"}
    assert not (tiny / "runs").exists()


def test_json_is_alone_on_standard_output_when_progress_is_shown(beside_run: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("run", "pipeline.yaml", "--out", "run", "--json")

    assert json.loads(answer.out)["ran"] == []
    assert answer.err.splitlines() == [f"{step}: up to date" for step in STEPS]


def test_without_a_test_set_nothing_is_evaluated(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("run", "pipeline.yaml", "--set", "data.test=null", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    assert "accuracy" not in answer.out and "classifier: " in answer.out
    assert not (tiny / "runs/tiny/evaluation").exists()


@pytest.mark.parametrize("command", ["run", "stage-a"])
def test_dry_run_writes_nothing(command: str, tiny: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(tiny)

    answer = petkit_command(command, "pipeline.yaml", "--dry-run")

    assert (answer.code, answer.err) == (0, "")
    own = [step for step in STEPS if command == "run" or step.startswith(command.replace("-", "_"))]
    reported, _, expected = answer.out.partition("estimate ")
    assert [line.split()[:5] for line in reported.splitlines()[1:]] == [[step, "run", "not", "done", "yet"] for step in own]
    stages = ["stage a"] if command == "stage-a" else ["stage a", "stage b", "stage c", "evaluation"]
    assert [line[:10].strip() for line in expected.splitlines()[1:-2]] == [*stages, "in all"]
    assert project.snapshot(tiny) == before


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ((), {}),
        (("--force",), {}),
        (("--force", "stale"), {}),
        (("--force", "evaluation"), {"evaluation": "run"}),
        (("--force", "c"), {"stage_c/model": "run", "evaluation": "run"}),
        (("--force=c", "--quiet"), {"stage_c/model": "run", "evaluation": "run"}),
        (("--force", "b"), {"stage_b": "run", "stage_c/model": "run", "evaluation": "run"}),
        (("--force", "a"), NOT_DONE),
        (("--force", "all"), NOT_DONE),
        (("--set", "student.steps=3"), {"stage_c/model": "stale", "evaluation": "run"}),
        (("--force", "--set", "student.steps=3"), {"stage_c/model": "run", "evaluation": "run"}),
        (("--set", "student.steps=3", "--force"), {"stage_c/model": "run", "evaluation": "run"}),
        (("--set", "compute.tokens_per_batch=64"), {}),
        (("--out", "new"), NOT_DONE),
    ],
    ids=" ".join,
)
def test_dry_run_says_what_would_run(
    options: tuple[str, ...], changes: dict[str, str], beside_run: Path, petkit_command: Petkit
) -> None:
    before = project.snapshot(beside_run)

    answer = petkit_command("run", "--out", "run", "--dry-run", "--json", "pipeline.yaml", *options)

    assert plan(answer) == FINISHED | changes
    assert project.snapshot(beside_run) == before


def test_dry_run_says_why(beside_run: Path, petkit_command: Petkit) -> None:
    shutil.rmtree(beside_run / "run" / "stage_b")

    answer = petkit_command("run", "pipeline.yaml", "--out", "run", "--dry-run", "--json", "--set", "student.steps=3")

    reported = reasons(answer)
    assert reported["stage_a/colon-1/model"] == "finished"
    assert reported["stage_b"] == "not done yet"
    assert "student.steps 2 → 3" in reported["stage_c/model"]
    table = petkit_command("run", "pipeline.yaml", "--out", "run", "--dry-run", "--set", "student.steps=3").out
    reported, _, expected = table.partition("estimate ")
    assert "student.steps 2 → 3" in reported and len(reported.splitlines()) == len(STEPS) + 1
    assert [line[:10].strip() for line in expected.splitlines()[1:4]] == ["stage b", "stage c", "evaluation"]


def test_stale_steps_wait_for_force(beside_run: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(beside_run)
    changed = ("run", "pipeline.yaml", "--out", "run", "--set", "student.steps=3", "--quiet", "--json")

    refused = petkit_command(*changed)

    assert refused.code == 2 and len(json.loads(refused.out)["mistakes"]) == 1
    assert "stage_c/model: stale: student.steps 2 → 3" in refused.err and "--force" in refused.err
    assert project.snapshot(beside_run) == before

    forced = petkit_command(*changed, "--force")

    assert forced.code == 0
    assert json.loads(forced.out)["ran"] == ["stage_c/model", "evaluation"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("run p.yaml --force", "run p.yaml --force=stale"),
        ("run --force p.yaml", "run --force=stale p.yaml"),
        ("run --force a p.yaml", "run --force a p.yaml"),
        ("run p.yaml --force --out x", "run p.yaml --force=stale --out x"),
        ("run p.yaml --force=b --force", "run p.yaml --force=b --force=stale"),
        ("predict run -- --force", "predict run -- --force"),
        ("", ""),
    ],
)
def test_bare_force_means_stale(written: str, meant: str) -> None:
    assert spell_out_force(written.split()) == meant.split()


def test_stages_alone_meet_in_the_run_folder(tiny: Path, petkit_command: Petkit) -> None:
    for stage in "abc":
        answer = petkit_command(f"stage-{stage}", "pipeline.yaml", "--json", "--quiet")
        assert (answer.code, answer.err) == (0, "")
        reported = json.loads(answer.out)
        assert reported["ran"] == [step for step in STEPS if step.startswith(f"stage_{stage}")]
        assert reported["metrics"] is None

    answer = petkit_command("run", "pipeline.yaml", "--json", "--quiet")

    assert json.loads(answer.out)["ran"] == ["evaluation"]


@pytest.mark.parametrize(("command", "first"), [("stage-b", "stage-a"), ("stage-c", "stage-b")])
def test_a_stage_before_its_time_names_the_missing_command(command: str, first: str, tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command(command, "pipeline.yaml")

    assert (answer.code, answer.out) == (2, "")
    assert f"run petkit {first} first" in answer.err


def test_set_takes_paths_from_the_current_folder(tiny: Path, petkit_command: Petkit) -> None:
    (tiny / "deep").mkdir()
    for name in ("pipeline.yaml", "patterns.yaml", "verbalizer.yaml", "unlabeled.jsonl", "test.jsonl"):
        (tiny / name).rename(tiny / "deep" / name)

    answer = petkit_command("validate", "deep/pipeline.yaml", "--set", "data.train=train.jsonl")

    assert (answer.code, answer.err) == (0, "")
    assert petkit_command("validate", "deep/pipeline.yaml").code == 2


@pytest.mark.parametrize(
    ("error", "code", "reported"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished work is kept, run the same command to go on"),
        (SystemExit(143), 143, "interrupted; finished work is kept, run the same command to go on"),
        (OSError(28, "No space left on device", "weights"), 1, "petkit: weights: No space left on device"),
        (RuntimeError("broken"), 1, "petkit: internal error: RuntimeError: broken (set PETKIT_DEBUG=1"),
    ],
    ids=["Ctrl-C", "SIGTERM", "full disk", "fault"],
)
def test_what_stops_a_run_is_reported_in_one_line(
    error: BaseException, code: int, reported: str, tiny: Path, petkit_command: Petkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("PETKIT_DEBUG", raising=False)
    monkeypatch.setattr(spine, "run", stop)

    answer = petkit_command("run", "pipeline.yaml")

    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(reported) and answer.err.count("\n") == 1


def test_debugging_shows_the_cause(here: Path, petkit_command: Petkit, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = petkit_command("validate", "missing.yaml")
    monkeypatch.setenv("PETKIT_DEBUG", "1")

    debugged = petkit_command("validate", "missing.yaml")

    assert (plain.code, plain.out) == (debugged.code, debugged.out) == (2, "")
    assert "Traceback" not in plain.err
    assert debugged.err.startswith("Traceback") and "FileNotFoundError" in debugged.err and debugged.err.endswith(plain.err)


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=120, highlight=False))

    with RunDisplay(quiet=False) as display:
        display(events.RunStarted(1))
        display(events.StepStarted("stage_b", "not done yet"))
        display(events.Progress("stage_b", 3, 4, "rows", "[b]note"))
        display(events.StepFinished("stage_b", 1.25, {"rows": 4, "seconds": 1.25, "mean_entropy": 0.12345, "last_loss": 2.0}))

    assert "whole run" in screen.getvalue() and "left" in screen.getvalue()
    assert "stage_b: done in 1.2 s (rows 4, mean_entropy 0.123 nats, last_loss 2)" in screen.getvalue()


def test_a_remark_gets_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=paper, highlight=False, soft_wrap=True))

    with RunDisplay(quiet=False) as display:
        for step in ("one", "two"):
            display(events.StepStarted(step, "not done yet"))
            display(events.Progress(step, 1, 2, "rows"))
            if step == "two":
                display(events.Notice(step, "[b]look[/b]"))
            display(events.StepFinished(step, 1.0, {}))
        display(events.StepStarted("three", "forced"))

    assert [line.rstrip() for line in paper.getvalue().split("\n")] == [
        "one: not done yet … done in 1.0 s",
        "two: not done yet …",
        "two: [b]look[/b]",
        "two: done in 1.0 s",
        "three: forced …",
        "",
    ]


def test_validate_as_json(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("validate", "pipeline.yaml", "--json")

    reported = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert reported["rows"] == {"train": 4, "unlabeled": 5, "test": 3}
    assert [word["written"] for word in reported["patterns"][0]["words"]["Sports"]] == ["sports", "football"]


def test_a_dry_run_tells_people_and_programs_the_same(beside_run: Path, petkit_command: Petkit) -> None:
    command = ("run", "pipeline.yaml", "--out", "run", "--dry-run", "--force", "c")

    reported = json.loads(petkit_command(*command, "--json").out)["estimate"]
    table = petkit_command(*command).out.partition("estimate ")[2].splitlines()

    assert reported["timed"] == "finished steps" and list(reported["stages"]) == ["c", "evaluation"]
    for line, cost in zip(table[1:4], [*reported["stages"].values(), reported["total"]], strict=True):
        assert f" {duration(cost['seconds'])} " in line and line.endswith(f" {size(cost['disk'])}")
    assert reported["total"]["seconds"] == pytest.approx(sum(cost["seconds"] for cost in reported["stages"].values()))
    assert table[4].startswith(f"disk: {size(reported['disk']['written'])} to be written")


def test_a_full_disk_is_reported_in_one_line(tiny: Path, petkit_command: Petkit, monkeypatch: pytest.MonkeyPatch) -> None:
    before, usage = project.snapshot(tiny), shutil.disk_usage(tiny)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))

    answer = petkit_command("run", "pipeline.yaml")

    assert (answer.code, answer.out) == (2, "") and answer.err.count("\n") == 1
    assert answer.err.startswith(f"{Path('runs/tiny')}: too little disk: the run writes about ")
    assert "; 1 kB are free (free some, choose another --out" in answer.err
    assert project.snapshot(tiny) == before
