"""Other packages add losses and the like by entry points; a pipeline file then chooses them by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petkit.config import registry
from petkit.errors import InvalidInput
from tests.stages.tiny_task import run_task, write_task

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package ``extension`` with some source text and entry points, as pip would."""

    def installed(source: str, entry_points: str) -> None:
        (tmp_path / "site" / "extension-1.0.dist-info").mkdir(parents=True)
        (tmp_path / "site" / "extension.py").write_text(source)
        (tmp_path / "site" / "extension-1.0.dist-info" / "METADATA").write_text("Name: extension\nVersion: 1.0\n")
        (tmp_path / "site" / "extension-1.0.dist-info" / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(tmp_path / "site")
        registry._added.cache_clear()

    yield installed
    sys.modules.pop("extension", None)
    registry._added.cache_clear()


@pytest.fixture
def pipeline_file(here: Path, model_folder: Callable[[str], Path]) -> Path:
    return write_task(here / "task", model_folder("bert"))


LOSSES = """
from petkit.losses import cross_entropy, distillation

calls = []

def own_loss(label_logits, labels):
    calls.append("loss")
    return cross_entropy(label_logits, labels)

def own_divergence(student_logits, soft_labels, temperature, row_weights):
    calls.append("divergence")
    return distillation(student_logits, soft_labels, temperature, row_weights)
"""


def test_losses(install: Install, pipeline_file: Path, here: Path) -> None:
    install(LOSSES, "[petkit.losses]\nown = extension:own_loss\n[petkit.divergences]\nown = extension:own_divergence\n")
    settings = ("teachers.steps=2", "student.steps=3", "teachers.seeds=[1]")
    run_task(pipeline_file, here / "run", "teachers.loss=own", "student.divergence=own", *settings, stages=("a", "b", "c"))
    calls = sys.modules["extension"].calls
    assert calls.count("loss") > 0 and calls.count("loss") % 2 == 0 and calls.count("divergence") == 3


def test_a_name_that_no_package_adds(pipeline_file: Path, here: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"teachers\.loss.*must be 'cross_entropy', 'hinge', 'decoupled_label' or 'next_token'"
    ):
        run_task(pipeline_file, here / "run", "teachers.loss=own")
