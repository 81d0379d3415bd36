"""Hostile and damaged classifier folders, as ``petkit predict`` meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import ModelRefused
from petkit.models.loading import load_classifier, new_classifier
from tests.cli.conftest import Outcome
from tests.safety.hostile import Mark, edit_json
from tests.safety.test_model_folders import change_weights

Petkit = Callable[..., Outcome]


def test_hostile_classifier_is_refused_by_predict(model: Path, mark: Mark, petkit_command: Petkit) -> None:
    new_classifier("m", ["a", "b"])[0].save_pretrained(model)
    with_label = {"id2label": {"0": "a", "7": "b"}, "label2id": {"a": 0, "b": 7}}
    edit_json(model / "config.json", **with_label)

    answer = petkit_command("predict", "m", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert "m: " in answer.err and len(answer.err.splitlines()) == 1


ABOUT = {
    "max_length": ("long", "m/petkit.json: max_length is damaged"),
    "fields": ([], "m/petkit.json: fields is damaged"),
    "truncate": ("all", "m/petkit.json: truncate is damaged"),
    "label_kind": ("none", "m/petkit.json: label_kind is damaged"),
    "thresholds": ([0.5, 0.5, 0.5], "m/petkit.json: thresholds: one for each of 2 labels is needed"),
    "labels": (["one", "two"], "m/petkit.json: labels: config.json names others (write the same in both)"),
    "columns": ([1], "m/petkit.json: columns is damaged"),
    "label_separator": ("|" * 1_000_000, "m/petkit.json: label_separator is damaged"),
}


@pytest.mark.parametrize("key", ABOUT)
def test_damaged_words_about_a_student_are_refused(key: str, model: Path, petkit_command: Petkit) -> None:
    value, reported = ABOUT[key]
    new_classifier("m", ["a", "b"])[0].save_pretrained(model)
    (model / "petkit.json").write_text(json.dumps({key: value}))

    answer = petkit_command("predict", "m", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert reported in answer.err and len(answer.err.splitlines()) == 1


DEEP = {"base": "m", "base_sha256": "", "labels": ["a", "b"], "label_kind": "single"}
BEYOND: list[tuple[dict[str, object], str]] = [
    ({"max_length": 1}, "m/petkit.json: max_length: 1 tokens leave no room for a text between 2 special ones (raise it)"),
    ({"thresholds": [0.5, float("nan")]}, "m/petkit.json: thresholds.1 is damaged"),
    ({"thresholds": [2.0, 0.5]}, "m/petkit.json: thresholds.0 is damaged"),
    ({"thresholds": [-5.0, 0.5]}, "m/petkit.json: thresholds.0 is damaged"),
    (
        {"adapter": {"kind": "p_tuning_v2", "projection": True, "projection_size": 10**9}, **DEEP},
        "m/petkit.json: projection_size: petkit reads at most 4096",
    ),
    (
        {"adapter": {"kind": "p_tuning_v1", "encoder_size": 10**9}, **DEEP},
        "m/petkit.json: encoder_size: petkit reads at most 4096",
    ),
]


@pytest.mark.parametrize(("record", "reported"), BEYOND)
def test_values_of_a_student_are_bounded(record: dict[str, object], reported: str, model: Path, petkit_command: Petkit) -> None:
    new_classifier("m", ["a", "b"])[0].save_pretrained(model)
    (model / "petkit.json").write_text(json.dumps(record))

    answer = petkit_command("predict", "m", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert reported in answer.err and len(answer.err.splitlines()) == 1


def test_a_record_of_a_student_is_not_read_beyond_its_size(model: Path, petkit_command: Petkit) -> None:
    new_classifier("m", ["a", "b"])[0].save_pretrained(model)
    with (model / "petkit.json").open("wb") as file:
        file.truncate(10**10)

    answer = petkit_command("predict", "m", "a text")

    assert answer.code == 2
    assert answer.err.startswith("m/petkit.json: larger than 64 MiB (")


def test_a_classifier_with_a_value_that_is_not_a_number_is_refused(model: Path) -> None:
    new_classifier("m", ["a", "b"])[0].save_pretrained(model)
    change_weights(lambda state: state["classifier.bias"].fill_(float("nan")))(model, Mark(model))

    with pytest.raises(ModelRefused, match=r"^m: the weights are damaged: classifier\.bias contains NaN or Inf$"):
        load_classifier("m")
