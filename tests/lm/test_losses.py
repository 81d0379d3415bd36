"""The objectives: hand-computed numbers, the naive float64 form, and their behaviour at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.ensemble.combine import log_softmax
from petkit.losses.objectives import cross_entropy, distillation, student_loss

THREE_ROWS = [[2.3, 0.1, -1.2], [0.2, 1.4, 0.0], [-0.5, 0.3, 2.1]]


def naive_softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [([[2.0, 1.0, 0.1]], [0], 0.417030), (THREE_ROWS, [0, 1, 2], 0.261167)],
)
def test_cross_entropy_numbers(rows: list[list[float]], labels: list[int], expected: float) -> None:
    assert cross_entropy(torch.tensor(rows), torch.tensor(labels)).item() == pytest.approx(expected, abs=5e-6)


def test_cross_entropy_against_naive() -> None:
    values, labels = logits(7, 5), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    naive = [-math.log(naive_softmax(row.tolist())[label]) for row, label in zip(values, labels, strict=True)]
    assert cross_entropy(values, labels).item() == pytest.approx(sum(naive) / 7, rel=1e-6)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [((0.2, 0.8), (0.5, 0.5), 0.192745), ((0.5, 0.5), (0.2, 0.8), 0.223144)],
)
def test_distillation_is_kl_of_teacher_and_student(p: tuple[float, ...], q: tuple[float, ...], expected: float) -> None:
    value = distillation(torch.tensor([q]).log(), torch.tensor([p]).log(), 1.0)
    assert value.item() == pytest.approx(expected, abs=5e-6)
    assert value.item() / math.log(2) == pytest.approx(expected / math.log(2), abs=5e-6)


def test_cross_entropy_is_entropy_plus_kl() -> None:
    log_p, log_q = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    kl = distillation(log_q, log_p, 1.0).item()
    assert 0.500402 + kl == pytest.approx(0.693147, abs=5e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("shape", [(1, 2), (6, 3), (5, 14)])
def test_distillation_against_naive(temperature: float, shape: tuple[int, int]) -> None:
    student, teacher = logits(*shape, seed=1), logits(*shape, seed=2)
    naive = [
        temperature**2 * naive_kl(naive_softmax(t.tolist(), temperature), naive_softmax(s.tolist(), temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    soft = torch.log_softmax(teacher / temperature, dim=-1)
    assert distillation(student, soft, temperature).item() == pytest.approx(
        sum(naive) / len(naive), rel=2e-5, abs=1e-6 * temperature**2
    )


def test_distillation_is_the_batch_mean() -> None:
    """Torch's ``reduction="mean"`` would divide by the number of labels too."""
    student, teacher = logits(3, 5, seed=1), torch.log_softmax(logits(3, 5, seed=2), -1)
    rows = [distillation(student[row : row + 1], teacher[row : row + 1], 1.0).item() for row in range(3)]
    assert distillation(student, teacher, 1.0).item() == pytest.approx(sum(rows) / 3, rel=1e-6)
    assert rows[0] == pytest.approx(naive_kl(teacher[0].exp().tolist(), naive_softmax(student[0].tolist())), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_zero_at_equality(temperature: float) -> None:
    student = logits(8, 4, scale=5).requires_grad_()
    value = distillation(student, torch.log_softmax(student.detach() / temperature, -1), temperature)
    value.backward()
    assert value.item() == 0.0
    assert student.grad is not None and student.grad.abs().max() < 1e-6


def test_distillation_meets_soft_labels_of_numpy() -> None:
    """Soft labels are made with NumPy, student log-probabilities with torch: equal logits must still give about 0."""
    student = logits(50, 6, scale=5)
    soft = torch.from_numpy(log_softmax(student.numpy(), 2.0))
    assert abs(distillation(student, soft, 2.0).item()) < 1e-6


def test_distillation_gradient_is_temperature_times_probability_gap() -> None:
    """d/ds of T² KL = T (q - p): the size of the gradient does not fall with 1/T²."""
    temperature = 3.0
    student, teacher = logits(1, 4, seed=1).requires_grad_(), logits(1, 4, seed=2)
    distillation(student, torch.log_softmax(teacher / temperature, -1), temperature).backward()
    gap = torch.softmax(student.detach() / temperature, -1) - torch.softmax(teacher / temperature, -1)
    torch.testing.assert_close(student.grad, temperature * gap, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [[[1e4, -1e4, 0.0]], [[-1e4, -1e4, -1e4]], [[0.0, 1e4, 1e4]]])
@pytest.mark.parametrize("soft_rows", [[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]])
def test_extreme_logits_stay_finite(rows: list[list[float]], soft_rows: list[list[float]]) -> None:
    student = torch.tensor(rows, requires_grad=True)
    value = distillation(student, torch.log_softmax(torch.tensor(soft_rows), -1), 1.0)
    value = student_loss(value, cross_entropy(student, torch.tensor([1])), 0.5)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_run_in_float32(dtype: torch.dtype) -> None:
    """In bfloat16 the divergence of equal logits came out negative."""
    student = logits(6, 4).to(dtype)
    value = distillation(student, torch.log_softmax(student.float() / 2, -1), 2.0)
    assert value.dtype == torch.float32 and value.item() == 0.0
    assert cross_entropy(student, torch.tensor([0, 1, 2, 3, 0, 1])).dtype == torch.float32


@pytest.mark.parametrize("order", [[1, 2, 3, 0], [3, 2, 1, 0]])
def test_label_order_does_not_matter(order: list[int]) -> None:
    student, soft, labels = logits(6, 4, seed=1), torch.log_softmax(logits(6, 4, seed=2), -1), torch.tensor([0, 1, 2, 3, 1, 2])
    renamed = torch.tensor([order.index(label) for label in labels.tolist()])
    torch.testing.assert_close(distillation(student[:, order], soft[:, order], 2.0), distillation(student, soft, 2.0))
    torch.testing.assert_close(cross_entropy(student[:, order], renamed), cross_entropy(student, labels))


@pytest.mark.parametrize(("hard_weight", "expected"), [(0.0, 3.0), (0.2, 3.4), (1.0, 5.0)])
def test_student_loss_shares(hard_weight: float, expected: float) -> None:
    assert student_loss(torch.tensor(3.0), torch.tensor(5.0), hard_weight).item() == pytest.approx(expected)


def test_student_loss_without_gold_is_distillation_alone() -> None:
    distilled = torch.tensor(3.0)
    assert student_loss(distilled, None, 0.7) is distilled


def test_binary_cross_entropy_number() -> None:
    """An article prints 1.06 for the sum; it is 1.090978."""
    values = torch.tensor([[0, 1.386], [0, -0.847], [0, 0.405]])
    mean = cross_entropy(values, torch.tensor([1, 0, 1])).item()
    assert mean == pytest.approx(0.363659, abs=5e-6) and 3 * mean == pytest.approx(1.090978, abs=5e-6)


def test_two_way_softmax_is_the_sigmoid_of_the_difference() -> None:
    values = logits(9, 2)
    binary = -torch.nn.functional.logsigmoid(values[:, 1] - values[:, 0]).mean()
    assert cross_entropy(values, torch.ones(9, dtype=torch.int64)).item() == pytest.approx(binary.item(), rel=1e-5)
    assert np.exp(log_softmax(values.numpy()))[:, 1] == pytest.approx(
        torch.sigmoid(values[:, 1] - values[:, 0]).numpy(), rel=1e-5
    )
