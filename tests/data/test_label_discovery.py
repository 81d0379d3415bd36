"""Labels read off a file of few-shot examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from petkit import limits
from petkit.config.schema.pipeline import DataSpec
from petkit.data import label_set
from petkit.data.label_set import labels_in
from petkit.errors import InvalidInput


def labels(values: list[Any], here: Path, **columns: str) -> tuple[str, ...]:
    (here / "train.jsonl").write_text("".join(json.dumps({"text": "a", "label": value}) + "\n" for value in values))
    return labels_in("train.jsonl", DataSpec(unlabeled="", columns=columns))


def test_labels_come_once_and_in_alphabetic_order(here: Path) -> None:
    assert labels(["b", "a", "c", "a", "b"], here) == ("a", "b", "c")
    assert labels(["World", "Sci/Tech", "体育", "no"], here) == ("Sci/Tech", "World", "no", "体育")


def test_numbers_come_in_their_own_order(here: Path) -> None:
    assert labels([10, 2, 1, 2], here) == ("1", "2", "10")
    assert labels(["10", "2", 1], here) == ("1", "2", "10")
    assert labels([-1, 2, -2, 0, 1], here) == ("-2", "-1", "0", "1", "2")
    assert labels(["10", "2", "a"], here) == ("10", "2", "a")  # no scale


def test_a_scale_must_have_an_order(here: Path) -> None:
    labels(["low", "high"], here)
    with pytest.raises(InvalidInput, match=r"train\.jsonl: label: the order of its labels is unknown"):
        labels_in("train.jsonl", DataSpec(unlabeled=""), ordinal=True)
    labels([3, 10, 1], here)
    assert labels_in("train.jsonl", DataSpec(unlabeled=""), ordinal=True) == ("1", "3", "10")


def test_what_is_not_a_label_is_left_to_the_reading_of_the_rows(here: Path) -> None:
    assert labels(["a", None, "", 1.5, ["b", "c"], {"b": 1}, "b"], here) == ("a", "b")


def test_the_column_has_the_name_the_data_gives_it(here: Path) -> None:
    assert labels(["b", "a"], here, label="label") == ("a", "b")
    with pytest.raises(InvalidInput) as refused:
        labels(["b", "a"], here, label="topic")
    assert str(refused.value) == "train.jsonl: topic: contains no labels; a classifier needs at least two"


def test_one_label_is_too_few_and_texts_are_too_many(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"train\.jsonl: label: contains one label; a classifier needs at least two"):
        labels(["a", "a"], here)
    monkeypatch.setattr(limits, "LABELS", 3)
    assert labels(["a", "b", "c", "a"], here) == ("a", "b", "c")
    with pytest.raises(InvalidInput, match=r"train\.jsonl:4: label: contains more than 3 different labels"):
        labels(["a", "b", "c", "d", "e"], here)


def test_a_source_that_names_its_classes_keeps_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_set, "class_names", lambda source, column: ("World", "Art") if column == "topic" else None)
    assert labels_in("hf://news/train", DataSpec(unlabeled="", columns={"label": "topic"})) == ("World", "Art")


def test_the_alphabet_is_not_a_scale(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = "train.jsonl: label: the order of its labels is unknown, and label_kind is ordinal"
    labels(["low", "middle", "high"], here)
    with pytest.raises(InvalidInput) as refused:
        labels_in("train.jsonl", DataSpec(unlabeled=""), ordinal=True)
    assert str(refused.value) == f"{reported} (list them: labels: {{low: [], …}})"

    labels([3, 1, 2], here)
    assert labels_in("train.jsonl", DataSpec(unlabeled=""), ordinal=True) == ("1", "2", "3")
    monkeypatch.setattr(label_set, "class_names", lambda source, column: ("low", "high"))
    assert labels_in("hf://stars/train", DataSpec(unlabeled=""), ordinal=True) == ("low", "high")


def test_a_missing_file_is_the_readers_to_report(here: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.jsonl: no such file"):
        labels_in("nowhere.jsonl", DataSpec(unlabeled=""))
