"""The losses against gold labels and label words: numbers worked out by hand, and torch's traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from petkit import losses
from petkit.ensemble import log_softmax
from tests.losses.values import logits, naive_softmax, number

THREE_ROWS = [[2.3, 0.1, -1.2], [0.2, 1.4, 0.0], [-0.5, 0.3, 2.1]]


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [([[2.0, 1.0, 0.1]], [0], 0.417030), (THREE_ROWS, [0, 1, 2], 0.261167)],
)
def test_cross_entropy_numbers(rows: list[list[float]], labels: list[int], expected: float) -> None:
    assert losses.cross_entropy(torch.tensor(rows), torch.tensor(labels)).item() == pytest.approx(expected, abs=5e-6)


def test_cross_entropy_against_naive() -> None:
    values, labels = logits(7, 5), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    naive = [-math.log(naive_softmax(row.tolist())[label]) for row, label in zip(values, labels, strict=True)]
    assert losses.cross_entropy(values, labels).item() == pytest.approx(sum(naive) / 7, rel=1e-6)


def test_binary_cross_entropy_number() -> None:
    """An article prints 1.06 for the sum; it is 1.090978."""
    values = torch.tensor([[0, 1.386], [0, -0.847], [0, 0.405]])
    mean = losses.cross_entropy(values, torch.tensor([1, 0, 1])).item()
    assert mean == pytest.approx(0.363659, abs=5e-6) and 3 * mean == pytest.approx(1.090978, abs=5e-6)


def test_two_way_softmax_is_the_sigmoid_of_the_difference() -> None:
    values = logits(9, 2)
    binary = -torch.nn.functional.logsigmoid(values[:, 1] - values[:, 0]).mean()
    assert losses.cross_entropy(values, torch.ones(9, dtype=torch.int64)).item() == pytest.approx(binary.item(), rel=1e-5)
    assert np.exp(log_softmax(values.numpy()))[:, 1] == pytest.approx(
        torch.sigmoid(values[:, 1] - values[:, 0]).numpy(), rel=1e-5
    )


P = torch.tensor([[0.7, 0.2, 0.1]]).log()


@pytest.mark.parametrize(
    ("temperature", "probabilities"),
    [(0.5, (0.999664, 0.000335, 0.000001)), (1, (0.981135, 0.017970, 0.000895)), (10, (0.461488, 0.309344, 0.229168))],
)
def test_softmax_at_temperatures(temperature: float, probabilities: tuple[float, ...]) -> None:
    row = torch.tensor([[9.0, 5.0, 2.0]]) / temperature
    found = [math.exp(-losses.cross_entropy(row, torch.tensor([label])).item()) for label in range(3)]
    assert found == [number(value) for value in probabilities]


@pytest.mark.parametrize(
    ("label", "options", "expected"),
    [
        (0, {}, -math.log(0.7)),
        # (0.8, 0.1, 0.1) · (0.356675, 1.609438, 2.302585)
        (0, {"label_smoothing": 0.3}, 0.676542),
        (1, {"label_smoothing": 1.0}, (0.356675 + 1.609438 + 2.302585) / 3),
        (0, {"focal_gamma": 2.0}, 0.3**2 * 0.356675),
        (2, {"focal_gamma": 0.5}, 0.9**0.5 * 2.302585),
        # 0.8 · 0.09 · 0.356675 + 0.1 · 0.64 · 1.609438 + 0.1 · 0.81 · 2.302585
        (0, {"label_smoothing": 0.3, "focal_gamma": 2.0}, 0.315194),
    ],
)
def test_cross_entropy_options(label: int, options: dict[str, float], expected: float) -> None:
    assert losses.cross_entropy(P, torch.tensor([label]), **options).item() == number(expected)


def test_class_weights_are_divided_by_the_rows_weights() -> None:
    """(3 · 0.356675 + 3 · 0.356675 + 1 · 1.609438) / 7, whether smoothed and focal or not."""
    rows, labels, weights = P.repeat(3, 1), torch.tensor([0, 0, 1]), torch.tensor([3.0, 1.0, 9.0])
    assert losses.cross_entropy(rows, labels, class_weights=weights).item() == number((6 * 0.356675 + 1.609438) / 7)
    for options in ({"label_smoothing": 0.3}, {"focal_gamma": 2.0}, {"label_smoothing": 0.3, "focal_gamma": 2.0}):
        first, second = (losses.cross_entropy(P, torch.tensor([label]), **options).item() for label in (0, 1))
        assert losses.cross_entropy(rows, labels, class_weights=weights, **options).item() == number((6 * first + second) / 7)


def test_weight_zero_for_every_class_in_the_batch_is_zero() -> None:
    values = logits(4, 3).requires_grad_()
    loss = losses.cross_entropy(values, torch.tensor([0, 1, 1, 0]), class_weights=torch.tensor([0.0, 0.0, 1.0]))
    loss.backward()
    assert loss.item() == 0 and values.grad is not None and not values.grad.any()


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.7])
def test_cross_entropy_agrees_with_torch_where_torch_is_right(epsilon: float) -> None:
    values, labels, weights = logits(9, 4), torch.arange(9) % 4, torch.tensor([0.5, 2.0, 1.0, 4.0])
    theirs = functional.cross_entropy(values, labels, label_smoothing=epsilon)
    torch.testing.assert_close(losses.cross_entropy(values, labels, label_smoothing=epsilon), theirs)
    theirs = functional.cross_entropy(values, labels, weight=weights)
    torch.testing.assert_close(losses.cross_entropy(values, labels, class_weights=weights), theirs)


def test_torch_divides_weighted_soft_targets_by_the_number_of_rows() -> None:
    values, labels, weights = logits(9, 4), torch.arange(9) % 4, torch.tensor([0.5, 2.0, 1.0, 4.0])
    theirs = functional.cross_entropy(values, functional.one_hot(labels, 4).float(), weight=weights)
    ours = losses.cross_entropy(values, labels, class_weights=weights)
    assert not torch.isclose(theirs, ours, rtol=0.1)
    torch.testing.assert_close(theirs * 9 / weights[labels].sum(), ours)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_focal_gradient_at_certainty_is_zero(gamma: float) -> None:
    """The slope of (1 - p)^γ is infinite there where γ < 1."""
    values = torch.tensor([[50.0, 0.0], [17.0, 0.0], [16.0, 0.0]], requires_grad=True)
    losses.cross_entropy(values, torch.zeros(3, dtype=torch.int64), focal_gamma=gamma).backward()
    assert values.grad is not None and torch.isfinite(values.grad).all() and values.grad.abs().max() < 0.01


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6),
    st.integers(0, 5),
    st.floats(0, 1),
    st.floats(0, 5),
)
def test_smoothed_focal_cross_entropy_stays_finite_and_positive(
    row: list[float], label: int, epsilon: float, gamma: float
) -> None:
    values = torch.tensor([row], requires_grad=True)
    labels = torch.tensor([label % len(row)])
    loss = losses.cross_entropy(values, labels, label_smoothing=epsilon, focal_gamma=gamma)
    loss.backward()
    assert loss.item() >= 0 and math.isfinite(loss.item())
    assert values.grad is not None and torch.isfinite(values.grad).all()


def test_binary_cross_entropy_numbers() -> None:
    """An article prints 1.06 for the sum."""
    values, targets = torch.tensor([1.386, -0.847, 0.405]), torch.tensor([1, 0, 1])
    assert losses.binary_cross_entropy(values[None], targets[None]).item() == number(1.090978)
    assert losses.binary_cross_entropy(values[:, None], targets[:, None]).item() == number(0.363659)


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        (1.0, {"focal_gamma": 2.0}, 0.2**2 * 0.223144),
        (0.0, {"focal_gamma": 2.0}, 0.8**2 * 1.609438),
        (1.0, {"label_smoothing": 0.2}, 0.9 * 0.223144 + 0.1 * 1.609438),
        (0.25, {}, 0.25 * 0.223144 + 0.75 * 1.609438),
    ],
)
def test_binary_cross_entropy_options(target: float, options: dict[str, float], expected: float) -> None:
    values = torch.tensor([[math.log(4)]])  # p = 0.8
    assert losses.binary_cross_entropy(values, torch.tensor([[target]]), **options).item() == number(expected)


def test_binary_class_weights_share_out_the_sum() -> None:
    values, targets = logits(6, 3), logits(6, 3, seed=1) > 0
    by_label = [losses.binary_cross_entropy(values[:, [c]], targets[:, [c]]).item() for c in range(3)]
    weighted = losses.binary_cross_entropy(values, targets, class_weights=torch.tensor([1.0, 2.0, 6.0])).item()
    assert weighted == number((by_label[0] + 2 * by_label[1] + 6 * by_label[2]) / 3)
    assert losses.binary_cross_entropy(values, targets, class_weights=torch.ones(3)).item() == number(sum(by_label))


def test_binary_cross_entropy_is_labels_times_the_mean_of_torch() -> None:
    values, targets = logits(6, 3), (logits(6, 3, seed=1) > 0).float()
    theirs = functional.binary_cross_entropy_with_logits(values, targets)
    torch.testing.assert_close(losses.binary_cross_entropy(values, targets), 3 * theirs)


def test_hinge_number() -> None:
    scores = torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -4.0, -4.0]], requires_grad=True)
    loss = losses.hinge(scores, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == (0 + 1.5) / 2
    assert scores.grad is not None and scores.grad.tolist() == [[-0.5, 0, 0.5], [0, 0, 0]]
    assert losses.hinge(scores, torch.tensor([0, 0]), margin=0).item() == 0.25


def test_decoupled_label_number() -> None:
    """-ln .5 - ln .8 - ln .9"""
    log_q = torch.tensor([[0.5, 0.2, 0.1]]).log()
    assert losses.decoupled_label(log_q, torch.tensor([0])).item() == number(1.021651)


@pytest.mark.parametrize("wrong", [16.0, 17.0, 30.0, 1e4])
def test_decoupled_label_teaches_where_the_model_is_surely_wrong(wrong: float) -> None:
    """The exact gradient of the gold logit is -1 (or -2 with the wrong label's term), however sure the model is."""
    values = torch.tensor([[0.0, wrong, 0.0]], requires_grad=True)
    loss = losses.decoupled_label(functional.log_softmax(values, dim=-1), torch.tensor([0]))
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() > 16
    assert values.grad is not None and torch.isfinite(values.grad).all()
    assert -2.1 < values.grad[0, 0].item() < -0.9 and 0.9 < values.grad[0, 1].item() < 2.1


@pytest.mark.parametrize("exponent", range(-30, 5))
def test_log_of_the_rest_is_accurate_at_both_ends(exponent: int) -> None:
    """1 - p loses every digit where p is small, log(1 - p) where p is next to 1."""
    log_p = -(2.0**exponent)
    found = losses.label_conditioning(torch.tensor([log_p]), torch.tensor([False])).item()
    exact = -math.log(-math.expm1(min(log_p, -(2.0**-24))))
    exact = -math.log1p(-math.exp(log_p)) if log_p < -1 else exact
    assert found == pytest.approx(exact, rel=1e-6)
