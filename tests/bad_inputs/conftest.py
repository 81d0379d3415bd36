"""Where the cases take their folders from; each is made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from petkit.pretraining.pretrain_prompt import pretrain_prompt
from tests.bad_inputs.corpus import MODEL
from tests.cli import project
from tests.cli.conftest import finished_run, petkit_command

__all__ = ["finished_run", "petkit_command"]
SHORT = ("pretrain_prompt.steps=2", "pretrain_prompt.tokens=2", "pretrain_prompt.objective=masked_lm")


@pytest.fixture(scope="session")
def prompt(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The folder of a prompt pretrained for the tiny model."""
    folder = tmp_path_factory.mktemp("prompt")
    pretrain_prompt(load_pipeline(project.write(folder, model_folder("bert")), SHORT), folder / "prompt")
    return folder / "prompt"


@pytest.fixture
def place(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> Callable[[str], Path]:
    """``place(name)`` is the folder that a case copies by that name."""

    def find(name: str) -> Path:
        made = {"RUN": "finished_run", "PROMPT": "prompt"}
        return Path(request.getfixturevalue(made[name])) if name in made else model_folder(name.lower())

    return find


@pytest.fixture
def sound(here: Path, model_folder: Callable[[str], Path]) -> Path:
    """The sound project in the current, otherwise empty folder."""
    shutil.copytree(model_folder("bert"), here / MODEL)
    project.write(here, Path(f"./{MODEL}"))
    text = (here / "pipeline.yaml").read_text(encoding="utf-8")
    (here / "pipeline.yaml").write_text(text.replace(f"model: {MODEL}", f"model: ./{MODEL}"), encoding="utf-8")
    return here
