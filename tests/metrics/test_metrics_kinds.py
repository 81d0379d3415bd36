"""Figures of rows on a scale and of rows with several labels: by hand, against scikit-learn, and against resampled rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, log_loss, precision_score, recall_score

from petkit.ensemble import LabelKind
from petkit.metrics.bootstrap import bootstrap_decisions
from petkit.metrics.decision import Decision
from petkit.metrics.metrics import MultiLabelMetrics, OrdinalMetrics, SingleLabelMetrics, evaluate

NAMES = ("a", "b", "c")
MULTI = Decision(LabelKind.MULTI)


def floats(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def logits_of(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the logits of probabilities of independent labels."""
    probabilities = np.array(rows)
    return np.log(probabilities / (1 - probabilities)).astype(np.float32)


def multi(logits: NDArray[np.float32], targets: NDArray[np.float32], decision: Decision = MULTI) -> MultiLabelMetrics:
    found = evaluate(logits, targets, tuple(f"label-{index}" for index in range(logits.shape[1])), decision)
    assert isinstance(found, MultiLabelMetrics)
    return found


def ordinal(logits: NDArray[np.float32], gold: NDArray[np.int64], names: tuple[str, ...] = NAMES) -> OrdinalMetrics:
    found = evaluate(logits, np.eye(len(names), dtype=np.float32)[gold], names, Decision(LabelKind.ORDINAL))
    assert isinstance(found, OrdinalMetrics)
    return found


# Three rows of two labels: given a; a and b; nothing. Gold a; b; nothing.
LOGITS = logits_of((0.9, 0.2), (0.6, 0.8), (0.3, 0.1))
TARGETS = floats((1, 0), (0, 1), (0, 0))


def test_several_labels_by_hand() -> None:
    found = multi(LOGITS, TARGETS)

    assert (found.rows, found.accuracy, found.label_accuracy) == (3, pytest.approx(2 / 3), pytest.approx(5 / 6))
    first, second = found.labels.values()
    assert (first.precision, first.recall, first.f1, first.rows) == (0.5, 1.0, pytest.approx(2 / 3), 1)
    assert (second.precision, second.recall, second.f1, second.rows) == (1.0, 1.0, 1.0, 1)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.micro_f1 == pytest.approx(2 * 2 / (3 + 2))  # two of three given are right, of two gold
    # -ln of what the two labels of each row really are: .9 .8, .4 .8, .7 .9
    nll = [0.105361 + 0.223144, 0.916291 + 0.223144, 0.356675 + 0.105361]
    assert found.nll == pytest.approx(sum(nll) / 3, abs=5e-6)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.36 + 0.04 + 0.09 + 0.01) / 3, abs=1e-6)


def test_calibration_of_every_decision() -> None:
    """Of fifteen bins: .6 wrong; .7; two of .8; two of .9, all right."""
    gaps = [0.6, 0.3, 2 * 0.2, 2 * 0.1]
    assert multi(LOGITS, TARGETS).ece == pytest.approx(sum(gaps) / 6, abs=1e-6)


def test_thresholds_move_the_decisions_and_leave_the_probabilities() -> None:
    found, even = multi(LOGITS, TARGETS, Decision(LabelKind.MULTI, (0.7, 0.5))), multi(LOGITS, TARGETS)

    assert (found.accuracy, found.micro_f1, found.macro_f1) == (1.0, 1.0, 1.0)
    assert (found.nll, found.brier) == (even.nll, even.brier)


def test_nothing_given_and_nothing_there() -> None:
    found = multi(logits_of((0.1, 0.2)), floats((0, 0)))

    assert (found.accuracy, found.micro_f1, found.macro_f1) == (1.0, None, None)
    assert found.micro_f1_interval is None and found.macro_f1_interval is None


@pytest.mark.parametrize(("rows", "labels", "seed"), [(60, 2, 0), (200, 5, 1), (1, 3, 2)])
def test_several_labels_against_scikit_learn(rows: int, labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = (2 * random.standard_normal((rows, labels))).astype(np.float32)
    targets = (random.random((rows, labels)) < 0.4).astype(np.float32)
    found, given, gold = multi(logits, targets), logits >= 0, targets.astype(int)
    assert found.accuracy == pytest.approx(accuracy_score(gold, given))
    present = np.flatnonzero((gold | given).any(axis=0))
    for figure, average in ((found.micro_f1, "micro"), (found.macro_f1, "macro")):
        assert figure == pytest.approx(f1_score(gold, given, labels=present, average=average, zero_division=0))
    for function, name in ((precision_score, "precision"), (recall_score, "recall"), (f1_score, "f1")):
        expected = function(gold, given, average=None, zero_division=0)
        np.testing.assert_allclose([getattr(entry, name) or 0.0 for entry in found.labels.values()], expected)
    assert [entry.rows for entry in found.labels.values()] == gold.sum(axis=0).tolist()
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    losses = [log_loss(gold[:, label], probabilities[:, label], labels=[0, 1]) for label in range(labels)]
    assert found.nll == pytest.approx(sum(losses))
    assert found.brier == pytest.approx(((probabilities - gold) ** 2).sum(axis=1).mean())


@pytest.mark.slow
def test_bootstrap_of_decisions_is_that_of_rows() -> None:
    random = np.random.default_rng(3)
    gold = random.random((150, 3)) < 0.4
    given = gold ^ (random.random((150, 3)) < 0.2)
    drawn = []
    for _ in range(1500):
        rows = random.integers(150, size=150)
        drawn.append([f1_score(gold[rows], given[rows], average=average, zero_division=0) for average in ("micro", "macro")])

    for found, values in zip(bootstrap_decisions(given, gold), np.array(drawn).T, strict=True):
        assert found == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)


