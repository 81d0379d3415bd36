"""What a cell of labels means: class numbers, floats, truth values, lists, choices, and what is missing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.rules import in_pipeline
from petkit.data.labels import LabelReader, NotLabels, alike

LABELS = ("World", "Sports", "Sci/Tech")


def read(value: Any, labels: Any = LABELS, **settings: Any) -> tuple[str, ...] | None:
    return LabelReader(labels, **settings).read(value)


@pytest.mark.parametrize(
    ("value", "labels", "label"),
    [
        (1.0, ("0", "1"), "1"),
        ("1.0", ("0", "1"), "1"),
        ("1.0", ("1.0", "2.0"), "1.0"),
        (1.0, ("1.0", "2.0"), "1.0"),
        (-1.0, ("-1", "1"), "-1"),
        (True, ("false", "true"), "true"),
        (True, ("False", "True"), "True"),
        ("TRUE", ("false", "true"), "true"),
        ("False", ("false", "true"), "false"),
        (["World"], LABELS, "World"),
        ('["World"]', LABELS, "World"),
        ({"choices": ["World"]}, LABELS, "World"),
        ({"choices": "World"}, LABELS, "World"),
        ('{"choices": ["World"]}', LABELS, "World"),
        ('["World"]', ('["World"]', "World"), '["World"]'),
    ],
)
def test_one_label(value: Any, labels: Any, label: str) -> None:
    assert read(value, labels) == (label,)


@pytest.mark.parametrize("value", [None, math.nan, "", " \t", [], "[]", {"choices": []}])
def test_missing(value: Any) -> None:
    assert read(value) is None


@pytest.mark.parametrize("value", [0.5, math.inf, [None], [["World"]], {"label": "World"}, [math.nan], "[1", {"choices": ""}])
def test_refused(value: Any) -> None:
    with pytest.raises(NotLabels):
        read(value)


@pytest.mark.parametrize("value", [["World", "Sports"], '["World", "Sports"]', "World|Sports", {"choices": ["World", "Sports"]}])
def test_several(value: Any) -> None:
    assert read(value, multi=True) == ("World", "Sports")
    with pytest.raises(NotLabels, match="contains several labels"):
        read(value)


@pytest.mark.parametrize("value", [0, "0", 0.0, "0.0", [0], "[0]"])
def test_a_whole_number_is_a_class_number_where_these_have_names(value: Any) -> None:
    assert read(value, ("0", "1"), names=("1", "0")) == ("1",)
    assert read(value, ("0", "1")) == ("0",)


def test_a_number_beyond_the_class_numbers_may_be_a_name() -> None:
    assert read(20, ("10", "20"), names=("10", "20")) == ("20",)
    assert read(1, ("10", "20"), names=("10", "20")) == ("20",)


@given(st.permutations(["0", "1", "2", "three", "4"]), st.permutations(["0", "1", "2", "three", "4"]))
def test_no_name_is_the_class_number_of_another_label(names: list[str], labels: list[str]) -> None:
    """Either the settings are refused, or every name and every class number means one label."""
    data = {"data": {"train": "a", "label_names": tuple(names)}, "verbalizer": {"labels": dict.fromkeys(labels, ("a",))}}
    refused = any(place == ("data", "label_names") for place, _ in in_pipeline(data))

    reader = LabelReader(labels, names)
    inverted = any(reader.read(name) != (name,) for name in names)

    assert refused == inverted
    assert all(reader.read(number) == (name,) for number, name in enumerate(names))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(VALUES | st.fixed_dictionaries({"choices": VALUES}))
def test_labels_found_in_any_file_are_read_there_again(value: Any) -> None:
    """What a reader without known labels takes for a label, one that knows this label takes for the same."""
    try:
        found = LabelReader(None).read(value)
    except NotLabels:
        return
    if found is not None:
        assert found[0].strip()
        assert read(value, found) == found
        assert read(json.loads(json.dumps(found[0])), found) == found


def test_hints() -> None:
    def hint(value: Any, **settings: Any) -> str:
        reader = LabelReader(LABELS, **settings)
        with pytest.raises(NotLabels) as caught:
            reader.read(value)
        return reader.advice(caught.value)

    assert hint(7.0, names=LABELS) == "class numbers go from 0 to 2"
    assert hint("1.0") == "class numbers need data.label_names"
    assert hint("['World', 'Sports']", multi=True).startswith("several labels are written World|Sports; ")
    assert hint("Art, World", multi=True) == "did you mean 'World'?"


def test_labels_that_look_alike() -> None:
    assert alike(["Good", "bad", "good", "good ", "a  b", "a b"]) == [("Good", "good"), ("Good", "good "), ("a  b", "a b")]
