"""Combining teachers: the known numbers, float64 references, and weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from petkit.ensemble import Ensemble, How, LabelKind, agreement, combine, entropy, log_softmax, normalised

HOWS: tuple[How, ...] = ("logits", "log_probs", "probs")


def softmax64(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) / temperature)
    return powers / powers.sum(-1, keepdims=True)


def teachers(count: int, rows: int, labels: int, seed: int = 0) -> NDArray[np.float32]:
    return (3 * np.random.default_rng(seed).standard_normal((count, rows, labels))).astype(np.float32)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, (0.999664, 0.000335, 0.000001)),
        (1.0, (0.981135, 0.017970, 0.000895)),
        (10.0, (0.461488, 0.309344, 0.229168)),
    ],
)
def test_softmax_temperatures(temperature: float, expected: tuple[float, ...]) -> None:
    probabilities = np.exp(log_softmax(np.array([9, 5, 2], np.float32), temperature))
    assert probabilities == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4)])
def test_log_softmax_against_naive(shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    result = log_softmax(logits, 2.0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.log(softmax64(logits, 2.0)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_log_softmax_is_stable_and_ignores_a_shift(shift: float) -> None:
    logits = np.array([[3.0, 1.0, -2.0]], np.float32)
    np.testing.assert_allclose(log_softmax(logits + np.float32(shift)), log_softmax(logits), atol=2e-3)
    assert np.isfinite(log_softmax(np.array([[1e4, -1e4]], np.float32))).all()


@pytest.mark.parametrize(("how", "expected"), [("logits", 0.9999), ("log_probs", 0.9999), ("probs", 0.5126)])
def test_a_sharp_teacher_wins_only_where_logits_are_averaged(how: How, expected: float) -> None:
    """One teacher, made five times sharper, against two that disagree with it mildly."""
    three = np.array([[[5 * 6, 0]], [[0, 1]], [[0, 1]]], np.float32)
    combined = combine(three, np.ones(3, np.float32), how)
    assert np.exp(log_softmax(combined))[0, 0] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.7, 0.2, 0.9, 0.4), (3, 0, 1, 0)])
def test_combine_against_float64(weights: tuple[float, ...]) -> None:
    logits = teachers(4, 6, 5)
    share = np.array(weights) / sum(weights)
    given = np.array(weights, np.float32)
    mean_logits = np.tensordot(share, logits.astype(np.float64), 1)
    np.testing.assert_allclose(combine(logits, given, "logits"), mean_logits, rtol=1e-4, atol=1e-5)
    mean_log_probs = np.tensordot(share, np.log(softmax64(logits)), 1)
    np.testing.assert_allclose(combine(logits, given, "log_probs"), mean_log_probs, rtol=1e-4, atol=1e-5)
    mean_probs = np.tensordot(share, softmax64(logits), 1)
    np.testing.assert_allclose(np.exp(combine(logits, given, "probs")), mean_probs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_a_teacher_of_weight_zero_has_no_say(how: How) -> None:
    logits = teachers(3, 4, 3)
    without = combine(logits[:2], np.array([2, 1], np.float32), how)
    with_zero = combine(logits, np.array([2, 1, 0], np.float32), how)
    np.testing.assert_allclose(with_zero, without, rtol=1e-5, atol=1e-6)
    assert np.isfinite(with_zero).all()


@pytest.mark.parametrize("how", HOWS)
def test_one_teacher_is_its_own_ensemble(how: How) -> None:
    logits = teachers(1, 5, 4)
    combined = combine(logits, np.array([0.3], np.float32), how)
    np.testing.assert_allclose(log_softmax(combined), log_softmax(logits[0]), atol=2e-6)


@pytest.mark.parametrize("how", HOWS)
def test_only_the_ratio_of_weights_counts(how: How) -> None:
    logits, weights = teachers(3, 4, 3), np.array([1, 2, 5], np.float32)
    np.testing.assert_allclose(combine(logits, 10 * weights, how), combine(logits, weights, how), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_neither_the_order_of_teachers_nor_of_labels_matters(how: How) -> None:
    logits, weights = teachers(3, 4, 3), np.array([1, 2, 5], np.float32)
    combined = combine(logits, weights, how)
    for order in permutations(range(3)):
        chosen = list(order)
        np.testing.assert_allclose(combine(logits[chosen], weights[chosen], how), combined, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(combine(logits[..., chosen], weights, how), combined[:, chosen], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_extreme_logits_stay_finite(how: How) -> None:
    logits = np.array([[[1e4, -1e4, 0]], [[-1e4, 1e4, 0]]], np.float32)
    combined = combine(logits, np.array([1, 0], np.float32), how)
    assert np.isfinite(combined).all() and combined.argmax() == 0
    assert np.isfinite(log_softmax(combined, 2.0)).all()


@pytest.mark.parametrize(
    ("probabilities", "nats"),
    [((0.2, 0.8), 0.500402), ((0.5, 0.5), 0.693147), ((0.25,) * 4, 1.386294)],
)
def test_entropy_in_nats(probabilities: tuple[float, ...], nats: float) -> None:
    assert entropy(np.log(np.array([probabilities], np.float32)))[0] == pytest.approx(nats, abs=5e-6)


def test_entropy_of_a_sure_row_is_zero() -> None:
    assert entropy(log_softmax(np.array([[1e4, -1e4, 0]], np.float32)))[0] == 0.0


def test_agreement_counts_teachers_on_the_ensembles_side() -> None:
    logits = np.array([[[2, 0], [2, 0]], [[1, 0], [0, 5]], [[0, 1], [0, 1]]], np.float32)
    combined = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(agreement(logits, combined), [2 / 3, 2 / 3], rtol=1e-6)
    assert agreement(logits[:1], combined).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [([1.0, 1.0], [0.5, 0.5]), ([0.75, 0.5, 0.0], [0.6, 0.4, 0.0]), ([0.0, 0.0], [0.5, 0.5]), ([1, 1, 1], [0.333333] * 3)],
)
def test_weights_are_shares_and_equal_where_all_are_0(accuracies: list[float], expected: list[float]) -> None:
    assert normalised(accuracies) == expected


# -- rows of several labels ------------------------------------------------------------------------------


def test_a_yes_no_question_per_label() -> None:
    logits = np.array([[1.5, -2.0]], np.float32)
    assert LabelKind.MULTI.class_logits(logits).tolist() == [[[0, 1.5], [0, -2.0]]]
    assert LabelKind.SINGLE.class_logits(logits).tolist() == [[[1.5, -2.0]]]
    assert LabelKind.MULTI.choices(np.array([[1.5, -2.0, 0.0]], np.float32)).tolist() == [[1, 0, 0]]
    assert LabelKind.SINGLE.choices(np.array([[1.5, -2.0, 3.0]], np.float32)).tolist() == [[2]]


def test_combining_yes_no_answers() -> None:
    """Log-odds of 0.9 and 0.5: their mean is that of 0.75; the mean probability is 0.7."""
    two = np.log(np.array([[[9.0, 1.0]], [[1.0, 1 / 9]]], np.float32))
    weights = np.ones(2, np.float32)
    for how in ("logits", "log_probs"):
        np.testing.assert_allclose(combine(two, weights, how, LabelKind.MULTI), np.log([[3, 1 / 3]]), rtol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_allclose(combine(two, weights, "probs", LabelKind.MULTI), np.log([[7 / 3, 3 / 7]]), rtol=1e-5)


@pytest.mark.parametrize("how", HOWS)
def test_two_labels_are_one_question(how: How) -> None:
    """Logits (0, z) of two labels that exclude each other, and the yes/no logit z of one label."""
    one = teachers(3, 5, 1)
    weights = np.array([1, 2, 0], np.float32)
    two = combine(np.concatenate([np.zeros_like(one), one], -1), weights, how)
    np.testing.assert_allclose(combine(one, weights, how, LabelKind.MULTI)[:, 0], two[:, 1] - two[:, 0], rtol=1e-5, atol=1e-6)


def test_agreement_over_labels() -> None:
    logits = np.array([[[2, -2]], [[2, 2]]], np.float32)
    assert agreement(logits, np.array([[1, -1]], np.float32), LabelKind.MULTI).tolist() == [0.75]


# -- as ensemble.json has it -----------------------------------------------------------------------------


def described(
    count: int = 3, labels: Sequence[str] = "abc", kind: str = "single", how: How = "logits", seed: int = 3
) -> dict[str, Any]:
    """Return an ensemble in which every number counts."""
    random = np.random.default_rng(seed)
    members = {
        f"teacher-{index}": {
            "weight": round(float(random.uniform(0.1, 1)), 6),
            "temperature": float(random.uniform(0.5, 5)),
            "log_prior": dict(zip(labels, random.standard_normal(len(labels)).tolist(), strict=True)),
            "dropped": False,
        }
        for index in range(count)
    }
    bias = dict(zip(labels, random.standard_normal(len(labels)).tolist(), strict=True))
    return {"labels": list(labels), "label_kind": kind, "combine": how, "teachers": members, "label_bias": bias}


def test_an_ensemble_by_hand() -> None:
    """(4, 0) at temperature 2 less (1, -1) is (1, 1); (0, 3) stays; weights 3 to 1; bias (0.5, 0)."""
    ensemble = described(2, "ab")
    one, two = ensemble["teachers"].values()
    one |= {"weight": 0.75, "temperature": 2.0, "log_prior": {"a": 1.0, "b": -1.0}}
    two |= {"weight": 0.25, "temperature": 1.0, "log_prior": {"a": 0.0, "b": 0.0}}
    ensemble["label_bias"] = {"a": 0.5, "b": 0.0}
    logits = np.array([[[4, 0]], [[0, 3]]], np.float32)
    assert Ensemble.from_json(ensemble).combine(logits).tolist() == [[1.25, 1.5]]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["single", "multi", "ordinal"])
def test_a_plain_ensemble_is_the_plain_mean(how: How, kind: str) -> None:
    ensemble = described(3, how=how, kind=kind)
    for member in ensemble["teachers"].values():
        member |= {"temperature": 1.0, "log_prior": dict.fromkeys("abc", 0.0)}
    ensemble["label_bias"] = dict.fromkeys("abc", 0.0)
    logits, weights = teachers(3, 4, 3), [member["weight"] for member in ensemble["teachers"].values()]
    expected = combine(logits, np.array(weights, np.float32), how, LabelKind(kind))
    np.testing.assert_array_equal(Ensemble.from_json(ensemble).combine(logits), expected)


@given(
    order=st.permutations(range(3)),
    labels=st.permutations(range(4)),
    how=st.sampled_from(HOWS),
    kind=st.sampled_from(["single", "multi"]),
)
def test_names_count_and_not_places(order: list[int], labels: list[int], how: How, kind: str) -> None:
    ensemble, logits = described(3, "abcd", kind, how), teachers(3, 5, 4)
    names = list(ensemble["teachers"])
    moved = {
        **ensemble,
        "labels": [ensemble["labels"][label] for label in labels],
        "teachers": {names[index]: ensemble["teachers"][names[index]] for index in order},
    }
    found = Ensemble.from_json(moved).combine(logits[order][..., labels])
    np.testing.assert_allclose(found, Ensemble.from_json(ensemble).combine(logits)[:, labels], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", HOWS)
def test_a_dropped_teacher_counts_like_an_absent_one(how: How) -> None:
    ensemble, logits = described(3, how=how), teachers(3, 4, 3)
    without = Ensemble.from_json(ensemble).without(["teacher-1"])
    assert without is not None
    assert without.dropped.tolist() == [False, True, False]
    assert without.weights.sum() == pytest.approx(1)
    two = {**ensemble, "teachers": {name: ensemble["teachers"][name] for name in ("teacher-0", "teacher-2")}}
    np.testing.assert_allclose(without.combine(logits), Ensemble.from_json(two).combine(logits[[0, 2]]), rtol=1e-4, atol=1e-5)


def test_dropped_teachers_stay_out_and_one_must_remain() -> None:
    first = Ensemble.from_json(described(3)).without(["teacher-0"])
    assert first is not None
    second = first.without(["teacher-2"])
    assert second is not None
    assert second.weights.tolist() == [0, 1, 0]
    assert second.without(["teacher-1"]) is None


def test_those_left_without_weight_share_it() -> None:
    ensemble = described(3)
    for member, weight in zip(ensemble["teachers"].values(), (1.0, 0.0, 0.0), strict=True):
        member["weight"] = weight
    without = Ensemble.from_json(ensemble).without(["teacher-0"])
    assert without is not None
    assert without.weights.tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("kind", list(LabelKind))
def test_json_round_trip(kind: LabelKind) -> None:
    data = described(3, kind=kind)
    ensemble = Ensemble.from_json(json.loads(json.dumps(data)))
    assert json.dumps(ensemble.to_json()) == json.dumps(data)


def test_only_teachers_with_a_weight_vote() -> None:
    ensemble, logits = Ensemble.from_json(described(3)).without(["teacher-1"]), teachers(3, 4, 3)
    assert ensemble is not None and ensemble.voting().members == ("teacher-0", "teacher-2")
    np.testing.assert_allclose(ensemble.voting().combine(logits[[0, 2]]), ensemble.combine(logits), rtol=1e-5)
