"""What a step depends on: which differences count, and how they are reported."""

from __future__ import annotations

import pytest

from petkit.runs.fingerprint import Inputs, Value, changes, fingerprint

BASE: Inputs = {
    "step.version": 1,
    "labels": ["World", "Sports"],
    "model": "0123456789abcdef" * 4,
    "teachers.steps": 100,
    "teachers.learning_rate": 1e-4,
    "student.model": None,
    "verbalizer": {"World": ["world"], "Sports": ["sports", "football"]},
}
OTHER_HASH = "fedcba9876543210" * 4


def changed(**values: Value) -> Inputs:
    return {**BASE, **{name.replace("__", "."): value for name, value in values.items()}}


def test_fingerprint_is_a_hash_and_ignores_the_order_of_keys() -> None:
    assert fingerprint(BASE) == fingerprint(dict(reversed(BASE.items())))
    assert len(fingerprint(BASE)) == 64 and int(fingerprint(BASE), 16)


def test_fingerprint_is_the_same_tomorrow() -> None:
    """A changed formula would make every run folder of the world stale."""
    assert fingerprint({"b": [1, 2], "a": 1e-4}) == "58daf16b8067e40c1572dd432512b26a65ea5c94a0b9c1d3d42546bec8785b86"


@pytest.mark.parametrize(
    "other",
    [
        changed(teachers__steps=200),
        changed(teachers__steps=100.5),
        changed(teachers__steps="100"),
        changed(teachers__steps=None),
        changed(labels=["Sports", "World"]),
        changed(verbalizer={"Sports": ["sports", "football"], "World": ["world"]}),
        changed(verbalizer={"World": ["world"], "Sports": ["football", "sports"]}),
        changed(new=1),
        {name: value for name, value in BASE.items() if name != "student.model"},
    ],
)
def test_every_difference_counts(other: Inputs) -> None:
    assert fingerprint(other) != fingerprint(BASE)
    assert changes(BASE, other)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused(number: float) -> None:
    with pytest.raises(ValueError):
        fingerprint({"a": number})


@pytest.mark.parametrize(
    ("other", "reported"),
    [
        (BASE, ""),
        (changed(teachers__steps=200), "teachers.steps 100 → 200"),
        (changed(teachers__learning_rate=3e-5), "teachers.learning_rate 0.0001 → 3e-05"),
        (changed(student__model="roberta-base"), "student.model null → roberta-base"),
        (changed(model=OTHER_HASH), "model changed"),
        (changed(labels=["Sports", "World"]), 'labels ["World", "Sports"] → ["Sports", "World"]'),
        (changed(verbalizer={"World": ["w"] * 40, "Sports": ["s"]}), "verbalizer changed"),
        (changed(extra=1), "extra added"),
        ({name: value for name, value in BASE.items() if name != "model"}, "model removed"),
        (changed(teachers__steps=200, model=OTHER_HASH), "model changed, teachers.steps 100 → 200"),
    ],
)
def test_changes_in_words(other: Inputs, reported: str) -> None:
    assert changes(BASE, other) == reported


def test_true_is_not_one_and_one_is_not_one_point_zero() -> None:
    assert changes({"a": 1}, {"a": True}) == "a 1 → true"
    assert fingerprint({"a": 1}) != fingerprint({"a": True})
