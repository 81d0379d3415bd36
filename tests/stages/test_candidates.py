"""Rows with candidates of their own through all stages: figures, files, resume, prediction and evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from petkit.commands.validate import check_pipeline
from petkit.commands.zero_shot import zero_shot
from petkit.engine.training_loop import fit
from petkit.errors import InvalidInput, ModelRefused
from petkit.models.loading import load_classifier, load_config
from petkit.predict.predictor import Predictor
from petkit.predict.row_io import evaluate_file
from petkit.prompt_search.pattern_ranking import rank_patterns
from petkit.stages.pipeline import RunResult
from petkit.storage.parquet_shards import read_matrix
from petkit.storage.ragged import present
from tests.candidate_task import rows, write_task
from tests.tiny_task import load, planned, products, run_task, write_rows

Folder = Callable[[str], Path]
QUICK = ("teachers.steps=2", "student.steps=2")


@pytest.fixture(scope="module")
def pipeline_of_lists(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Path:
    """The pipeline file; nobody changes it or its data."""
    return write_task(tmp_path_factory.mktemp("candidates"), model_folder("bert"))


@pytest.fixture(scope="module")
def finished_lists(pipeline_of_lists: Path) -> RunResult:
    """A finished run; nobody changes it."""
    return run_task(pipeline_of_lists, pipeline_of_lists.parent / "run")


def test_teachers_and_student_learn_which_candidate_is_right(finished_lists: RunResult) -> None:
    metrics = finished_lists.metrics
    assert metrics is not None and metrics["label_kind"] == "candidates"
    assert metrics["ensemble"]["accuracy"] > 0.8 and metrics["student"]["accuracy"] > 0.7  # chance is 0.4
    assert metrics["student"]["answer_f1"] >= metrics["student"]["accuracy"]
    assert metrics["student"]["labels"] == {} and metrics["student"]["macro_f1"] is None


def test_soft_labels_have_as_many_logits_as_a_row_has_candidates(finished_lists: RunResult, pipeline_of_lists: Path) -> None:
    given = [json.loads(line) for line in (pipeline_of_lists.parent / "unlabeled.jsonl").read_text().splitlines()]
    table = pq.read_table(finished_lists.folder / "stage_b" / "soft_labels" / "part-00000.parquet").to_pylist()

    assert [len(row["logits"]) for row in table] == [len(row["options"]) for row in given]
    assert {len(row["logits"]) for row in table} == {2, 3}
    best = [own["options"][int(np.argmax(row["logits"]))] for row, own in zip(table, given, strict=True)]
    assert [row["label"] for row in table] == best
    assert all(0 <= row["weight"] <= 1 and row["entropy"] >= 0 for row in table)


def test_confidence_counts_the_rows_own_candidates(finished_lists: RunResult) -> None:
    """The weight is 1 - H / ln(candidates of this row), by hand."""
    (shard,) = (finished_lists.folder / "stage_b" / "soft_labels").iterdir()
    for row in pq.read_table(shard).to_pylist():
        log_probs = np.array(row["logits"]) - np.logaddexp.reduce(row["logits"])
        entropy = -(np.exp(log_probs) * log_probs).sum()
        assert row["weight"] == pytest.approx(1 - entropy / np.log(len(row["logits"])), abs=1e-5)


def test_the_ensemble_is_the_mean_of_its_teachers(finished_lists: RunResult) -> None:
    stage_a = finished_lists.folder / "stage_a"
    teachers = [read_matrix(stage_a / f"{name}-1" / "logits", "logits") for name in ("colon", "brackets")]
    combined = read_matrix(finished_lists.folder / "stage_b" / "soft_labels", "logits")
    own = present(combined)
    np.testing.assert_allclose(combined[own], np.mean(teachers, axis=0)[own], rtol=1e-5)
    assert not own.all()


def test_the_student_is_a_plain_multiple_choice_model(finished_lists: RunResult, pipeline_of_lists: Path) -> None:
    """Transformers' own model and tokenizer give the probabilities that petkit gives, row by row."""
    import torch
    from transformers import AutoModelForMultipleChoice, AutoTokenizer

    model = AutoModelForMultipleChoice.from_pretrained(str(finished_lists.student))
    tokenizer = AutoTokenizer.from_pretrained(str(finished_lists.student))
    predictor = Predictor.load(finished_lists.folder)
    for row in rows(6, 3):
        pairs = [(row["text"], option) for option in row["options"]]
        inputs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], return_tensors="pt", padding=True)
        with torch.no_grad():
            logits = model(**{name: value[None] for name, value in inputs.items()}).logits[0]
        (mine,) = predictor([row])
        expected = dict(zip(row["options"], logits.softmax(-1).tolist(), strict=True))
        assert mine.probabilities == pytest.approx(expected, abs=1e-5)
        assert mine.label == row["options"][int(logits.argmax())] and mine.candidate == int(logits.argmax())


