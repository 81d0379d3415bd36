"""Every mistake a user can make: one line that says where, exit code 2, no traceback, nothing written.

The cases are data: what is changed in a sound project, the command, and what must be said.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import project
from tests.cli.bad_cases import CASES, Case
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
FRESH_CASES = ("two masks", "label not in the verbalizer", "pipeline file missing")


def set_up(case: Case, folder: Path, finished_run: Path, model: Path) -> tuple[str, ...]:
    """Break the sound project in the current folder as the case says; return the command's arguments."""
    if case.model is not None:
        shutil.copytree(model, folder / "model")
        for name, content in case.model.items():
            path = folder / "model" / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
    for name, (old, new) in case.edits.items():
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times"
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    for name, content in case.files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    places = {"RUN": str(finished_run), "STUDENT": str(finished_run / "stage_c" / "model")}
    return tuple(_filled(argument, places) for argument in case.arguments)


def _filled(argument: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        argument = argument.replace(name, place)
    return argument


def check(case: Case, code: int | None, out: str, err: str) -> None:
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err and "internal error" not in err
    for told in case.told:
        assert told in err
    if case.lines is not None:
        assert len(err.splitlines()) == case.lines, err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake(case: Case, tiny: Path, finished_run: Path, model_folder: Callable[[str], Path], petkit_command: Petkit) -> None:
    arguments = set_up(case, tiny, finished_run, model_folder("bert"))
    before = project.snapshot(tiny)

    answer = petkit_command(*arguments, stdin=case.stdin)

    check(case, answer.code, answer.out, answer.err)
    assert project.snapshot(tiny) == before


@pytest.mark.parametrize("case", [case for case in CASES if case.name in FRESH_CASES], ids=lambda case: case.name)
def test_mistake_in_a_fresh_process(case: Case, tiny: Path, finished_run: Path, model_folder: Callable[[str], Path]) -> None:
    arguments = set_up(case, tiny, finished_run, model_folder("bert"))
    before = project.snapshot(tiny)

    answer = subprocess.run([sys.executable, "-m", "petkit", *arguments], capture_output=True, text=True, check=False)

    check(case, answer.returncode, answer.stdout, answer.stderr)
    assert project.snapshot(tiny) == before


def test_case_names_are_different() -> None:
    names = [case.name for case in CASES]

    assert len(set(names)) == len(names)
    assert set(FRESH_CASES) <= set(names)


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


def test_run_folder_made_by_other_settings(tiny: Path, finished_run: Path, petkit_command: Petkit) -> None:
    shutil.copytree(finished_run, tiny / "run")
    before = project.snapshot(tiny)

    answer = petkit_command("run", "pipeline.yaml", "--out", "run", "--set", "teachers.steps=3", "--set", "student.steps=3")

    assert (answer.code, answer.out) == (2, "")
    for told in ("teachers.steps 2 → 3", "student.steps 2 → 3", "--force", "--out FOLDER"):
        assert told in answer.err
    assert project.snapshot(tiny) == before
