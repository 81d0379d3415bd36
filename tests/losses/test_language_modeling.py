"""The losses on tokens: numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from petkit import losses
from tests.losses.values import number


def test_label_conditioning_numbers() -> None:
    log_p = torch.tensor([0.8, 0.7, 0.3]).log()
    right = losses.label_conditioning(log_p, torch.tensor([True, True, True])).item()
    assert right == number((0.223144 + 0.356675 + 1.203973) / 3)
    mixed = losses.label_conditioning(log_p, torch.tensor([True, False, False])).item()
    assert mixed == number((0.223144 + 1.203973 + 0.356675) / 3)


def test_losses_without_tokens_are_zero() -> None:
    nothing = torch.zeros(0, 7, requires_grad=True)
    ignored = torch.randn(2, 3, 7, requires_grad=True)
    for loss in (
        losses.masked_lm(nothing, torch.zeros(0, dtype=torch.int64)),
        losses.masked_lm(ignored, torch.full((2, 3), -100)),
        losses.next_token_cross_entropy(ignored, torch.full((2, 3), -100)),
        losses.label_conditioning(nothing.sum(dim=-1), torch.zeros(0, dtype=torch.bool)),
    ):
        loss.backward()
        assert loss.item() == 0
    assert ignored.grad is not None and not ignored.grad.any()


def test_masked_lm_is_the_mean_over_masked_tokens() -> None:
    log_p = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.6, 0.1]]).log()
    targets = torch.tensor([0, 1, -100, 0])
    expected = number((0.223144 + 0.356675 + 1.203973) / 3)
    assert losses.masked_lm(log_p, targets).item() == expected
    assert losses.masked_lm(log_p.reshape(2, 2, 3), targets.reshape(2, 2)).item() == expected
    assert losses.masked_lm(log_p, torch.tensor([0, 1, 2, 0]), ignore_index=2).item() == expected


def test_next_token_is_predicted_by_the_place_before_it() -> None:
    log_p = torch.tensor([[[0.8, 0.2], [0.7, 0.3], [0.5, 0.5]], [[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]]]).log()
    labels = torch.tensor([[-100, 0, 0], [1, -100, 1]])
    # Place 0 of the first row foretells its 0 (.8), place 1 its 0 (.7), place 1 of the second row its 1 (.3).
    assert losses.next_token_cross_entropy(log_p, labels).item() == number((0.223144 + 0.356675 + 1.203973) / 3)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 3.0), (1e-4, 3.0002), (1.0, 5.0)])
def test_auxiliary_shares(weight: float, expected: float) -> None:
    assert losses.auxiliary(torch.tensor(3.0), torch.tensor(5.0), weight).item() == pytest.approx(expected)