@pytest.mark.parametrize("teachers", [False, True], ids=["student", "teachers"])
def test_predictions_of_new_rows_are_those_of_the_evaluation(
    teachers: bool, finished_lists: RunResult, pipeline_of_lists: Path
) -> None:
    """Whatever rows are predicted together: each alone, and with a row of more candidates than any of the run."""
    test = [json.loads(line) for line in (pipeline_of_lists.parent / "test.jsonl").read_text().splitlines()]
    (shard,) = (finished_lists.folder / "evaluation" / "predictions").iterdir()
    recorded = pq.read_table(shard).to_pylist()
    predictor = Predictor.load(finished_lists.folder, teachers=teachers)
    wide = {"text": "the game", "options": ["news", "market", "team", "science", "world", "very good", "bad"]}
    together = predictor([*test, wide])

    assert [found.label for found in together[:-1]] == [row["ensemble" if teachers else "student"] for row in recorded]
    assert len(together[-1].probabilities) == 7 and sum(together[-1].probabilities.values()) == pytest.approx(1)
    for row, found in zip(test, together, strict=False):
        (alone,) = predictor([row])
        assert alone.probabilities == pytest.approx(found.probabilities, abs=1e-5)
    if not teachers:
        assert [list(found.probabilities.values()) for found in together[:-1]] == [
            pytest.approx(row["probabilities"], abs=1e-5) for row in recorded
        ]
        again = evaluate_file(predictor, str(pipeline_of_lists.parent / "test.jsonl")).to_dict()
        assert finished_lists.metrics is not None
        assert again["accuracy"] == finished_lists.metrics["student"]["accuracy"]
        assert again["nll"] == pytest.approx(finished_lists.metrics["student"]["nll"], abs=1e-5)


def test_a_multiple_choice_model_of_other_tools_names_no_columns(finished_lists: RunResult, here: Path) -> None:
    shutil.copytree(finished_lists.student, here / "model")
    for name in ("petkit.json", "step.json"):
        (here / "model" / name).unlink()
    with pytest.raises(ModelRefused, match="a multiple-choice model needs the columns of its candidates, and no other has any"):
        Predictor.load(here / "model")


def test_columns_are_answers_as_lists_are(model_folder: Folder, here: Path, pipeline_of_lists: Path) -> None:
    columns = write_task(here / "columns", model_folder("bert"), listed=False)
    lists = write_task(here / "lists", model_folder("bert"), listed=False)
    for part in ("train", "unlabeled", "test"):
        own = [json.loads(line) for line in (here / "columns" / f"{part}.jsonl").read_text().splitlines()]
        write_rows(here / "lists" / f"{part}.jsonl", [{**row, "options": [row["first"], row["second"]]} for row in own])
    first = run_task(columns, here / "one", *QUICK)
    second = run_task(lists, here / "two", *QUICK, "candidates=options")

    assert first.metrics is not None and second.metrics is not None
    assert first.metrics["student"] == second.metrics["student"] and first.metrics["ensemble"] == second.metrics["ensemble"]
    # Lists of each row's own length, also where all rows have as many: the shards of a folder are of one type.
    for folder in (first.folder, second.folder):
        (shard,) = (folder / "stage_b" / "soft_labels").iterdir()
        assert str(pq.read_schema(shard).field("logits").type) == "list<element: float>"
    own, other = (read_matrix(folder / "stage_b" / "soft_labels", "logits") for folder in (first.folder, second.folder))
    np.testing.assert_array_equal(own, other)


