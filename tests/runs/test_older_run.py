"""A run folder made by an older petkit: nothing to do but for steps of a newer version, whole, and the same predictions."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.cli import main
from petkit.runs.provenance import COMPUTING, machine, package_versions

MADE = Path(__file__).parent / "older_run"
# The steps whose version was raised since, and what follows them.
RAISED = {
    "stage_c/model": "stale: step.version 2 → 3",
    "evaluation": "stale: step.version 3 → 4",
    **{f"baselines/{name}": "stale: step.version 2 → 3" for name in ("majority", "supervised", "tfidf", "zero_shot")},
}


@pytest.fixture
def older(here: Path) -> Path:
    """A copy of the folder that the older petkit left, as the current folder."""
    shutil.copytree(MADE, here, dirs_exist_ok=True)
    return here


@pytest.fixture
def petkit_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``petkit`` in this process; returns its standard output."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["petkit", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code in (None, 0)
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(("pipeline", "run"), [("pipeline.yaml", "run"), ("adapters.yaml", "adapters")])
def test_a_run_has_nothing_to_do(pipeline: str, run: str, older: Path, petkit_command: Callable[..., str]) -> None:
    before = _files(older / run)

    planned = json.loads(petkit_command("run", pipeline, "--out", run, "--dry-run", "--json"))
    results = [json.loads(petkit_command(f"stage-{stage}", pipeline, "--out", run, "--quiet", "--json")) for stage in "ab"]

    steps = {step["step"] for step in planned["steps"]}
    assert {step["step"]: step["why"] for step in planned["steps"] if step["action"] != "skip"} == {
        step: why for step, why in RAISED.items() if step in steps
    }
    assert {f"{step}/step.json" for step in steps} == {name for name in before if name.endswith("step.json")}
    assert [result["ran"] for result in results] == [[], []]
    assert _files(older / run) == before


@pytest.mark.parametrize(("command", "folder"), [("adapt", "adapted"), ("pretrain-prompt", "prompt")])
def test_pretraining_has_nothing_to_do(command: str, folder: str, older: Path, petkit_command: Callable[..., str]) -> None:
    before = _files(older / folder)

    result = json.loads(petkit_command(command, "pipeline.yaml", "--out", folder, "--quiet", "--json"))

    assert result["ran"] is False
    assert _files(older / folder) == before


@pytest.mark.parametrize("folder", ["run", "adapters", "adapted", "prompt"])
def test_it_verifies_whole(folder: str, older: Path, petkit_command: Callable[..., str]) -> None:
    report = json.loads(petkit_command("verify", folder, "--json"))

    assert {entry["state"] for entry in report["entries"]} == {"whole"}
    assert len(report["entries"]) == 3 + len(list((older / folder).rglob("step.json")))  # with those at the top


@pytest.mark.parametrize(("run", "which"), [("run", "student"), ("run", "teachers"), ("adapters", "student")])
def test_it_predicts_the_same(run: str, which: str, older: Path, petkit_command: Callable[..., str]) -> None:
    petkit_command("predict", run, "--input", "unlabeled.jsonl", "--output", "now.jsonl", "--with", which, "--offline")

    now, then = (Path(name).read_bytes() for name in ("now.jsonl", f"predicted-{run}-{which}.jsonl"))
    manifest = json.loads((older / run / "manifest.json").read_bytes())
    versions = package_versions()
    here = {"processor": machine()["processor"], **{name: versions[name] for name in COMPUTING}}
    if here == {"processor": manifest["machine"]["processor"], **{name: manifest["versions"][name] for name in COMPUTING}}:
        assert now == then
    else:  # other arithmetic rounds differently
        assert [_rounded(line) for line in now.splitlines()] == [_rounded(line) for line in then.splitlines()]


def _rounded(line: bytes) -> dict[str, object]:
    row = json.loads(line)
    return {**row, **{name: pytest.approx(value, abs=1e-4) for name, value in row.items() if isinstance(value, float | dict)}}


def _files(folder: Path) -> dict[str, bytes]:
    """All files but the log, and the pipeline with its absolute paths."""
    own = ("events.jsonl", "config.resolved.yaml")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in own]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
