"""The paper recipes: the settings are the papers' own, whatever petkit's defaults become, and none is left out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from petkit.config.loader import load_pipeline
from petkit.data.records import format_of
from petkit.errors import InvalidInput
from petkit.task.checks import used_rows
from tests.library import PAPER, ROOT, opening_comment, problems_of, shown

PET = ("ag_news", "mnli", "yahoo", "yelp")  # Schick & Schütze, EACL 2021
SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")  # Schick & Schütze, NAACL 2021
# Answers are each row's own.
CANDIDATES: dict[str, str | tuple[str, ...]] = {"copa": ("choice1", "choice2"), "record": "options", "wsc": "options"}
OPTIMIZER = {
    "learning_rate": 1e-5, "warmup": 0.0, "weight_decay": 0.01, "adam_epsilon": 1e-8, "max_grad_norm": 1.0,
}  # fmt: skip
# Steps, labelled rows per step, weight of the masked-LM loss, unlabelled rows per step, dropout of the model.
WITH_MASKED_LM = {"steps": 1000, "batch_size": 4, "auxiliary_mlm_weight": 1e-4, "unlabeled_batch_size": 12, "dropout": 0.1}
WITHOUT = {"steps": 250, "batch_size": 16, "auxiliary_mlm_weight": 0.0, "dropout": 0.0}
# Labelled rows in all: 0, 10, 50, 100, and 10 with roberta-base.
PUBLISHED = {
    "yelp": ("- 21.1 44.8 53.0 -", "33.8 52.9 60.0 61.9 48.8", "56.7 57.6 60.7 62.9 52.9"),
    "ag_news": ("- 25.0 82.1 86.0 -", "69.5 87.5 86.3 88.3 84.1", "87.5 89.3 88.4 89.6 87.5"),
    "yahoo": ("- 10.1 52.5 62.9 -", "44.0 63.8 66.2 69.2 59.0", "70.7 70.7 69.7 71.2 67.0"),
    "mnli": ("- 34.2 45.6 47.9 -", "39.1 41.8 63.9 74.7 39.5", "53.6 43.2 67.4 78.4 42.1"),
}
# The patterns and label words of each recipe (teachers: three times as many), and its test set of today.
TASKS = {
    "ag_news": (6, "World Sports Business Tech", "hf://fancyzhx/ag_news/test"),
    "yelp": (4, "terrible bad okay good great", "hf://Yelp/yelp_review_full/test"),
    "yahoo": (6, "Society Science Health Education Computer Sports Business Entertainment Relationship Politics", None),
    "mnli": (4, "Right Maybe Wrong", "hf://nyu-mll/multi_nli/validation_matched"),
    "rte": (5, "Yes No", "hf://aps/super_glue/rte/validation"),
    "cb": (5, "Yes No Maybe", "hf://aps/super_glue/cb/validation"),
    "boolq": (6, "No Yes", "hf://aps/super_glue/boolq/validation"),
    "multirc": (4, "No Yes", None),
    "wic": (3, "No Yes", "hf://aps/super_glue/wic/validation"),
    "copa": (2, "", None),
    "wsc": (3, "", None),
    "record": (1, "", None),
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the commands of the comments are meant to be typed."""
    monkeypatch.chdir(ROOT)


def written(path: Path) -> dict[str, Any]:
    """Return what a file itself says, without petkit's defaults."""
    return dict(load_pipeline(path).document.data)


def test_every_recipe_is_checked() -> None:
    assert {path.stem for path in PAPER} == {*PET, *SUPERGLUE} == {*TASKS}


