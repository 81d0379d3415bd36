"""Help, version and completion: quick, light, with an example for every command."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest
import typer

import petkit
from petkit.__main__ import main as entry
from petkit.cli import app
from tests.cli.conftest import Outcome
from tests.processor import slowness

COMMANDS = tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = ("torch", "transformers", "peft", "datasets", "sklearn", "matplotlib", "pyarrow", "accelerate", "numpy", "pandas")


def fresh(*options: str) -> subprocess.CompletedProcess[str]:
    """Run ``petkit --help`` in a new process."""
    return subprocess.run([sys.executable, *options, "-m", "petkit", "--help"], capture_output=True, text=True, check=True)


def test_help_is_there_in_a_moment() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        fresh()
        seconds.append(time.perf_counter() - started)

    assert min(seconds) < 0.6 * slowness()


def test_help_loads_nothing_heavy() -> None:
    lines = fresh("-X", "importtime").stderr.splitlines()
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}

    assert {"petkit", "typer", "rich"} <= loaded  # the list was read as it should be
    assert loaded.isdisjoint(HEAVY)


def test_a_run_with_nothing_to_do_waits_for_no_model_code() -> None:
    """They take most of ten seconds, and are loaded where a model, an adapter or a metric is first needed."""
    later = {
        "transformers.models",
        "peft",
        "accelerate",
        "sklearn",
        "datasets",
        "pandas",
        "transformers.modeling_utils",
        "torch._dynamo",
    }
    command = "import sys, petkit.stages.pipeline, petkit.runs.verify; print(*sys.modules, sep='\\n')"
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())

    assert {"torch", "petkit.stages.a_teachers"} <= loaded
    assert loaded.isdisjoint(later)


def test_help_names_every_command() -> None:
    answer = fresh().stdout

    expected = {"run", "stage-a", "stage-b", "stage-c", "predict", "evaluate", "validate", "init", "doctor"}
    expected |= {"zero-shot", "rank-patterns", "search-verbalizer", "adapt", "pretrain-prompt", "verify", "library"}
    assert set(COMMANDS) == expected
    assert all(f"\n  {name} " in answer for name in COMMANDS)
    assert "Start: petkit init" in answer


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str, petkit_command: Callable[..., Outcome]) -> None:
    answer = petkit_command(name, "--help")

    assert (answer.code, answer.err) == (0, "")
    assert f"Example: petkit {name} " in " ".join(answer.out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]

    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


def test_version(petkit_command: Callable[..., Outcome]) -> None:
    answer = petkit_command("--version")

    assert (answer.code, answer.out, answer.err) == (0, f"petkit {petkit.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("run",), "Missing argument 'PIPELINE'"),
        (("run", "pipeline.yaml", "--nonsense"), "No such option: --nonsense"),
        (("run", "pipeline.yaml", "surplus"), "unexpected extra argument"),
        (("evaluate", "run"), "Missing argument 'DATA'"),
    ],
    ids=["command", "missing", "option", "surplus", "second missing"],
)
def test_wrong_use_is_reported_without_a_trace(
    arguments: tuple[str, ...], reported: str, petkit_command: Callable[..., Outcome]
) -> None:
    answer = petkit_command(*arguments)

    assert (answer.code, answer.out) == (2, "")
    assert reported in answer.err and "Traceback" not in answer.err


def test_without_a_command_it_explains_itself(petkit_command: Callable[..., Outcome]) -> None:
    answer = petkit_command()

    assert answer.code == 2
    assert "stage-a" in answer.out + answer.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, petkit_command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PETKIT_COMPLETE", f"source_{shell}")

    answer = petkit_command()

    assert (answer.code, answer.err) == (0, "")
    assert "_PETKIT_COMPLETE" in answer.out and "petkit" in answer.out


def test_completion_knows_the_commands(petkit_command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PETKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "petkit sta")
    monkeypatch.setenv("COMP_CWORD", "1")

    answer = petkit_command()

    assert answer.out.split() == ["stage-a", "stage-b", "stage-c"]


def test_the_installed_command_is_this_one() -> None:
    (script,) = entry_points(group="console_scripts", name="petkit")

    assert script.load() is entry
