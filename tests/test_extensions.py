"""Other packages add losses and the like by entry points; a pipeline file then chooses them by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petkit.config import registry
from petkit.errors import InvalidInput
from petkit.predict.predictor import Predictor
from petkit.runs.layout import BASELINE_FILE, baseline
from tests.tiny_task import run_task, write_task

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


# One of each kind; ``calls`` are those that were called.
EXTENSION = """
from typing import Literal

from petkit.baselines.base import Baseline, targets
from petkit.baselines.majority import majority_logits
from petkit.config.schema.adapter import LoraSpec
from petkit.config.schema.adapter import AdapterSection
from petkit.data.records import Record
from petkit.losses import cross_entropy, distillation
from petkit.models.adapters.lora_ia3 import LayerAdapter
from petkit.models.label_scorers import WordScorer

calls = []

def loss(label_logits, labels):
    calls.append("loss")
    return cross_entropy(label_logits, labels)

def divergence(student_logits, soft_labels, temperature, row_weights):
    calls.append("divergence")
    return distillation(student_logits, soft_labels, temperature, row_weights)

def calibration(scores):
    calls.append("calibration")
    return sum(block.sum(axis=0) for block in scores.unlabeled()) * 0

def rows(path, columns):
    calls.append("format")
    for line, row in enumerate(path.read_text().splitlines(), 1):
        yield Record(line, dict(zip(("label", "text"), row.split("|"))))

def answer(task, device, job):
    calls.append("baseline")
    return majority_logits(targets(task), task.scans["test"].rows), {"own": True}

baseline = Baseline(answer)

class RankOneSpec(AdapterSection):
    kind: Literal["own"]
    alpha: int = 2
    learning_rate: float = 0.001

class RankOne(LayerAdapter):
    settings = RankOneSpec
    mergeable = False

    def __init__(self, model, spec, soft_tokens=0, head=()):
        calls.append("adapter")
        super().__init__(model, LoraSpec(kind="lora", rank=1, alpha=spec.alpha), soft_tokens, head)

def scorer(model, pvp, soft_tokens, normalised):
    calls.append("scorer")
    return WordScorer(model, pvp.words.token_ids, soft_tokens)
"""
ENTRY_POINTS = """
[petkit.losses]
own = extension:loss
[petkit.divergences]
own = extension:divergence
[petkit.calibrations]
own = extension:calibration
[petkit.formats]
own = extension:rows
[petkit.baselines]
own = extension:baseline
[petkit.adapters]
own = extension:RankOne
[petkit.label_scorers]
own = extension:scorer
"""
CHOSEN = (
    "teachers.loss=own",
    "teachers.adapter={kind: own, alpha: 4}",
    "student.divergence=own",
    "student.adapter=own",
    "soft_labels.calibration=own",
    "baselines=[own]",
    "verbalizer.kind=own",
    "data.train=task/train.own",
)


def test_one_of_each_kind(install: Install, pipeline_file: Path, here: Path) -> None:
    install(EXTENSION, ENTRY_POINTS)
    train = map(json.loads, (here / "task/train.jsonl").read_text().splitlines())
    (here / "task/train.own").write_text("".join(f"{row['label']}|{row['text']}\n" for row in train))

    run_task(pipeline_file, here / "run", *CHOSEN, "teachers.steps=2", "student.steps=3", "teachers.seeds=[1]")

    calls = sys.modules["extension"].calls
    assert set(calls) == {"loss", "divergence", "calibration", "format", "baseline", "adapter", "scorer"}
    assert calls.count("loss") % 2 == 0 and calls.count("divergence") == 3
    assert json.loads((here / "run/stage_a/colon-1/model/adapter_config.json").read_text())["lora_alpha"] == 4
    assert json.loads((here / "run" / baseline("own") / BASELINE_FILE).read_text())["settings"] == {"own": True}
    for teachers in (False, True):
        assert Predictor.load(here / "run", teachers=teachers)(["the game team"])[0].label in ("Sports", "Science", "World")


def test_a_name_that_no_package_adds(pipeline_file: Path, here: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"teachers\.loss.*must be 'cross_entropy', 'hinge', 'decoupled_label' or 'next_token'"
    ):
        run_task(pipeline_file, here / "run", "teachers.loss=own")