def test_bootstrap_of_decisions_is_deterministic_and_follows_its_seed() -> None:
    gold = np.random.default_rng(0).random((40, 2)) < 0.5
    given = np.random.default_rng(1).random((40, 2)) < 0.5

    assert bootstrap_decisions(given, gold) == bootstrap_decisions(given, gold)
    assert bootstrap_decisions(given, gold) != bootstrap_decisions(given, gold, seed=1)


def test_several_labels_sure_and_wrong_are_strict_json() -> None:
    found = multi(floats((1e4, -1e4)), floats((0, 1))).to_dict()

    assert json.loads(json.dumps(found, allow_nan=False))["nll"] == 2e4


# Four rows on a scale of three places: the most probable are 0, 1, 2, 2; gold 0, 2, 2, 0.
SCALE = np.log(floats((0.8, 0.1, 0.1), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7), (0.3, 0.3, 0.4)))
GOLD = np.array([0, 2, 2, 0])


def test_scale_by_hand() -> None:
    found = ordinal(SCALE, GOLD)

    assert found.mae == pytest.approx((0 + 1 + 0 + 2) / 4)
    expected = [0.3, 1.1, 1.6, 1.1]
    assert found.expected_mae == pytest.approx((expected[0] + 2 - expected[1] + 2 - expected[2] + expected[3]) / 4, abs=1e-6)
    # Squared errors: 0 + 1 + 0 + 4 observed; by chance gold {0: 2, 2: 2} meets {0: 1, 1: 1, 2: 2}:
    # (2 · (0 + 1 + 2 · 4) + 2 · (4 + 1 + 0)) / 4 = 7.
    assert found.quadratic_kappa == pytest.approx(1 - 5 / 7)
    plain = evaluate(SCALE, np.eye(3, dtype=np.float32)[GOLD], NAMES, Decision())
    assert plain.to_dict().items() <= found.to_dict().items()


def test_distances_are_on_the_scale_of_the_labels() -> None:
    """Labels that are numbers are their own scale; the most probable are 1, 2, 5, 5, gold 1, 5, 5, 1."""
    found, places = ordinal(SCALE, GOLD, ("1", "2", "5")), ordinal(SCALE, GOLD)

    assert found.mae == pytest.approx((0 + 3 + 0 + 4) / 4)
    expected = [0.8 + 0.2 + 0.5, 0.2 + 1.0 + 1.5, 0.1 + 0.4 + 3.5, 0.3 + 0.6 + 2.0]
    assert found.expected_mae == pytest.approx((expected[0] - 1 + 5 - expected[1] + 5 - expected[2] + expected[3] - 1) / 4)
    assert (found.quadratic_kappa, found.accuracy) == (places.quadratic_kappa, places.accuracy)


@pytest.mark.parametrize(("predicted", "gold"), [([1, 1], [1, 1]), ([0, 0], [1, 1]), ([0, 2], [1, 1])])
def test_kappa_where_gold_has_one_place(predicted: list[int], gold: list[int]) -> None:
    logits = 5 * np.eye(3, dtype=np.float32)[predicted]

    assert ordinal(logits, np.array(gold)).quadratic_kappa == pytest.approx(0.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_kappa_against_scikit_learn_and_all_places_right(seed: int) -> None:
    random = np.random.default_rng(seed)
    gold = random.integers(5, size=60)
    logits = random.standard_normal((60, 5)).astype(np.float32)
    names = tuple("abcde")

    found = ordinal(logits, gold, names)
    assert found.quadratic_kappa == pytest.approx(cohen_kappa_score(gold, logits.argmax(1), weights="quadratic"))
    assert ordinal(9 * np.eye(5, dtype=np.float32)[gold], gold, names).quadratic_kappa == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("decision", "kind"),
    [(Decision(), SingleLabelMetrics), (Decision(LabelKind.ORDINAL), OrdinalMetrics), (MULTI, MultiLabelMetrics)],
)
def test_every_kind_has_its_figures_and_all_have_the_headline(decision: Decision, kind: type[Any]) -> None:
    found = evaluate(SCALE, np.eye(3, dtype=np.float32)[GOLD], NAMES, decision)

    assert type(found) is kind
    low, high = found.to_dict()["accuracy_interval"]
    assert 0 <= low <= found.to_dict()["accuracy"] <= high <= 1
    assert ("confusion" in found.to_dict()) == (decision.kind != "multi")
