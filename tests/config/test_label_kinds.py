"""Label kinds in a pipeline: thresholds, separators, and what goes with one label per row only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.errors import InvalidInput
from tests.cli import project


def load(here: Path, *overrides: str) -> PipelineSpec:
    """Load the tiny project with overrides; no model is looked for."""
    return load_pipeline(project.write(here, Path("model")), overrides).spec


@pytest.mark.parametrize(
    ("written", "thresholds"),
    [
        (None, (0.5, 0.5)),
        ("0.3", (0.3, 0.3)),
        ("1", (1, 1)),
        ("{Sports: 0.7}", (0.5, 0.7)),
        ("{Sports: 0, World: 0.2}", (0.2, 0.0)),
    ],
)
def test_thresholds(written: str | None, thresholds: tuple[float, ...], here: Path) -> None:
    overrides = [] if written is None else [f"student.thresholds={written}"]

    spec = load(here, "label_kind=multi", *overrides)
    assert tuple(map(spec.student.threshold, spec.labels)) == thresholds


@pytest.mark.parametrize(
    ("overrides", "reported"),
    [
        (["student.thresholds={Sprots: 0.3}"], "label 'Sprots' is not in the verbalizer"),
        (["student.thresholds={Sports: 1.3}"], "must be"),
        (["student.thresholds=-0.1"], "must be"),
        (["student.thresholds=[0.5, 0.5]"], "must be"),
        (["data.label_separator=o"], "label 'World' contains 'o', which separates labels (set data.label_separator)"),
        (["data.label_separator="], "must"),
    ],
)
def test_mistakes_where_rows_may_have_several_labels(overrides: list[str], reported: str, here: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(here, "label_kind=multi", *overrides)

    assert reported in str(caught.value)


@pytest.mark.parametrize("kind", ["single", "ordinal"])
@pytest.mark.parametrize("thresholds", ["0.3", "{Sports: 0.5}"])
def test_thresholds_are_for_several_labels(kind: str, thresholds: str, here: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(here, f"label_kind={kind}", f"student.thresholds={thresholds}")

    reported = "student.thresholds: the most probable label wins; thresholds are for label_kind: multi"
    (line,) = str(caught.value).splitlines()
    assert line.endswith(reported)


def test_a_threshold_for_no_label_is_reported_where_it_stands(here: Path) -> None:
    path = project.write(here, Path("model"))
    text = path.read_text(encoding="utf-8")
    path.write_text(f"label_kind: multi\n{text.replace('student: {', 'student: {thresholds: {Art: 0.4}, ')}", encoding="utf-8")

    with pytest.raises(InvalidInput) as caught:
        load_pipeline(path)
    assert (
        str(caught.value)
        == "pipeline.yaml:12: student.thresholds.Art: label 'Art' is not in the verbalizer (known: World, Sports)"
    )


def test_no_separator_is_one_mistake(here: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(here, "label_kind=multi", "data.label_separator=''")

    (line,) = str(caught.value).splitlines()
    assert line.endswith("data.label_separator: must not be empty")


def test_one_label_per_row_may_hold_the_separator(here: Path) -> None:
    assert load(here, "verbalizer={labels: {'World|Asia': [world], Sports: [football]}}").labels == ("World|Asia", "Sports")


@pytest.mark.parametrize("value", [True, "half", None, [0.5]])
def test_thresholds_of_a_wrong_type_are_one_mistake(value: Any, here: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(here, f"student.thresholds={value}")

    assert all("student.thresholds" in line and "must" in line for line in str(caught.value).splitlines())
