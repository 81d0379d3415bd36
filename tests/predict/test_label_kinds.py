"""Predictions of every label kind: what a predictor says, and how files and tables show it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.cli.console import show_metrics, show_predictions
from petkit.ensemble import LabelKind
from petkit.metrics.decision import Decision
from petkit.predict.output import json_writer, output_file
from petkit.predict.predictor import Prediction, Predictor
from petkit.predict.row_io import argument_rows, evaluate_file, predict_rows, source_of

LABELS = ("low", "middle", "high")
LOGITS = {
    "one": [2.0, 1.0, 0.1],
    "two": [-1.0, 3.0, 2.0],
    "three": [-1.0, -1.0, -1.0],
}


def predictor_of(decision: Decision, **reading: Any) -> Predictor:
    """Return a predictor that looks its logits up."""

    def score(rows: Sequence[Any]) -> Any:
        return np.array([LOGITS[row["text"]] for row in rows], np.float32)

    return Predictor(LABELS, ("text",), reading, score, decision)


MULTI = predictor_of(Decision(LabelKind.MULTI, (0.5, 0.5, 0.9)))
ORDINAL = predictor_of(Decision(LabelKind.ORDINAL))
SINGLE = predictor_of(Decision())


def test_one_label() -> None:
    (found,) = SINGLE(["one"])

    assert (found.label, found.labels, found.expected) == ("low", ("low",), None)
    assert found.probability == found.probabilities["low"] == pytest.approx(0.659001, abs=1e-6)


def test_a_place_on_a_scale() -> None:
    first, second, _ = ORDINAL(list(LOGITS))

    assert (first.label, second.label) == ("low", "middle")
    assert first.expected == pytest.approx(1 + 0.242433 + 2 * 0.098566, abs=1e-6)  # places count from 1
    assert first.probability == SINGLE(["one"])[0].probability


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (("1", "2", "3"), (1, 2, 3)),
        (("0", "1", "2"), (0, 1, 2)),
        (("+5", "0", "-5"), (5, 0, -5)),
        (("0.5", "1.0", "10"), (0.5, 1, 10)),
        (("1 star", "2 stars", "3 stars"), (1, 2, 3)),
        (("1", "3", "2"), (1, 2, 3)),
        (("1", "1.0", "2"), (1, 2, 3)),
        (("nan", "1", "inf"), (1, 2, 3)),
        (("²", "٣", "4"), (1, 2, 3)),
    ],
)
def test_expected_is_on_the_labels_own_scale(labels: tuple[str, ...], values: tuple[float, ...]) -> None:
    """Numbers in order are their own scale; of all other labels the place counts, from 1."""
    predictor = Predictor(labels, ("text",), {}, lambda rows: np.array([LOGITS["one"]], np.float32), ORDINAL.decision)
    (found,) = predictor(["one"])

    assert found.expected == pytest.approx(sum(p * v for p, v in zip(found.probabilities.values(), values, strict=True)))


def test_several_labels() -> None:
    first, second, third = MULTI(list(LOGITS))

    assert [first.labels, second.labels, third.labels] == [("low", "middle"), ("middle",), ()]
    assert [first.label, second.label, third.label] == ["low|middle", "middle", ""]
    assert first.probabilities == pytest.approx({"low": 0.880797, "middle": 0.731059, "high": 0.524979}, abs=1e-6)
    # These labels and no other, each judged on its own.
    assert first.probability == pytest.approx(0.880797 * 0.731059 * (1 - 0.524979), abs=1e-6)
    assert third.probability == pytest.approx(0.731059**3, abs=1e-6)


def written(predictor: Predictor, kind: str, folder: Path) -> str:
    """Write the predictions of all texts as a file and return its text."""
    path = folder / f"out.{kind}"
    with output_file(path, predictor) as write:
        for example, prediction in predict_rows(argument_rows(list(LOGITS), predictor), predictor):
            write(example, prediction)
    return path.read_text(encoding="utf-8")


def test_json_lines(here: Path) -> None:
    multi, ordinal, single = (
        [json.loads(line) for line in written(predictor, "jsonl", here).splitlines()] for predictor in (MULTI, ORDINAL, SINGLE)
    )

    assert [row["label"] for row in multi] == [["low", "middle"], ["middle"], []]
    assert [row["label"] for row in ordinal] == ["low", "middle", "low"]
    assert ordinal[0]["expected"] == pytest.approx(1.439565, abs=1e-6)
    assert all("expected" not in row for row in (*multi, *single))
    assert list(single[0]) == ["id", "text", "label", "probability", "probabilities"]


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables(kind: str, delimiter: str, here: Path) -> None:
    multi, ordinal = (
        list(csv.reader(io.StringIO(written(predictor, kind, here)), delimiter=delimiter)) for predictor in (MULTI, ORDINAL)
    )

    shares = [f"p({label})" for label in LABELS]
    assert multi[0] == ["id", "text", "label", "probability", *shares]
    assert ordinal[0] == ["id", "text", "label", "probability", "expected", *shares]
    assert [row[2] for row in multi[1:]] == ["low|middle", "middle", ""]
    assert float(ordinal[1][4]) == pytest.approx(1.439565, abs=1e-6)
    assert {len(row) for row in (*multi, *ordinal)} == {len(multi[0]), len(ordinal[0])}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
@pytest.mark.parametrize("predictor", [MULTI, ORDINAL, SINGLE, predictor_of(Decision(LabelKind.MULTI), label_separator="; ")])
def test_predictions_read_like_labelled_data(predictor: Predictor, kind: str, here: Path) -> None:
    written(predictor, kind, here)

    labels = [[predictor.labels[index] for index in row.labels] for row in source_of(f"out.{kind}", predictor, labelled=True)]
    assert labels == [list(prediction.labels) for prediction in predictor(list(LOGITS))]
    assert evaluate_file(predictor, f"out.{kind}").accuracy == 1.0


@pytest.mark.parametrize(
    ("predictor", "figures"),
    [
        (MULTI, ("all labels right", "micro-F1", "macro-F1", "decisions right")),
        (
            ORDINAL,
            ("accuracy", "mean absolute error", "mean absolute error of the expected value", "quadratic κ", "gold \\ predicted"),
        ),
        (SINGLE, ("accuracy", "macro-F1", "gold \\ predicted")),
    ],
)
def test_figures_are_shown(
    predictor: Predictor, figures: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(predictor, "jsonl", here)
    metrics = evaluate_file(predictor, "out.jsonl").to_dict()

    show_metrics(metrics)

    shown = capsys.readouterr().out
    assert all(f"{figure}  " in shown for figure in figures)
    assert ("gold \\ predicted" in shown) == (predictor is not MULTI)
    assert ("absolute error" in shown) == (predictor is ORDINAL)


@pytest.mark.parametrize(
    ("predictor", "lines"),
    [
        (MULTI, [["one", "low,", "middle", "0.306"], ["two", "middle", "0.083"], ["three", "(none)", "0.391"]]),
        (ORDINAL, [["one", "low", "0.659", "1.440"], ["two", "middle", "0.721", "2.252"], ["three", "low", "0.333", "2.000"]]),
    ],
)
def test_predictions_are_shown(predictor: Predictor, lines: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    show_predictions(list(LOGITS), predictor(list(LOGITS)))

    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == lines


def test_a_prediction_is_plain_data() -> None:
    stream = io.StringIO()
    (example,) = argument_rows(["one"], MULTI)

    json_writer(stream, MULTI)(example, Prediction("a|b", 0.5, {"a": 0.6, "b": 0.9}, ("a", "b")))

    assert json.loads(stream.getvalue())["label"] == ["a", "b"]
