"""Settings that change the course of a run, other shapes of data, other backbones; and the student as others load it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits, label_logits
from petkit.ensemble import combine
from petkit.models.batch import collate
from petkit.models.loading import load_classifier, load_tokenizer
from petkit.prompts.token_store import TokenStore
from petkit.storage.checksum import json_with_checksum
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.task.task import Task
from tests.tiny_task import load, products, rows, run_task, student_weights, write_rows, write_task

Folder = Callable[[str], Path]
NAMES = ("colon-1", "colon-2", "brackets-1", "brackets-2")
PAIR = {"pair": ["{mask} news:", "{text} {other}"], "flat": "{other} it was {mask} , {text}"}
QUICK = ("teachers.seeds=[1]", "teachers.steps=4", "student.steps=12")


def teacher_logits(run: Path) -> np.ndarray:
    return np.stack([read_matrix(run / "stage_a" / name / "logits", "logits") for name in NAMES])


def ensemble(run: Path) -> Any:
    return json.loads((run / "stage_b" / "ensemble.json").read_text())


# -- soft labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["logits", "log_probs", "probs"])
def test_soft_labels_are_the_teachers_combined(how: Any, pipeline_file: Path, copy: Path) -> None:
    run_task(pipeline_file, copy, f"soft_labels.combine={how}", stages=("b",), force="stale")
    logits = teacher_logits(copy)
    expected = combine(logits, np.ones(4, np.float32), how)
    (shard,) = read_shards(copy / "stage_b" / "soft_labels", ["logits", "label", "entropy", "agreement"])
    np.testing.assert_array_equal(shard["logits"], expected)
    labels = ["Sports", "Science", "World"]
    assert shard["label"] == [labels[winner] for winner in expected.argmax(1)]
    share = np.exp(expected / 2 - np.logaddexp.reduce(expected / 2, axis=1, keepdims=True))  # temperature 2
    np.testing.assert_allclose(shard["entropy"], -(share * np.log(share)).sum(1), rtol=1e-4)
    np.testing.assert_allclose(shard["agreement"], (logits.argmax(-1) == expected.argmax(-1)).mean(0))
    reported = ensemble(copy)
    assert reported["rows"] == 30 and sum(reported["label_counts"].values()) == 30 and reported["combine"] == how
    assert reported["label_counts"] == {label: shard["label"].count(label) for label in labels}
    assert reported["mean_entropy"] == pytest.approx(np.mean(shard["entropy"]), rel=1e-5)


def test_agreement_of_pairs_of_teachers(finished: Path) -> None:
    choices = teacher_logits(finished).argmax(-1)
    reported = json.loads((finished / "stage_b" / "agreement.json").read_text())["agreement"]
    for mine, row in zip(choices, NAMES, strict=True):
        for theirs, column in zip(choices, NAMES, strict=True):
            assert reported[row][column] == pytest.approx((mine == theirs).mean())


def test_weighting_by_accuracy_before_training(pipeline_file: Path, copy: Path) -> None:
    for name, accuracy in zip(NAMES, (0.6, 0.2, 0.0, 0.2), strict=True):
        path = copy / "stage_a" / name / "model"
        reported = json.loads((path / "teacher.json").read_text())
        assert reported["untrained_accuracy"] == json.loads((path / "step.json").read_text())["facts"]["untrained_accuracy"]
        rewrite(path, "teacher.json", json.dumps({**reported, "untrained_accuracy": accuracy}))
    run_task(pipeline_file, copy, "soft_labels.weighting=train_accuracy", stages=("b",), force="stale", allow_stale=True)
    weights = (0.6, 0.2, 0.0, 0.2)
    assert ensemble(copy)["weights"] == dict(zip(NAMES, weights, strict=True))
    expected = combine(teacher_logits(copy), np.array(weights, np.float32), "logits")
    np.testing.assert_allclose(read_matrix(copy / "stage_b" / "soft_labels", "logits"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("override", ["soft_labels.combine=probs", "soft_labels.weighting=train_accuracy"])
def test_the_evaluated_ensemble_is_the_one_that_labelled(override: str, pipeline_file: Path, finished: Path, copy: Path) -> None:
    path = copy / "stage_a" / "colon-1" / "model"
    rewrite(path, "teacher.json", json.dumps({**json.loads((path / "teacher.json").read_text()), "untrained_accuracy": 0.01}))
    changed = run_task(pipeline_file, copy, override, "student.steps=1", force="stale").metrics
    before = json.loads((finished / "evaluation" / "metrics.json").read_text())
    assert changed is not None and changed["teachers"] == before["teachers"]
    assert abs(changed["ensemble"]["nll"] - before["ensemble"]["nll"]) > 1e-4


def rewrite(step: Path, name: str, text: str) -> None:
    """Change a file of a finished step together with its record, as if the step had made it so."""
    import hashlib

    (step / name).write_text(text)
    record = json.loads((step / "step.json").read_text())
    record["files"][name] = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    del record["seal"]
    (step / "step.json").write_text(json_with_checksum(record))


# -- the student's loss ------------------------------------------------------------------------------


def students(pipeline_file: Path, finished: Path, here: Path, *variants: Sequence[str]) -> list[bytes]:
    """Return the weights of the students that differ by ``variants`` alone."""
    found = []
    for index, overrides in enumerate(variants):
        folder = here / f"run-{index}"
        shutil.copytree(finished, folder)
        run_task(pipeline_file, folder, *overrides, stages=("b", "c"), force="stale", allow_stale=True)
        found.append(student_weights(folder))
    return found


def test_hard_weight_0_reads_no_gold_label(pipeline_file: Path, finished: Path, here: Path) -> None:
    common = ("student.hard_weight=0", "student.steps=5")
    write_rows(
        here / "other.jsonl",
        [{**row, "label": label} for row, label in zip(rows(9, 9), ("Science", "World", "Sports") * 3, strict=True)],
    )
    gold, wrong = students(pipeline_file, finished, here, common, (*common, f"data.train={here / 'other.jsonl'}"))
    assert gold == wrong


def test_hard_weight_1_reads_no_soft_label(pipeline_file: Path, finished: Path, here: Path) -> None:
    common = ("student.hard_weight=1", "student.steps=5")
    soft, sharp = students(
        pipeline_file, finished, here, common, (*common, "soft_labels.temperature=9", "soft_labels.combine=probs")
    )
    assert soft == sharp


@pytest.mark.parametrize(
    "override",
    [
        "soft_labels.temperature=9",
        "student.temperature=9",
        "student.hard_weight=0.5",
        "student.seed=2",
        "student.gold_batch_size=2",
    ],
)
def test_every_other_setting_counts(override: str, pipeline_file: Path, finished: Path, here: Path) -> None:
    common = ("student.steps=5", "student.temperature=2")  # else it would follow that of the soft labels
    plain, changed = students(pipeline_file, finished, here, common, (*common, override))
    assert plain != changed


# -- other data and other backbones --------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["roberta", "deberta-v2", "modernbert"])
def test_student_with_a_backbone_and_tokenizer_of_its_own(
    arch: str, pipeline_file: Path, finished: Path, here: Path, model_folder: Folder
) -> None:
    run = Path(shutil.copytree(finished, here / "run"))
    result = run_task(pipeline_file, run, f"student.model={model_folder(arch)}", "student.steps=12", force="stale")
    assert result.ran == ("stage_c/model", "evaluation")
    assert load_classifier(str(result.student)).config.model_type == arch
    assert load_tokenizer(str(result.student)).hf.get_vocab() == load_tokenizer(str(model_folder(arch))).hf.get_vocab()
    assert products(run, "stage_a", "stage_b") == products(finished, "stage_a", "stage_b")


@pytest.mark.parametrize("arch", ["roberta", "albert", "deberta-v2", "modernbert"])
def test_other_teachers(arch: str, here: Path, model_folder: Folder) -> None:
    result = run_task(write_task(here / "task", model_folder(arch)), here / "run", *QUICK)
    assert len(result.ran) == 7 and result.metrics is not None


@pytest.mark.parametrize(
    ("fields", "patterns"),
    [
        (("text", "other"), PAIR),
        (
            ("text", "other", "third"),
            {"three": "{mask} : {text} , {other} . {third}", "two": ["{third} {text}", "{mask} {other}"]},
        ),
    ],
    ids=["pair", "three fields"],
)
@pytest.mark.parametrize("arch", ["bert", "roberta"])
def test_several_fields(arch: str, fields: Sequence[str], patterns: dict[str, Any], here: Path, model_folder: Folder) -> None:
    pipeline_file = write_task(here / "task", model_folder(arch), fields, patterns)
    result = run_task(pipeline_file, here / "run", *QUICK)
    reported = json.loads((result.student / "petkit.json").read_text())
    assert len(result.ran) == 7 and sorted(reported["fields"]) == sorted(fields)
    # Of 32 tokens BERT's two texts have 29; they share an even number.
    assert reported["max_length"] == (31 if len(fields) == 2 and arch == "bert" else 32)
    # Every field reaches the student: another text there gives other logits.
    changed = [{**row, fields[-1]: "yes no yes"} for row in rows(15, 15, fields)]
    before = student_logits(pipeline_file, result.student)
    write_rows(pipeline_file.parent / "test.jsonl", changed)
    assert not np.allclose(student_logits(pipeline_file, result.student), before, atol=1e-4)


def test_bfloat16_run_is_repeatable_and_keeps_its_precision(pipeline_file: Path, here: Path) -> None:
    overrides = (*QUICK, "compute.precision=bfloat16")
    for name in ("one", "two"):
        assert run_task(pipeline_file, here / name, *overrides).metrics is not None
    assert products(here / "one") == products(here / "two")
    assert run_task(pipeline_file, here / "one", *QUICK, "compute.precision=auto").ran == ()


def test_long_rows_are_cut_the_same_way_everywhere(here: Path, model_folder: Folder) -> None:
    pipeline_file = write_task(here / "task", model_folder("bert"))
    long = [{**row, "text": row["text"] * 20} for row in rows(15, 15)]
    write_rows(pipeline_file.parent / "test.jsonl", long)
    assert run_task(pipeline_file, here / "run", *QUICK, "max_length=12").metrics is not None


# -- the student as others load it -----------------------------------------------------------------------


def student_logits(pipeline_file: Path, student: Path) -> np.ndarray:
    """Return petkit's own logits of a student on the test set."""
    task = Task.checked(load(pipeline_file))
    tokens = TokenStore.build(task.source("test"), task.student_tokenizer, task.student_pattern.keys, 32, "tail")
    encoded = [task.student_pattern.encode(row) for row in tokens]
    model = ClassifierLogits(load_classifier(str(student)))
    return label_logits(model, encoded, task.student_tokenizer, Device("cpu", "float32", 1), 4096)


