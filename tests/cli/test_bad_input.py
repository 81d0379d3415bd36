"""Input that looks like a mistake and is none, and a run folder that another process holds.

The mistakes themselves are data: ``tests/bad_inputs``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]


@pytest.mark.parametrize("words", [("no", "yes"), ("on", "off"), ("null", "true"), ("0", "1")], ids="-".join)
def test_yaml_constants_are_words(words: tuple[str, str], tiny: Path, petkit_command: Petkit) -> None:
    """Label names are plain text whatever YAML makes of them elsewhere."""
    rows = [{"text": text, "label": words[label == "World"]} for text, label in project.TRAIN]
    (tiny / "train.jsonl").write_text(project.json_lines(rows), encoding="utf-8")
    (tiny / "verbalizer.yaml").write_text(f"labels:\n  {words[0]}: [no]\n  {words[1]}: [yes]\n", encoding="utf-8")

    answer = petkit_command("validate", "pipeline.yaml", "--set", "data.test=null")

    assert (answer.code, answer.err) == (0, "")
    assert f"\n{words[0]} " in answer.out and "no → no" in answer.out and "yes → yes" in answer.out


def test_a_number_with_an_exponent_is_a_number(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("run", "pipeline.yaml", "--dry-run", "--set", "teachers.learning_rate=1e-5")

    assert (answer.code, answer.err) == (0, "")


def test_run_folder_in_use_by_another_process(tiny: Path, petkit_command: Petkit) -> None:
    (tiny / "run").mkdir()
    hold = (
        "import filelock, sys; lock = filelock.FileLock('run/.lock'); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        before = project.snapshot(tiny / "run")

        answer = petkit_command("run", "pipeline.yaml", "--out", "run")

        assert (answer.code, answer.out) == (2, "")
        assert answer.err == "run: in use by another process (wait for it, or choose another --out)\n"
        assert {name: size for name, (size, _) in project.snapshot(tiny / "run").items()} == {
            name: size for name, (size, _) in before.items()
        }
        other.communicate("")
