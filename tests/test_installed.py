"""What ``pip install petkit`` gives: the wheel alone, outside of the checkout, knows the library and runs the example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from zipfile import ZipFile

import pytest

from petkit.config.library import KINDS, entries

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an installer unpacks from the wheel; it is built by the backend of pyproject.toml, without the network."""
    from hatchling.build import build_wheel

    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel = build_wheel(str(built))
    with ZipFile(built / wheel) as archive:
        archive.extractall(site)
    return site


def output(installed: Path, *command: str) -> str:
    """Return what a command prints that takes petkit from the wheel alone."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    answer = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_wheel_holds_the_package_and_the_library(installed: Path) -> None:
    found = {path.relative_to(installed / "petkit" / "library") for path in installed.rglob("library/**/*") if path.is_file()}
    files = (path for kind in KINDS for path in (ROOT / kind).rglob("*") if path.suffix in (".yaml", ".jsonl", ".md"))

    assert found == {path.relative_to(ROOT) for path in files}
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"petkit"}
    assert {path.name for path in (installed / "petkit").iterdir() if path.is_dir()} == {
        *(path.parent.name for path in (ROOT / "petkit").glob("*/__init__.py")), "assets", "library",
    }  # fmt: skip


def test_the_library_is_that_of_the_wheel(installed: Path, here: Path) -> None:
    root = output(installed, "-c", "from petkit.config import library; print(library.ROOT)").strip()

    assert root == str(installed / "petkit" / "library")
    assert json.loads(output(installed, "-m", "petkit", "library", "--json")) == [asdict(entry) for entry in entries()]


def test_the_example_runs(installed: Path, here: Path) -> None:
    petkit = ("-m", "petkit")
    output(installed, *petkit, "init", "shop", "--example", "support-tickets")
    output(installed, *petkit, "validate", "shop/pipeline.yaml", "--set", "patterns=petkit:topic", "--offline")

    few = ("teachers.steps=1", "student.steps=1", "data.unlabeled=shop/data/train.jsonl")
    settings = [option for setting in few for option in ("--set", setting)]
    output(installed, *petkit, "run", "shop/pipeline.yaml", *settings, "--offline", "--quiet")

    metrics = json.loads((here / "runs/support-tickets/evaluation/metrics.json").read_text(encoding="utf-8"))
    assert metrics["rows"] == 150
    answer = json.loads(output(installed, *petkit, "predict", "runs/support-tickets", "where is my parcel?"))
    assert answer["label"] in metrics["student"]["labels"]