@pytest.mark.parametrize("arch", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
@pytest.mark.parametrize("fields", [("text",), ("text", "other")], ids=["text", "pair"])
def test_plain_transformers_gives_the_same_answer(arch: str, fields: Sequence[str], here: Path, model_folder: Folder) -> None:
    from transformers import pipeline

    patterns = {"colon": "{mask} news: {text}"} if len(fields) == 1 else PAIR
    pipeline_file = write_task(here / "task", model_folder(arch), fields, patterns)
    result = run_task(pipeline_file, here / "run", *QUICK)
    logits = torch.from_numpy(student_logits(pipeline_file, result.student))
    classify = pipeline("text-classification", model=str(result.student), device="cpu")
    order = json.loads((result.student / "petkit.json").read_text())["fields"]
    for row, expected in zip(rows(15, 15, fields), logits.softmax(-1).tolist(), strict=True):
        asked: Any = row["text"] if len(order) == 1 else {"text": row[order[0]], "text_pair": row[order[1]]}
        found = classify(asked, top_k=None)
        scores = {entry["label"]: entry["score"] for entry in found}
        assert next(iter(scores)) == ("Sports", "Science", "World")[int(np.argmax(expected))]
        assert [scores[label] for label in ("Sports", "Science", "World")] == pytest.approx(expected, abs=1e-5)


def test_evaluation_reports_the_students_own_probabilities(pipeline_file: Path, finished: Path) -> None:
    logits = torch.from_numpy(student_logits(pipeline_file, finished / "stage_c" / "model"))
    (shard,) = read_shards(finished / "evaluation" / "predictions", ["probabilities", "student"])
    np.testing.assert_allclose(shard["probabilities"], logits.softmax(-1).numpy(), atol=1e-6)


def test_padding_does_not_change_the_students_logits(pipeline_file: Path, finished: Path) -> None:
    task = Task.checked(load(pipeline_file))
    model = ClassifierLogits(load_classifier(str(finished / "stage_c" / "model")))
    tokens = task.tokens("test", student=True)
    encoded = [task.student_pattern.encode(row) for row in tokens]
    with torch.no_grad():
        together = model(collate(encoded, task.student_tokenizer))
        alone = torch.cat([model(collate([row], task.student_tokenizer)) for row in encoded])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
