"""Log-priors of labels: worked numbers, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from petkit.ensemble import CONTENT_FREE, LabelKind, batch_prior, calibrate, contextual_prior, log_softmax

PRIORS = (contextual_prior, batch_prior)
Prior = Callable[..., NDArray[np.float32]]


def logits(rows: int, labels: int, seed: int = 0, scale: float = 3.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal((rows, labels))).astype(np.float32)


def probabilities(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.exp(log_softmax(values.astype(np.float64)))


def log_odds(*shares: float) -> NDArray[np.float32]:
    """Return two-label logits whose first label has these probabilities, shape ``(rows, 2)``."""
    return np.array([[math.log(share / (1 - share)), 0] for share in shares], np.float32)


def test_the_texts_without_content() -> None:
    assert CONTENT_FREE == ("N/A", "", "[MASK]")


def test_contextual_prior_is_the_mean_prediction() -> None:
    """Means of 0.9, 0.6, 0.6 and of 0.1, 0.4, 0.4."""
    assert np.exp(contextual_prior(log_odds(0.9, 0.6, 0.6))) == pytest.approx([0.7, 0.3], abs=1e-6)


def test_batch_prior_leaves_no_label_favoured() -> None:
    """0.3 + 0.3 + 0.9 is half of three rows, so what was added to the first label's logit is all there is to take off."""
    found = batch_prior(log_odds(0.3, 0.3, 0.9) + np.array([5, 0], np.float32))

    assert found[0] - found[1] == pytest.approx(5, abs=1e-2)
    assert np.exp(found).sum() == pytest.approx(1)


def test_batch_prior_of_rows_alike_is_their_prediction() -> None:
    assert np.exp(batch_prior(np.log(np.array([[0.7, 0.2, 0.1]] * 4, np.float32)))) == pytest.approx([0.7, 0.2, 0.1], abs=1e-6)


@pytest.mark.parametrize("prior", PRIORS)
def test_prior_of_independent_labels_is_the_mean_logit(prior: Prior) -> None:
    assert prior(np.array([[1, -4], [2, 0], [6, 1]], np.float32), LabelKind.MULTI) == pytest.approx([3, -1])


def test_calibrate_subtracts() -> None:
    calibrated = calibrate(np.array([[1, 2], [3, 4]], np.float32), np.array([1, -1], np.float32))

    assert calibrated.tolist() == [[0, 3], [2, 5]] and calibrated.dtype == np.float32


def test_calibration_turns_a_favoured_answer_round() -> None:
    """Raw, both rows are 'first'; freed of the preference for it, the second row is not."""
    raw = log_odds(0.95, 0.7)

    assert raw.argmax(1).tolist() == [0, 0]
    assert calibrate(raw, batch_prior(raw)).argmax(1).tolist() == [0, 1]


@given(st.integers(0, 1000), st.integers(2, 6), st.lists(st.floats(-60, 60), min_size=6, max_size=6))
def test_batch_calibration_forgets_what_is_added_to_a_label(seed: int, labels: int, shift: list[float]) -> None:
    given_logits = logits(50, labels, seed)
    shifted = given_logits + np.array(shift[:labels], np.float32)

    plain, moved = (probabilities(calibrate(values, batch_prior(values))) for values in (given_logits, shifted))

    assert moved == pytest.approx(plain, abs=2e-3)


@pytest.mark.parametrize("multi", [False, True])
def test_independent_labels_forget_it_too(multi: bool) -> None:
    given_logits = logits(20, 3)
    shifted = given_logits + np.array([7, -2, 0], np.float32)

    plain, moved = (
        calibrate(values, batch_prior(values, LabelKind.MULTI if multi else LabelKind.SINGLE))
        for values in (given_logits, shifted)
    )

    assert moved - moved[:1] == pytest.approx(plain - plain[:1], abs=1e-4)


@given(st.integers(0, 1000), st.sampled_from([0.1, 3.0, 30.0]))
def test_after_batch_calibration_the_mean_prediction_is_uniform(seed: int, scale: float) -> None:
    given_logits = logits(80, 4, seed, scale)

    assert probabilities(calibrate(given_logits, batch_prior(given_logits))).mean(0) == pytest.approx([0.25] * 4, abs=1e-3)


@pytest.mark.parametrize("prior", PRIORS)
def test_constants_of_rows_and_the_order_of_labels_do_not_matter(prior: Prior) -> None:
    given_logits = logits(30, 4)
    order = [2, 0, 3, 1]

    assert prior(given_logits + logits(30, 1, 1)) == pytest.approx(prior(given_logits), abs=1e-3)
    assert prior(given_logits[:, order]) == pytest.approx(prior(given_logits)[order], abs=1e-3)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("multi", [False, True])
def test_extreme_logits_and_a_single_row(prior: Prior, multi: bool) -> None:
    for extreme in (np.array([[1e4, -1e4, 0], [-1e4, 1e4, 3]], np.float32), np.array([[5e3, 0, -5e3]], np.float32)):
        found = prior(extreme, LabelKind.MULTI if multi else LabelKind.SINGLE)

        assert found.shape == (3,) and found.dtype == np.float32
        assert np.isfinite(found).all()
