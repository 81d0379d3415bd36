"""The contrastive losses: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from petkit import losses
from tests.losses.values import logits, number

CORNERS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 0.5]])


def test_supervised_contrastive_number() -> None:
    """Every row has one partner in its own direction and two rows across: -ln e / (e + 2)."""
    assert losses.supervised_contrastive(CORNERS, torch.tensor([0, 0, 1, 1]), 1.0).item() == number(math.log(1 + 2 / math.e))
    # Row 2 and 3 have no partner; 0 and 1 keep theirs.
    assert losses.supervised_contrastive(CORNERS, torch.tensor([0, 0, 1, 2]), 1.0).item() == number(math.log(1 + 2 / math.e))
    sharp = losses.supervised_contrastive(CORNERS, torch.tensor([0, 0, 1, 1]), 0.1).item()
    assert sharp == pytest.approx(math.log1p(2 * math.exp(-10)), rel=1e-3)


def test_partners_of_several_labels_count_by_the_labels_they_share() -> None:
    labels = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]])
    near, far = -math.log(math.e / (math.e + 2)), -math.log(1 / (math.e + 2))  # of a row in one's own direction, and across
    rows = [(2 * near + far) / 3, (2 * near + far) / 3, far]  # the third's own direction has the row without a label
    assert losses.supervised_contrastive(CORNERS, labels, 1.0).item() == number(sum(rows) / 3)
    one_each = torch.eye(3)[torch.tensor([0, 0, 1, 1])]
    same = losses.supervised_contrastive(CORNERS, torch.tensor([0, 0, 1, 1]), 0.3)
    torch.testing.assert_close(losses.supervised_contrastive(CORNERS, one_each, 0.3), same)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_supervised_contrastive_without_partners_is_zero(rows: int) -> None:
    vectors = torch.randn(rows, 4, requires_grad=True)
    loss = losses.supervised_contrastive(vectors, torch.arange(rows), 0.1)
    loss.backward()
    assert loss.item() == 0 and vectors.grad is not None and not vectors.grad.any()


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_only_directions_count(factor: float) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    first, second = logits(4, 8), logits(4, 8, seed=1)
    torch.testing.assert_close(
        losses.supervised_contrastive(factor * first, labels, 0.1), losses.supervised_contrastive(first, labels, 0.1)
    )
    torch.testing.assert_close(losses.info_nce(first, factor * second, 0.1), losses.info_nce(first, second, 0.1))


def test_info_nce_number() -> None:
    assert losses.info_nce(CORNERS[[0, 2]], CORNERS[[1, 3]], 1.0).item() == number(0.313262)  # ln(1 + 1/e)
    assert losses.info_nce(CORNERS[[0, 2]], CORNERS[[3, 1]], 1.0).item() == number(1.313262)
    assert losses.info_nce(torch.ones(5, 3), torch.ones(5, 3), 0.1).item() == number(math.log(5))  # no information


def test_partners_of_many_rows_are_counted_exactly_under_autocast() -> None:
    """In bfloat16, whole numbers above 256 are rounded."""
    vectors = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(600, 3)
    labels[:300, 0] = 1
    labels[100:, 1] = 1
    plain = losses.supervised_contrastive(vectors, labels, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses.supervised_contrastive(vectors, labels, 0.1)

    torch.testing.assert_close(mixed, plain)