@pytest.mark.parametrize("path", PAPER, ids=shown)
def test_settings_are_the_papers_and_written_out(path: Path) -> None:
    teachers = WITH_MASKED_LM if path.stem in PET else WITHOUT
    spec, said = load_pipeline(path).spec, written(path)

    assert spec.model == spec.student_model == ("roberta-large" if path.stem in PET else "albert-xxlarge-v2")
    length = 512 if path.stem in ("multirc", "record") else 256
    assert (spec.max_length, spec.truncate, spec.teachers.seeds) == (length, "tail", (1, 2, 3))
    assert spec.teachers.model_dump() | OPTIMIZER | teachers == spec.teachers.model_dump()
    student = OPTIMIZER | {"steps": 5000, "batch_size": 16, "hard_weight": 0.0, "dropout": teachers["dropout"]}
    assert spec.student.model_dump() | student == spec.student.model_dump()
    assert spec.student_temperature == spec.soft_labels.temperature == 2.0
    assert spec.soft_labels.combine == "logits" and spec.soft_labels.weighting == "train_accuracy"
    assert spec.soft_labels.confidence_weights is False and spec.soft_labels.calibration == "none"
    assert spec.generations.count == 0
    # Every step, every row.
    assert spec.teachers.stop_loss == 0 and used_rows(spec) == sys.maxsize
    # Another default tomorrow must not change them.
    assert {*OPTIMIZER, "seeds", "steps", "batch_size", "dropout"} <= {*said["teachers"]}
    assert {*student} <= {*said["student"]}
    assert {"combine", "weighting", "confidence_weights", "temperature"} <= {*said["soft_labels"]}


@pytest.mark.parametrize("name", TASKS)
def test_patterns_words_and_test_set(name: str) -> None:
    pipeline = load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml")
    patterns, words, test = TASKS[name]

    assert len(pipeline.spec.patterns) == patterns
    assert [own for (own,) in pipeline.spec.verbalizer.labels.values()] == words.split()
    assert (pipeline.spec.data.label_names or ()) == pipeline.spec.labels
    assert test is None or (pipeline.spec.data.test == test and format_of(test) == "hf")
    assert problems_of(pipeline) == []


@pytest.mark.parametrize("name", SUPERGLUE)
def test_candidates_have_the_papers_loss_and_decoding(name: str) -> None:
    spec = load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml").spec
    own = name in CANDIDATES

    assert spec.verbalizer.candidates == CANDIDATES.get(name)
    assert (spec.teachers.loss, spec.verbalizer.decoding) == (("hinge", "max_first") if own else ("cross_entropy", "parallel"))


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_go_without_ipet(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"generations\.count: draws rows by label"):
        load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml", ["generations.count=auto"])


@pytest.mark.parametrize("path", [path for path in PAPER if path.stem not in CANDIDATES], ids=shown)
def test_recipe_becomes_ipet_with_and_without_labelled_rows(path: Path) -> None:
    with_rows = load_pipeline(path, ["generations.count=auto"]).spec
    without = load_pipeline(path, ["generations.count=auto", "data.train=null", "soft_labels.weighting=uniform"]).spec

    assert (with_rows.generations.scale, with_rows.generations.teacher_share) == (5.0, 0.25)
    assert without.data.train is None and without.generations.per_label_from_zero == 100


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_accuracies_stand_in_the_comment(name: str) -> None:
    lines = [" ".join(line.split()) for line in opening_comment(ROOT / "pipelines" / "paper" / f"{name}.yaml")]

    assert "labelled rows 0 10 50 100 10, roberta-base" in lines
    for method, numbers in zip(("supervised", "PET", "iPET"), PUBLISHED[name], strict=True):
        assert f"{method} {numbers}" in lines


@pytest.mark.parametrize("name", ["mnli", "boolq"])
def test_every_pattern_goes_with_both_verbalizers(name: str) -> None:
    spec = load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml").spec
    words = [tuple(words[0] for words in spec.verbalizer_of(pattern).labels.values()) for pattern in spec.patterns]
    one, other = (("Right", "Maybe", "Wrong"), ("Yes", "Maybe", "No")) if name == "mnli" else (("No", "Yes"), ("false", "true"))

    assert words == [one, other] * (len(words) // 2)
    assert [pattern.id for pattern in spec.patterns[:2]] == [f"paper-p1-{name}_v{version}" for version in (1, 2)]


@pytest.mark.parametrize(
    ("name", "words"),
    [("multirc", ("False", "True")), ("rte", ("true", "false")), ("cb", ("true", "false", "neither")), ("wic", ("2", "b"))],
)
def test_last_pattern_has_label_words_of_its_own(name: str, words: tuple[str, ...]) -> None:
    spec = load_pipeline(ROOT / "pipelines" / "paper" / f"{name}.yaml").spec

    assert [pattern.id for pattern in spec.patterns if pattern.verbalizer] == [spec.patterns[-1].id]
    assert tuple(own for (own,) in spec.verbalizer_of(spec.patterns[-1]).labels.values()) == words
