"""Discriminators as teachers through all stages, and what they cannot be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from petkit import Predictor
from petkit.commands.search_verbalizer import search_verbalizer
from petkit.commands.validate import check_pipeline
from petkit.commands.zero_shot import zero_shot
from petkit.engine.device import Device
from petkit.engine.sampling import StepRows
from petkit.engine.training_loop import set_dropout
from petkit.errors import InvalidInput
from petkit.models.batch import collate
from petkit.models.loading import load_language_model
from petkit.runs.fingerprint import Inputs
from petkit.stages import baselines, preparation
from petkit.stages.pipeline import RunResult
from petkit.task.task import Task
from petkit.teachers.models import scorer_of
from petkit.teachers.objective import TeacherObjective, TrainingRows
from tests.tiny import DISCRIMINATOR
from tests.tiny_task import TOPICS, load, planned, products, run_task, write_task

Folder = Callable[[str], Path]
QUICK = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=3")

# A random model has to learn what a word in the slot means: more steps than a random masked one takes.
LEARNING = ("teachers.seeds=[1]", "teachers.steps=150", "teachers.learning_rate=0.01")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Path:
    return write_task(tmp_path_factory.mktemp("discriminator"), model_folder(DISCRIMINATOR))


@pytest.fixture(scope="module")
def result(pipeline: Path) -> RunResult:
    return run_task(pipeline, pipeline.parent / "run", *LEARNING)


def test_all_stages_learn_the_task(result: RunResult) -> None:
    assert result.metrics is not None
    assert result.metrics["untrained_ensemble"]["accuracy"] < 0.5
    assert result.metrics["ensemble"]["accuracy"] > 0.55 and result.metrics["student"]["accuracy"] > 0.45
    assert Predictor.load(result.folder, teachers=True)("game team game")[0].labels[0] in TOPICS


def test_resume_and_forecast(pipeline: Path, result: RunResult) -> None:
    assert run_task(pipeline, result.folder, *LEARNING).ran == ()
    stale = planned(pipeline, result.folder, *LEARNING, "teachers.scoring=replaced_token")
    assert "teachers.scoring" in stale["stage_a/colon-1/model"].why


def test_same_bytes_again(pipeline: Path, here: Path, result: RunResult) -> None:
    run_task(pipeline, here / "again", *LEARNING)

    assert products(here / "again") == products(result.folder)


@pytest.mark.parametrize(
    "overrides",
    [
        ("teachers.adapter=lora",),
        ("data.train=null",),
        ("generations.count=1", "generations.scale=2"),
        ("label_kind=ordinal",),
        ("teachers.freeze=half", "soft_labels.calibration=batch", "soft_labels.confidence_weights=false"),
        ("teachers.consistency.kind=word_masking", "teachers.contrastive.weight=1", "student.feature_weight=1"),
        ("teachers.consistency.kind=second_pattern", "teachers.loss=hinge"),
        (
            "verbalizer={labels: {Sports: [the game, very good team], Science: [science], World: [world news]}, multi_token: true}",
        ),
        ("demonstrations.per_label=1", "demonstrations.max_tokens=12", "max_length=60"),
        ("patterns=[{id: colon, text: '{soft:3} {mask} {text}'}, {id: brackets, text: '{text} {soft:2} ( {mask} )'}]",),
        ("soft_labels.weighting=out_of_fold", "soft_labels.folds=2", "teachers.label_smoothing=0.1", "teachers.focal_gamma=1"),
    ],
    ids=lambda overrides: overrides[0].partition("=")[0],
)
def test_everything_else_goes_with_them(overrides: tuple[str, ...], pipeline: Path, here: Path) -> None:
    result = run_task(pipeline, here / "run", *QUICK, *overrides)

    assert result.metrics is not None and 0 <= result.metrics["ensemble"]["accuracy"] <= 1
    assert run_task(pipeline, here / "run", *QUICK, *overrides).ran == ()


def test_rows_of_several_labels(pipeline: Path, here: Path) -> None:
    lines = [json.loads(line) for line in (pipeline.parent / "train.jsonl").read_text().splitlines()]
    (here / "several.jsonl").write_text("".join(json.dumps({**row, "label": [row["label"]]}) + "\n" for row in lines))
    overrides = ("label_kind=multi", "data.train=several.jsonl", "data.test=several.jsonl")

    assert run_task(pipeline, here / "run", *QUICK, *overrides).metrics is not None


def test_loss_is_the_binary_one_of_every_label(pipeline: Path) -> None:
    """As Xia et al. 2022 train: the right word is original, all others are replaced."""
    task = Task.checked(load(pipeline))
    scorer = scorer_of(load_language_model(task.spec.model), task.pvps[0])
    set_dropout(scorer, 0.0)
    rows = [task.pvps[0].encode(tokens) for tokens in task.tokens("train")]
    targets = torch.from_numpy(task.targets())
    data = TrainingRows(rows, targets)
    device = Device("cpu", "float32", 1)
    objective = TeacherObjective(task.spec.teachers, task.pvps[0], data, task.labels, task.tokenizer, device)
    step = StepRows(np.arange(len(rows)), None, np.random.default_rng(0))
    with torch.no_grad():
        loss = objective(scorer, step)
        logits = scorer(collate(rows, task.tokenizer))
    right = functional.one_hot(targets, 3).float()
    expected = functional.binary_cross_entropy_with_logits(logits, right, reduction="none").sum(1).mean()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_commands_that_train_nothing(pipeline: Path) -> None:
    assert check_pipeline(load(pipeline)).task == "topics"
    assert 0 <= zero_shot(load(pipeline)).ensemble.accuracy["test"]["raw"] <= 1


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("teachers.auxiliary_mlm_weight=0.1", "teachers.auxiliary_mlm_weight"),
        ("teachers.label_conditioning_weight=1", "teachers.label_conditioning_weight"),
        ("teachers.loss=decoupled_label", "teachers.loss"),
        ("verbalizer.kind=soft", "verbalizer.kind"),
        ("verbalizer={auto: {per_label: 1}}", "verbalizer.auto"),
        (
            "verbalizer={labels: {Sports: [the game], Science: [science], World: [world]}, multi_token: true, decoding: max_first}",
            "verbalizer.decoding",
        ),
    ],
)
def test_what_needs_a_masked_lm_head_is_refused(override: str, place: str, pipeline: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline, override))

    assert f"{place}: " in str(refused.value) and "needs a masked-LM head, and" in str(refused.value)


def test_search_for_words_is_refused(pipeline: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a masked-LM head"):
        search_verbalizer(load(pipeline))


def test_choice_of_scoring_is_part_of_every_step_that_scores(pipeline: Path) -> None:
    def inputs(*overrides: str) -> list[Inputs]:
        task = Task.checked(load(pipeline, "keep_patterns=1", "baselines=[zero_shot]", *overrides))
        device = Device("cpu", "float32", 1)
        return [step.inputs for step in (*preparation.steps(task, device), *baselines.steps(task, device))]

    for before, after in zip(inputs(), inputs("teachers.scoring=replaced_token"), strict=True):
        assert after == {**before, "teachers.scoring": "replaced_token"} != before


def test_rows_weigh_what_their_label_does(pipeline: Path) -> None:
    """With a weight of 0 for all other labels, rows of one label alone have a gradient."""
    task = Task.checked(load(pipeline, "teachers.class_weights={Sports: 1, Science: 1e-9, World: 1e-9}"))
    scorer = scorer_of(load_language_model(task.spec.model), task.pvps[0])
    set_dropout(scorer, 0.0)
    rows = [task.pvps[0].encode(tokens) for tokens in task.tokens("train")]
    targets = torch.from_numpy(task.targets())
    device = Device("cpu", "float32", 1)
    objective = TeacherObjective(
        task.spec.teachers, task.pvps[0], TrainingRows(rows, targets), task.labels, task.tokenizer, device
    )
    with torch.no_grad():
        found = objective(scorer, StepRows(np.arange(len(rows)), None, np.random.default_rng(0)))
        chosen = [row for row, label in zip(rows, targets.tolist(), strict=True) if task.labels[label] == "Sports"]
        logits = scorer(collate(chosen, task.tokenizer))
    right = torch.zeros_like(logits)
    right[:, task.labels.index("Sports")] = 1
    expected = functional.binary_cross_entropy_with_logits(logits, right, reduction="none").sum(1).mean()

    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
