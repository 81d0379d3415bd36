"""``petkit zero-shot`` as a function: the accuracies of untrained patterns, plain and calibrated, and of all together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from petkit.commands import zero_shot as command
from petkit.commands.zero_shot import ZeroShot, zero_shot
from petkit.engine.device import Device
from petkit.engine.inference import FloatArray
from petkit.ensemble import batch_prior, contextual_prior, log_softmax
from petkit.errors import InvalidInput
from petkit.task.task import Task
from petkit.teachers import untrained
from petkit.teachers.models import load_scorer
from petkit.teachers.scoring import shard_logits
from tests.cli.project import snapshot
from tests.tiny_task import load, write_rows, write_task

DEVICE = Device("cpu", "float32", 1)
WAYS = ["raw", "contextual", "batch"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    return write_task(tmp_path_factory.mktemp("untrained"), model_folder("bert"))


@pytest.fixture(scope="module")
def found(task: Path) -> ZeroShot:
    return zero_shot(load(task))


def calibrated(task: Task, part: str) -> dict[str, list[FloatArray]]:
    """Return calibration → label logits of every pattern, without the function under test."""
    by_way: dict[str, list[FloatArray]] = {way: [] for way in WAYS}
    for pvp in task.pvps:
        scorer = load_scorer(task.spec.model, pvp, DEVICE)
        logits, unlabeled = (
            np.concatenate(list(shard_logits(scorer, pvp, task, name, DEVICE, lambda done: None))) for name in (part, "unlabeled")
        )
        content_free = untrained.content_free_logits(task, pvp, scorer, DEVICE)
        by_way["raw"].append(logits)
        by_way["contextual"].append(logits - contextual_prior(content_free))
        by_way["batch"].append(logits - batch_prior(unlabeled))
    return by_way


@pytest.mark.parametrize("part", ["train", "test"])
def test_accuracies(part: str, task: Path, found: ZeroShot) -> None:
    task = Task.checked(load(task))
    gold = np.array([example.label for example in task.rows(part)])
    expected = calibrated(task, part)

    for index, answers in enumerate(found.patterns.values()):
        assert answers.accuracy[part] == {
            way: pytest.approx((logits[index].argmax(1) == gold).mean()) for way, logits in expected.items()
        }
    assert found.ensemble.accuracy[part] == {
        way: pytest.approx((np.mean(logits, axis=0).argmax(1) == gold).mean()) for way, logits in expected.items()
    }


def test_what_is_reported(found: ZeroShot) -> None:
    assert (found.task, found.notes) == ("topics", ())
    assert found.rows == {"unlabeled": 30, "train": 9, "test": 15}
    assert list(found.patterns) == ["colon", "brackets"]
    for answers in (*found.patterns.values(), found.ensemble):
        assert list(answers.accuracy["test"]) == list(answers.label_shares) == WAYS


def test_label_shares(task: Path, found: ZeroShot) -> None:
    expected = calibrated(Task.checked(load(task)), "unlabeled")

    for way in WAYS:
        counts = np.bincount(expected[way][0].argmax(1), minlength=3) / 30
        assert found.patterns["colon"].label_shares[way] == dict(zip(("Sports", "Science", "World"), counts, strict=True))


def test_the_ensemble_combines_as_the_pipeline_says(task: Path) -> None:
    checked = Task.checked(load(task))
    gold = np.array([example.label for example in checked.rows("test")])
    votes = [np.exp(log_softmax(logits)) for logits in calibrated(checked, "test")["batch"]]

    found = zero_shot(load(task, "soft_labels.combine=probs"))

    assert found.ensemble.accuracy["test"]["batch"] == pytest.approx((np.mean(votes, axis=0).argmax(1) == gold).mean())


def test_the_test_set_teaches_nothing(task: Path, found: ZeroShot, tmp_path: Path) -> None:
    write_rows(tmp_path / "other.jsonl", [{"text": "a terrible movie", "label": "World"}])

    other = zero_shot(load(task, f"data.test={tmp_path / 'other.jsonl'}"))

    assert other.rows["test"] == 1
    assert other.ensemble.label_shares == found.ensemble.label_shares
    assert other.ensemble.accuracy["train"] == found.ensemble.accuracy["train"]


def test_without_labelled_rows(task: Path, found: ZeroShot) -> None:
    blind = zero_shot(load(task, "data.train=null", "data.test=null"))

    assert blind.rows == {"unlabeled": 30}
    assert blind.notes == ("accuracy cannot be shown: there are no labelled rows (name some as data.train or data.test)",)
    assert blind.ensemble.accuracy == {} == blind.patterns["colon"].accuracy
    assert blind.patterns["colon"].label_shares == found.patterns["colon"].label_shares


def test_a_large_unlabelled_set_is_sampled_and_said_so(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SAMPLE", 10)

    sampled = zero_shot(load(task))

    assert sampled.rows["unlabeled"] == 10
    assert sampled.notes == ("batch calibration and label shares are from 10 of 30 unlabelled rows",)


def test_rows_of_several_labels(task: Path, tmp_path: Path) -> None:
    """Every label is asked by itself; a row counts where all of its labels and no other are found."""
    rows = [{"text": "the game", "label": ["Sports", "World"]}, {"text": "a question", "label": ["Science"]}]
    write_rows(tmp_path / "several.jsonl", rows)  # type: ignore[arg-type]
    several = load(task, "label_kind=multi", *(f"data.{part}={tmp_path / 'several.jsonl'}" for part in ("train", "test")))
    task = Task.checked(several)
    scorer = load_scorer(task.spec.model, task.pvps[0], DEVICE)
    logits, unlabeled = (
        np.concatenate(list(shard_logits(scorer, task.pvps[0], task, part, DEVICE, lambda done: None)))
        for part in ("test", "unlabeled")
    )
    gold = np.array([[1, 0, 1], [0, 1, 0]], bool)

    colon = zero_shot(several).patterns["colon"]

    assert colon.accuracy["test"]["raw"] == ((logits > 0) == gold).all(1).mean()
    assert colon.accuracy["test"]["batch"] == ((logits > unlabeled.mean(0)) == gold).all(1).mean()
    assert list(colon.label_shares["batch"].values()) == pytest.approx((unlabeled > unlabeled.mean(0)).mean(0))


def test_nothing_is_written(task: Path, here: Path) -> None:
    before = snapshot(task.parent)

    zero_shot(load(task))

    assert snapshot(task.parent) == before
    assert list(here.iterdir()) == []


def test_mistakes_come_first_and_together(task: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "a", "label": "Wrold"}) + "\n")

    with pytest.raises(InvalidInput) as refused:
        zero_shot(load(task, f"data.test={tmp_path / 'bad.jsonl'}", f"data.unlabeled={tmp_path / 'none.jsonl'}"))

    assert len(refused.value.problems) == 2
