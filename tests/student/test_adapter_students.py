"""Students that are an adapter beside a model: what they need is said, and a damaged folder is refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.cli.console import show_result
from petkit.errors import ModelRefused
from petkit.predict.predictor import Predictor
from petkit.stages.pipeline import RunResult
from tests.tiny_task import load, run_task

QUICK = ("teachers.seeds=[1]", "teachers.steps=1", "student.steps=1")
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def made(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run whose student cannot be merged; nobody changes it."""
    folder = tmp_path_factory.mktemp("made") / "run"
    return run_task(pipeline_file, folder, *QUICK, "student.adapter={kind: prompt_tuning, tokens: 3}")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: {**about, "adapter": {"kind": "nothing_like_it"}},
        lambda about: {**about, "adapter": "lora"},
        lambda about: {**about, "adapter": {**about["adapter"], "tokens": "three"}},
        lambda about: {name: value for name, value in about.items() if name != "base"},
        lambda about: {name: value for name, value in about.items() if name != "base_sha256"},
        lambda about: {name: value for name, value in about.items() if name != "labels"},
        lambda about: {**about, "labels": [1, 2, 3]},
        lambda about: {**about, "base": ""},
        lambda about: {**about, "label_kind": "many"},
        lambda about: ["adapter"],
        lambda about: None,
    ],
)
def test_a_damaged_description(change: Change, made: RunResult, here: Path) -> None:
    folder = Path(shutil.copytree(made.student, here / "model"))
    assert Predictor.load(folder)(["a game"])
    about = json.loads((folder / "petkit.json").read_text())
    (folder / "petkit.json").write_text(json.dumps(change(about)))
    (folder / "step.json").unlink()  # which would notice the change before anything is read

    with pytest.raises(ModelRefused) as error:
        Predictor.load(folder)
    # Not adapter.prompt_tuning.tokens: pydantic's names of the adapters are not in the file.
    assert re.fullmatch(
        r"model/petkit\.json: (labels\.0 is |\w+ is )?damaged \(take the folder from its run again\)", str(error.value)
    )


def test_weights_that_are_gone(made: RunResult, here: Path) -> None:
    folder = Path(shutil.copytree(made.student, here / "model"))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelRefused, match=r"^model: adapter_model\.safetensors is missing$"):
        Predictor.load(folder)


def test_what_it_needs_is_said(made: RunResult, pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(pipeline_file).spec.model
    assert made.student_base == model
    show_result(made)
    reported = capsys.readouterr().out.splitlines()[-2:]
    assert reported == [f"classifier: {made.student}", f"this one is an adapter: it needs petkit and {model} to answer"]

    merged = run_task(pipeline_file, here / "run", *QUICK, "student.adapter=lora")
    assert merged.student_base is None
    show_result(merged)
    assert capsys.readouterr().out.splitlines()[-1] == f"classifier: {merged.student}"
