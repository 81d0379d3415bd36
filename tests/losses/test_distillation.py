"""The losses against soft labels and between distributions: numbers worked out by hand, directions, temperatures, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from petkit import losses
from petkit.ensemble import log_softmax
from tests.losses.values import logits, naive_kl, naive_softmax, number


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [((0.2, 0.8), (0.5, 0.5), 0.192745), ((0.5, 0.5), (0.2, 0.8), 0.223144)],
)
def test_distillation_is_kl_of_teacher_and_student(p: tuple[float, ...], q: tuple[float, ...], expected: float) -> None:
    value = losses.distillation(torch.tensor([q]).log(), torch.tensor([p]).log(), 1.0)
    assert value.item() == pytest.approx(expected, abs=5e-6)
    assert value.item() / math.log(2) == pytest.approx(expected / math.log(2), abs=5e-6)


def test_cross_entropy_is_entropy_plus_kl() -> None:
    log_p, log_q = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    kl = losses.distillation(log_q, log_p, 1.0).item()
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
    assert losses.distillation(student, soft, temperature).item() == pytest.approx(
        sum(naive) / len(naive), rel=2e-5, abs=1e-6 * temperature**2
    )


def test_distillation_is_the_batch_mean() -> None:
    """Torch's ``reduction="mean"`` would divide by the number of labels too."""
    student, teacher = logits(3, 5, seed=1), torch.log_softmax(logits(3, 5, seed=2), -1)
    rows = [losses.distillation(student[row : row + 1], teacher[row : row + 1], 1.0).item() for row in range(3)]
    assert losses.distillation(student, teacher, 1.0).item() == pytest.approx(sum(rows) / 3, rel=1e-6)
    assert rows[0] == pytest.approx(naive_kl(teacher[0].exp().tolist(), naive_softmax(student[0].tolist())), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_zero_at_equality(temperature: float) -> None:
    student = logits(8, 4, scale=5).requires_grad_()
    value = losses.distillation(student, torch.log_softmax(student.detach() / temperature, -1), temperature)
    value.backward()
    assert value.item() == 0.0
    assert student.grad is not None and student.grad.abs().max() < 1e-6


def test_distillation_meets_soft_labels_of_numpy() -> None:
    """Soft labels are made with NumPy, student log-probabilities with torch: equal logits must still give about 0."""
    student = logits(50, 6, scale=5)
    soft = torch.from_numpy(log_softmax(student.numpy(), 2.0))
    assert abs(losses.distillation(student, soft, 2.0).item()) < 1e-6


def test_distillation_gradient_is_temperature_times_probability_gap() -> None:
    """d/ds of T² KL = T (q - p): the size of the gradient does not fall with 1/T²."""
    temperature = 3.0
    student, teacher = logits(1, 4, seed=1).requires_grad_(), logits(1, 4, seed=2)
    losses.distillation(student, torch.log_softmax(teacher / temperature, -1), temperature).backward()
    gap = torch.softmax(student.detach() / temperature, -1) - torch.softmax(teacher / temperature, -1)
    torch.testing.assert_close(student.grad, temperature * gap, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [[[1e4, -1e4, 0.0]], [[-1e4, -1e4, -1e4]], [[0.0, 1e4, 1e4]]])
@pytest.mark.parametrize("soft_rows", [[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]])
def test_extreme_logits_stay_finite(rows: list[list[float]], soft_rows: list[list[float]]) -> None:
    student = torch.tensor(rows, requires_grad=True)
    value = losses.distillation(student, torch.log_softmax(torch.tensor(soft_rows), -1), 1.0)
    value = losses.student_loss(value, losses.cross_entropy(student, torch.tensor([1])), 0.5)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_run_in_float32(dtype: torch.dtype) -> None:
    """In bfloat16 the divergence of equal logits came out negative."""
    student = logits(6, 4).to(dtype)
    value = losses.distillation(student, torch.log_softmax(student.float() / 2, -1), 2.0)
    assert value.dtype == torch.float32 and value.item() == 0.0
    assert losses.cross_entropy(student, torch.tensor([0, 1, 2, 3, 0, 1])).dtype == torch.float32


@pytest.mark.parametrize("order", [[1, 2, 3, 0], [3, 2, 1, 0]])
def test_label_order_does_not_matter(order: list[int]) -> None:
    student, soft, labels = logits(6, 4, seed=1), torch.log_softmax(logits(6, 4, seed=2), -1), torch.tensor([0, 1, 2, 3, 1, 2])
    renamed = torch.tensor([order.index(label) for label in labels.tolist()])
    torch.testing.assert_close(
        losses.distillation(student[:, order], soft[:, order], 2.0), losses.distillation(student, soft, 2.0)
    )
    torch.testing.assert_close(losses.cross_entropy(student[:, order], renamed), losses.cross_entropy(student, labels))


@pytest.mark.parametrize(("hard_weight", "expected"), [(0.0, 3.0), (0.2, 3.4), (1.0, 5.0)])
def test_student_loss_shares(hard_weight: float, expected: float) -> None:
    assert losses.student_loss(torch.tensor(3.0), torch.tensor(5.0), hard_weight).item() == pytest.approx(expected)


def test_student_loss_without_gold_is_distillation_alone() -> None:
    distilled = torch.tensor(3.0)
    assert losses.student_loss(distilled, None, 0.7) is distilled


P, Q = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()


# The logit of "yes" for the same two distributions.
P_LOGIT, Q_LOGIT = torch.tensor([[math.log(0.25)]]), torch.tensor([[0.0]])


# By hand: [.2 ln(.2/.35) + .8 ln(.8/.65) + .5 ln(.5/.35) + .5 ln(.5/.65)] / 2
JS = 0.050672


def test_numbers_in_both_directions() -> None:
    """The student is q, the soft labels are p."""
    assert losses.distillation(Q, P, 1.0).item() == number(0.192745)
    assert losses.reverse_distillation(Q, P, 1.0).item() == number(0.223144)
    assert losses.jensen_shannon(Q, P, 1.0).item() == losses.jensen_shannon(P, Q, 1.0).item() == number(JS)
    assert losses.binary_distillation(Q_LOGIT, P_LOGIT, 1.0).item() == number(0.192745)
    assert losses.binary_distillation(P_LOGIT, Q_LOGIT, 1.0).item() == number(0.223144)
    assert losses.consistency(P, Q).item() == losses.consistency(P_LOGIT, Q_LOGIT, binary=True).item() == number(0.192745)
    both = (0.192745 + 0.223144) / 2
    assert losses.r_drop(P, Q).item() == losses.r_drop(Q, P).item() == number(both)
    assert losses.r_drop(P_LOGIT, Q_LOGIT, binary=True).item() == number(both)


def test_bits_and_cross_entropy() -> None:
    assert losses.distillation(Q, P, 1.0).item() / math.log(2) == number(0.278072)
    p = P.exp().squeeze()
    cross = sum(p[label] * losses.cross_entropy(Q, torch.tensor([label])) for label in (0, 1))
    entropy = sum(p[label] * losses.cross_entropy(P, torch.tensor([label])) for label in (0, 1))
    assert float(cross) == number(0.693147) and float(entropy) == number(0.500402)
    assert float(cross - entropy) == number(losses.distillation(Q, P, 1.0).item())


@pytest.mark.parametrize(
    ("objective", "expected"),
    [(losses.distillation, 0.192745), (losses.reverse_distillation, 0.223144), (losses.jensen_shannon, JS)],
)
def test_the_students_logits_alone_are_divided_by_the_temperature(objective: object, expected: float) -> None:
    """Soft labels arrive at the teachers' temperature already."""
    assert objective(3 * Q, P, 3.0).item() == number(9 * expected)  # type: ignore[operator]


def test_binary_temperature() -> None:
    assert losses.binary_distillation(3 * P_LOGIT, Q_LOGIT, 3.0).item() == pytest.approx(9 * 0.223144, abs=5e-5)


@pytest.mark.parametrize("objective", [losses.distillation, losses.reverse_distillation, losses.jensen_shannon])
def test_temperature_squared_keeps_the_gradients_size(objective: object) -> None:
    """At high temperature the gradient tends to a fixed one, (s - t) / C up to centring; a quarter for Jensen-Shannon."""
    teacher = logits(1, 4, seed=2)
    share = 0.25 if objective is losses.jensen_shannon else 1.0
    gap = logits(1, 4, seed=1) - teacher
    for temperature in (100.0, 1000.0):
        student = logits(1, 4, seed=1).requires_grad_()
        objective(student, torch.log_softmax(teacher / temperature, dim=-1), temperature).backward()  # type: ignore[operator]
        torch.testing.assert_close(student.grad, share * (gap - gap.mean()) / 4, rtol=0.1, atol=0.02)


def test_forward_covers_and_reverse_seeks() -> None:
    """Of two students, the forward divergence prefers the one that covers both modes, the reverse the one in a single mode."""
    p = torch.tensor([[0.495, 0.01, 0.495]]).log()
    broad, narrow = torch.tensor([[0.34, 0.32, 0.34]]).log(), torch.tensor([[0.98, 0.01, 0.01]]).log()
    assert losses.distillation(broad, p, 1.0) < losses.distillation(narrow, p, 1.0)
    assert losses.reverse_distillation(narrow, p, 1.0) < losses.reverse_distillation(broad, p, 1.0)


def test_jensen_shannon_of_disjoint_distributions_is_its_bound() -> None:
    apart = torch.log_softmax(torch.tensor([[1e4, 0.0]]), dim=-1), torch.tensor([[0.0, 1e4]])
    assert losses.jensen_shannon(apart[1], apart[0], 1.0).item() == pytest.approx(math.log(2), rel=1e-6)
    assert losses.jensen_shannon(5 * apart[1], apart[0], 5.0).item() == pytest.approx(25 * math.log(2), rel=1e-6)


def test_jensen_shannon_is_logaddexp() -> None:
    student, soft = logits(6, 4, seed=1), torch.log_softmax(logits(6, 4, seed=2), dim=-1)
    log_q = torch.log_softmax(student, dim=-1)
    middle = torch.logaddexp(soft, log_q) - math.log(2)
    parts = [functional.kl_div(middle, one, reduction="batchmean", log_target=True) for one in (soft, log_q)]
    torch.testing.assert_close(losses.jensen_shannon(student, soft, 1.0), (parts[0] + parts[1]) / 2)


def test_torch_mean_is_labels_times_too_small() -> None:
    student, soft = logits(6, 4, seed=1), torch.log_softmax(logits(6, 4, seed=2), dim=-1)
    log_q = torch.log_softmax(student, dim=-1)
    with pytest.warns(UserWarning, match="batchmean"):
        mean = functional.kl_div(log_q, soft, reduction="mean", log_target=True)
    torch.testing.assert_close(losses.distillation(student, soft, 1.0), 4 * mean)
    batchmean = functional.kl_div(log_q, soft, reduction="batchmean", log_target=True)
    torch.testing.assert_close(losses.distillation(student, soft, 1.0), batchmean)


def test_binary_divergences_are_sums_over_labels() -> None:
    first, second = logits(6, 4, seed=1), logits(6, 4, seed=2)
    for objective in (losses.r_drop, losses.consistency):
        single = [objective(first[:, [c]], second[:, [c]], binary=True) for c in range(4)]
        torch.testing.assert_close(objective(first, second, binary=True), torch.stack(single).sum())
    single = [losses.binary_distillation(first[:, [c]], second[:, [c]], 2.0) for c in range(4)]
    torch.testing.assert_close(losses.binary_distillation(first, second, 2.0), torch.stack(single).sum())


def test_binary_distillation_is_cross_entropy_less_entropy() -> None:
    student, teacher = logits(6, 4, seed=1), logits(6, 4, seed=2)
    soft = torch.sigmoid(teacher)
    difference = losses.binary_cross_entropy(student, soft) - losses.binary_cross_entropy(teacher, soft)
    torch.testing.assert_close(losses.binary_distillation(student, teacher, 1.0), difference)


def test_two_labels_are_one_binary_label() -> None:
    """The softmax over two labels is the sigmoid of their difference."""
    first, second = logits(6, 2, seed=1), logits(6, 2, seed=2)
    one, other = (values[:, [0]] - values[:, [1]] for values in (first, second))
    torch.testing.assert_close(losses.r_drop(first, second), losses.r_drop(one, other, binary=True))
    torch.testing.assert_close(losses.consistency(first, second), losses.consistency(one, other, binary=True))
    soft = torch.log_softmax(second / 2, dim=-1)
    torch.testing.assert_close(losses.distillation(first, soft, 2.0), losses.binary_distillation(one, other / 2, 2.0))


@pytest.mark.parametrize("binary", [False, True])
def test_consistency_holds_the_clean_row_fixed_and_r_drop_moves_both(binary: bool) -> None:
    first, second = logits(5, 3, seed=1).requires_grad_(), logits(5, 3, seed=2).requires_grad_()
    losses.consistency(first, second, binary=binary).backward()
    assert first.grad is None and second.grad is not None and second.grad.any()
    losses.r_drop(first, second, binary=binary).backward()
    assert first.grad is not None and first.grad.any()


def test_feature_distillation_number_and_gradient() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 4.0]], requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    loss = losses.feature_distillation(student, teacher)
    loss.backward()
    assert loss.item() == (1 + 4 + 0 + 16) / 4
    assert teacher.grad is None and student.grad is not None and student.grad.tolist() == [[0.5, 1], [0, 2]]


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.1])
def test_divergences_near_equality(scale: float) -> None:
    """To second order all divergences are one: Jensen-Shannon a quarter of the others."""
    student = logits(8, 4, seed=1)
    near = student + scale * logits(8, 4, seed=2)
    soft = torch.log_softmax(near.double(), dim=-1)
    exact = (soft.exp() * (soft - torch.log_softmax(student.double(), dim=-1))).sum(dim=-1).mean().item()
    tolerance = {"rel": 10 * scale, "abs": 1e-7}
    assert losses.distillation(student, soft, 1.0).item() == pytest.approx(exact, **tolerance)
    assert losses.reverse_distillation(student, soft, 1.0).item() == pytest.approx(exact, **tolerance)
    assert 4 * losses.jensen_shannon(student, soft, 1.0).item() == pytest.approx(exact, **tolerance)
    assert losses.r_drop(student, near).item() == pytest.approx(exact, **tolerance)