def test_a_killed_run_ends_with_the_same_bytes(pipeline_of_lists: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def killed(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # the second teacher's
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr("petkit.teachers.training.fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run_task(pipeline_of_lists, here / "run", *QUICK)
    monkeypatch.undo()
    run_task(pipeline_of_lists, here / "run", *QUICK)

    assert products(here / "run") == products(run_task(pipeline_of_lists, here / "whole", *QUICK).folder)


def test_rows_with_more_candidates_in_the_test_set_change_no_teacher(pipeline_of_lists: Path, here: Path) -> None:
    """How many candidates a test row has is nothing that a teacher learns from."""
    folder = here / "task"
    folder.mkdir()
    for path in pipeline_of_lists.parent.glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    pipeline = folder / "pipeline.yaml"
    run_task(pipeline, here / "run", *QUICK)
    more = {"text": "the game", "options": ["a", "b", "c", "d", "e"], "label": ["b", "e"]}
    write_rows(folder / "test.jsonl", [*rows(30, 30), more])
    before, plan = products(here / "run", "stage_a", "stage_b", "stage_c"), planned(pipeline, here / "run", *QUICK)
    result = run_task(pipeline, here / "run", *QUICK, force="evaluation")

    assert [step for step, entry in plan.items() if entry.action != "skip"] == ["evaluation"] == [*result.ran]
    assert products(here / "run", "stage_a", "stage_b", "stage_c") == before
    assert result.metrics is not None and result.metrics["rows"] == 31


def test_untrained_patterns_answer_without_labelled_rows(pipeline_of_lists: Path, here: Path) -> None:
    result = run_task(pipeline_of_lists, here / "run", "data.train=null", *QUICK)
    assert result.metrics is not None and {*result.metrics["teachers"]} == {"colon-untrained", "brackets-untrained"}
    assert all(row["calibrated_accuracy"] is None for row in result.metrics["teachers"].values())


@pytest.mark.parametrize(
    "options",
    [
        ("teachers.loss=hinge",),
        ("verbalizer={candidates: options, decoding: max_first}", "candidates=null"),
        ("teachers.r_drop_weight=1", "teachers.dropout=0.1", "student.r_drop_weight=1", "student.dropout=0.1"),
        ("teachers.consistency={kind: second_pattern}", "student.consistency_weight=1"),
        ("teachers.consistency={kind: word_masking}", "student.divergence=reverse_kl"),
        ("teachers.adapter=lora", "student.adapter=lora", "student.divergence=jensen_shannon"),
        ("soft_labels.weighting=out_of_fold", "soft_labels.teacher_temperature=out_of_fold", "soft_labels.folds=2"),
        ("soft_labels.combine=probs", "soft_labels.top_share=0.5", "student.adapter=ia3"),
        ("teachers.adapter={kind: prompt_tuning, tokens: 2}",),
        ("soft_labels.combine=log_probs", "soft_labels.min_probability=0.1", "student.hard_weight=0.5"),
        ("teachers.freeze=half", "student.freeze=embeddings", "soft_labels.weighting=train_accuracy"),
    ],
    ids=lambda options: options[0].partition("=")[0],
)
def test_options_that_need_no_fixed_labels_work(options: tuple[str, ...], pipeline_of_lists: Path, here: Path) -> None:
    result = run_task(pipeline_of_lists, here / "run", *QUICK, *options)
    assert result.metrics is not None and np.isfinite(result.metrics["student"]["nll"])
    assert len(Predictor.load(result.folder)([rows(1, 0)[0]])) == len(
        Predictor.load(result.folder, teachers=True)([rows(1, 0)[0]])
    )


@pytest.mark.parametrize(
    "arch", ["roberta", "deberta-v2", "albert", "distilbert", "electra", "mpnet", "modernbert", "xlm-roberta"]
)
def test_every_family_has_a_multiple_choice_form(arch: str, model_folder: Folder, here: Path) -> None:
    result = run_task(write_task(here / "task", model_folder(arch)), here / "run", *QUICK)
    student = load_classifier(str(result.student))
    assert type(student).__name__.endswith("ForMultipleChoice")
    assert student.config.model_type == load_config(str(model_folder(arch))).model_type
    assert result.metrics is not None and np.isfinite(result.metrics["ensemble"]["nll"] + result.metrics["student"]["nll"])


def test_causal_teachers_with_a_student_that_is_none(model_folder: Folder, here: Path) -> None:
    pipeline = write_task(here / "task", model_folder("gpt2"), patterns={"end": "{text} is about {mask}"})
    with pytest.raises(InvalidInput, match="a 'gpt2' model has no multiple-choice form"):
        run_task(pipeline, here / "run", *QUICK)
    result = run_task(pipeline, here / "run", *QUICK, f"student.model={model_folder('bert')}")
    assert result.metrics is not None and np.isfinite(result.metrics["ensemble"]["nll"])


def test_discriminators_are_refused(model_folder: Folder, here: Path) -> None:
    with pytest.raises(InvalidInput, match="a discriminator to read candidates"):
        run_task(write_task(here / "task", model_folder("discriminator")), here / "run", *QUICK)


def test_validate_shows_the_answers(pipeline_of_lists: Path) -> None:
    check = check_pipeline(load(pipeline_of_lists))
    assert check.candidates is not None and check.label_counts == {}
    summary = "answers: candidates of each row, in column options; at most 3 a row, the longest of 2 tokens"
    assert check.candidates.summary == summary
    assert "[MASK] [MASK] : " in check.patterns[0].tokens and check.patterns[0].words == {}


def test_candidates_that_are_too_long_are_cut_with_a_warning(pipeline_of_lists: Path, here: Path) -> None:
    folder = here / "task"
    folder.mkdir()
    for path in pipeline_of_lists.parent.glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    long = {"text": "the game", "options": ["market " * 60, "team"], "label": 1}
    write_rows(folder / "train.jsonl", [*rows(36, 36), long])
    (warning,) = [entry for entry in check_pipeline(load(folder / "pipeline.yaml")).warnings if "cut" in entry]
    assert warning == "candidates: 2 are cut: one takes at most half of the tokens that a pattern leaves (raise max_length)"
    result = run_task(folder / "pipeline.yaml", here / "run", *QUICK)
    assert result.metrics is not None


def test_zero_shot_compares_patterns_uncalibrated(pipeline_of_lists: Path) -> None:
    found = zero_shot(load(pipeline_of_lists))
    assert {*found.ensemble.accuracy["test"]} == {"raw"} and found.ensemble.label_shares == {}


def test_ranking_is_refused(pipeline_of_lists: Path) -> None:
    with pytest.raises(InvalidInput, match="ranks patterns by how they tell fixed labels apart"):
        rank_patterns(load(pipeline_of_lists))
