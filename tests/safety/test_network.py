"""No address is opened unless the pipeline names something on the hub, and with ``--offline`` not even then."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from petkit import network
from petkit.cli import app
from petkit.cli.options import load
from tests.test_docs import ROOT

REMOTE = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"}


def guarded(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run petkit where every connection ends the process with 99."""
    environment = {name: value for name, value in os.environ.items() if name not in REMOTE}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hub"), **more}
    command = [sys.executable, "-m", "tests.safety.guarded", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_and_its_predictions_open_no_address(tiny: Path) -> None:
    run = guarded(tiny, "run", "pipeline.yaml", "--out", "run", "--set", "student.adapter=lora")
    assert (run.returncode, "NETWORK" in run.stderr) == (0, False), run.stderr

    answer = guarded(tiny, "predict", "run", "the team was good", "--with", "teachers")

    assert (answer.returncode, "NETWORK" in answer.stderr) == (0, False), answer.stderr
    assert '"label"' in answer.stdout


def test_the_guard_sees_a_hub_name(tiny: Path) -> None:
    answer = guarded(tiny, "validate", "pipeline.yaml", "--set", "model=somebody/tiny-bert")

    assert answer.returncode == 99 and "NETWORK" in answer.stderr


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}], ids=["plain", "reported otherwise"])
def test_offline_opens_no_address_for_hub_names(more: dict[str, str], tiny: Path) -> None:
    names = ("--set", "model=somebody/tiny-bert", "--set", "data.test=hf://somebody/rows/test")

    answer = guarded(tiny, "validate", "pipeline.yaml", "--offline", *names, **more)

    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.splitlines()
    assert lines and all("offline mode is on" in line for line in lines), answer.stderr


def test_the_environment_forbids_as_the_option_does(tiny: Path) -> None:
    answer = guarded(tiny, "validate", "pipeline.yaml", "--set", "model=somebody/tiny-bert", HF_HUB_OFFLINE="1")

    assert answer.returncode == 2 and "offline mode is on" in answer.stderr


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize(("value", "forbidden"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_what_the_environment_says(name: str, value: str, forbidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in REMOTE:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)

    assert network.is_forbidden() is forbidden


@pytest.mark.parametrize(
    ("override", "forbidden"),
    [(None, True), ("data.test=hf://somebody/rows/test", False), ("model=somebody/tiny-bert", False), ("model=embedded", True)],
)
def test_a_pipeline_that_names_nothing_on_the_hub_is_kept_offline(
    override: str | None, forbidden: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in REMOTE:
        monkeypatch.setenv(name, "0")

    load(Path("pipeline.yaml"), [] if override is None else [override])

    assert network.is_forbidden() is forbidden


def test_every_command_that_may_read_a_hub_name_can_stay_offline() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    without = {name for name, command in commands.items() if not any("--offline" in option.opts for option in command.params)}

    assert without == {"doctor", "library", "verify"}
    assert "offline" in inspect.signature(commands["run"].callback.__wrapped__).parameters
