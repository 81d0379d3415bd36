"""Every objective against its definition written out in float64: value and gradient, and what all have in common."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from petkit import losses
from petkit.losses.classification import class_weights_of

Case = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
T = 2.0

# Each takes s and t of shape (rows, labels), the labels (rows,) and one weight per label; rows are weighted by their labels'.
CASES: dict[str, Case] = {
    "cross_entropy": lambda s, t, y, w: losses.cross_entropy(s, y),
    "cross_entropy, weighted": lambda s, t, y, w: losses.cross_entropy(s, y, class_weights=w),
    "cross_entropy, smooth": lambda s, t, y, w: losses.cross_entropy(s, y, label_smoothing=0.3),
    "cross_entropy, focal": lambda s, t, y, w: losses.cross_entropy(s, y, focal_gamma=2.0),
    "cross_entropy, all": lambda s, t, y, w: losses.cross_entropy(s, y, label_smoothing=0.3, class_weights=w, focal_gamma=0.5),
    "binary_cross_entropy": lambda s, t, y, w: losses.binary_cross_entropy(s, torch.sigmoid(t.float())),
    "binary_cross_entropy, all": lambda s, t, y, w: losses.binary_cross_entropy(
        s, (t > 0), label_smoothing=0.3, class_weights=w, focal_gamma=2.0
    ),
    "hinge": lambda s, t, y, w: losses.hinge(s, y),
    "hinge, wide": lambda s, t, y, w: losses.hinge(s, y, 3.0),
    "distillation": lambda s, t, y, w: losses.distillation(s, soft(t), T, w[y]),
    "reverse_distillation": lambda s, t, y, w: losses.reverse_distillation(s, soft(t), T, w[y]),
    "jensen_shannon": lambda s, t, y, w: losses.jensen_shannon(s, soft(t), T, w[y]),
    "binary_distillation": lambda s, t, y, w: losses.binary_distillation(s, t.float() / T, T, w[y]),
    **{
        f"binary_distillation, {name}": lambda s, t, y, w, divergence=divergence: losses.binary_distillation(
            s, t.float() / T, T, w[y], divergence
        )
        for name, divergence in (("reverse", losses.reverse_distillation), ("js", losses.jensen_shannon))
    },
    "feature_distillation": lambda s, t, y, w: losses.feature_distillation(s, t),
    "r_drop": lambda s, t, y, w: losses.r_drop(s, t),
    "r_drop, binary": lambda s, t, y, w: losses.r_drop(s, t, binary=True),
    "consistency": lambda s, t, y, w: losses.consistency(t, s),
    "consistency, binary": lambda s, t, y, w: losses.consistency(t, s, binary=True),
    "supervised_contrastive": lambda s, t, y, w: losses.supervised_contrastive(s, y, 0.3),
    "info_nce": lambda s, t, y, w: losses.info_nce(s, t, 0.3),
    "decoupled_label": lambda s, t, y, w: losses.decoupled_label(-s.abs(), y),
    "label_conditioning": lambda s, t, y, w: losses.label_conditioning(-s.abs().flatten(), t.flatten() > 0),
    "masked_lm": lambda s, t, y, w: losses.masked_lm(s, y),
    "next_token_cross_entropy": lambda s, t, y, w: losses.next_token_cross_entropy(s[None], y[None]),
}
# The order of rows has a meaning for these.
ORDERED = {"next_token_cross_entropy"}
DISTILLATIONS = [
    *("distillation", "reverse_distillation", "jensen_shannon"),
    *("binary_distillation", "binary_distillation, reverse", "binary_distillation, js"),
]
PAIRS = ["feature_distillation", "r_drop", "r_drop, binary", "consistency", "consistency, binary"]
# Combinations of finished losses; test_distillation.py and test_language_modeling.py have their numbers.
SUMS = {"student_loss", "auxiliary"}


def soft(t: Tensor) -> Tensor:
    return torch.log_softmax(t.float() / T, dim=-1)


def softmax(row: Tensor, temperature: float = 1.0) -> list[Tensor]:
    powers = (row / temperature).exp()
    return list(powers / powers.sum())


def chances(row: Tensor, temperature: float = 1.0) -> list[list[Tensor]]:
    """Return (yes, no) of each label, unlike ``softmax`` one distribution per label."""
    yes = 1 / (1 + (-row / temperature).exp())
    return [[one, 1 - one] for one in yes]


def kl(p: list[Tensor], q: list[Tensor]) -> Tensor:
    return sum(a * (a / b).log() for a, b in zip(p, q, strict=True))  # type: ignore[return-value]


def js(p: list[Tensor], q: list[Tensor]) -> Tensor:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


def mean(rows: list[Tensor], weights: list[float] | None = None) -> Tensor:
    weights = weights or [1.0] * len(rows)
    return sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)  # type: ignore[return-value]


def naive_cross_entropy(s: Tensor, y: list[int], w: list[float] | None, epsilon: float, gamma: float) -> Tensor:
    rows = []
    for row, label in zip(s, y, strict=True):
        gold = [(1 - epsilon) * (c == label) + epsilon / len(row) for c in range(len(row))]
        rows.append(-sum(g * (1 - p) ** gamma * p.log() for g, p in zip(gold, softmax(row), strict=True)))
    return mean(rows, w and [w[label] for label in y])


def naive_binary(s: Tensor, targets: Tensor, w: list[float], epsilon: float, gamma: float) -> Tensor:
    rows = []
    for row, wanted in zip(s, targets, strict=True):
        total = torch.zeros((), dtype=torch.float64)
        for (yes, no), target, weight in zip(chances(row), wanted, w, strict=True):
            gold = (1 - epsilon) * target + epsilon / 2
            total = total - weight * (gold * no**gamma * yes.log() + (1 - gold) * yes**gamma * no.log())
        rows.append(total * len(w) / sum(w))
    return mean(rows)


def naive_contrastive(vectors: Tensor, y: list[int], temperature: float) -> Tensor:
    z = [vector / vector.square().sum().sqrt() for vector in vectors]
    rows = []
    for i in range(len(y)):
        others = [k for k in range(len(y)) if k != i]
        below = sum((z[i] @ z[k] / temperature).exp() for k in others)
        partners = [j for j in others if y[j] == y[i]]
        if partners:
            rows.append(-sum(((z[i] @ z[j] / temperature).exp() / below).log() for j in partners) / len(partners))
    return mean(rows) if rows else 0 * vectors.sum()


def naive_info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    q, k = ([vector / vector.square().sum().sqrt() for vector in vectors] for vectors in (queries, keys))
    return mean([-softmax(torch.stack([one @ other for other in k]), temperature)[i].log() for i, one in enumerate(q)])


def naive(name: str, s: Tensor, t: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the definition of the case in float64, straight from the papers' equations."""
    y, w = labels.tolist(), weights.tolist()
    by_row = [w[label] for label in y]
    pairs = list(zip(s, t, strict=True))
    margin = {"hinge": 1.0, "hinge, wide": 3.0}.get(name, 0.0)
    options = {"weighted": (w, 0.0, 0.0), "smooth": (None, 0.3, 0.0), "focal": (None, 0.0, 2.0), "all": (w, 0.3, 0.5)}
    kind, _, option = name.partition(", ")
    distributions = chances if option == "binary" or kind == "binary_distillation" else lambda row, at=1.0: [softmax(row, at)]

    def compare(measure: Callable[[list[Tensor], list[Tensor]], Tensor], at: float = 1.0) -> list[Tensor]:
        """Return ``measure(t, s)`` per row, summed over the row's distributions."""
        both = [zip(distributions(b, at), distributions(a, at), strict=True) for a, b in pairs]
        return [at**2 * sum(measure(p, q) for p, q in row) for row in both]  # type: ignore[misc]

    forms: dict[str, Callable[[], Tensor]] = {
        "cross_entropy": lambda: naive_cross_entropy(s, y, *options.get(option, (None, 0.0, 0.0))),
        "binary_cross_entropy": lambda: (
            naive_binary(s, (t > 0).double(), w, 0.3, 2.0)
            if option
            else naive_binary(s, torch.sigmoid(t), [1.0] * len(w), 0.0, 0.0)
        ),
        "hinge": lambda: mean(
            [
                sum((margin - row[label] + row[c]).clamp_min(0) for c in range(len(row)) if c != label) + 0 * row[0]
                for row, label in zip(s, y, strict=True)
            ]
        ),
        "distillation": lambda: mean(compare(kl, T), by_row),
        "reverse_distillation": lambda: mean(compare(lambda p, q: kl(q, p), T), by_row),
        "jensen_shannon": lambda: mean(compare(js, T), by_row),
        "binary_distillation": lambda: mean(compare({"": kl, "reverse": lambda p, q: kl(q, p), "js": js}[option], T), by_row),
        "feature_distillation": lambda: (s - t).square().sum() / s.numel(),
        "r_drop": lambda: mean(compare(lambda p, q: (kl(p, q) + kl(q, p)) / 2)),
        "consistency": lambda: mean(compare(kl)),
        "supervised_contrastive": lambda: naive_contrastive(s, y, 0.3),
        "info_nce": lambda: naive_info_nce(s, t, 0.3),
        "decoupled_label": lambda: mean(
            [
                -sum((value if c == label else 1 - value).log() for c, value in enumerate((-row.abs()).exp()))
                for row, label in zip(s, y, strict=True)
            ]
        ),
        "label_conditioning": lambda: mean(
            [
                -(p if correct else 1 - p).log()
                for p, correct in zip((-s.abs()).exp().flatten(), (t > 0).flatten().tolist(), strict=True)
            ]
        ),
        "masked_lm": lambda: naive_cross_entropy(s, y, None, 0.0, 0.0),
        "next_token_cross_entropy": lambda: naive_cross_entropy(s[:-1], y[1:], None, 0.0, 0.0),
    }
    return forms[kind]()


def draw(seed: int, rows: int = 5, labels: int = 3, scale: float = 2.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    s, t = scale * torch.randn(2, rows, labels, generator=random)
    return s, t, torch.randint(labels, (rows,), generator=random), 0.1 + torch.rand(labels, generator=random)


def gradient(case: Callable[[Tensor], Tensor], s: Tensor) -> tuple[Tensor, Tensor]:
    point = s.clone().requires_grad_()
    value = case(point)
    value.backward()
    assert point.grad is not None
    return value.detach(), point.grad


def test_every_objective_has_a_case() -> None:
    others = {"balanced_class_weights", "mutual_information_bound", "DIVERGENCES", "LOSSES"}
    assert {name.partition(", ")[0] for name in CASES} | SUMS | others == set(losses.__all__)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("rows", "labels"), [(5, 3), (8, 2), (3, 9)])
@pytest.mark.parametrize("seed", range(4))
def test_value_and_gradient_are_the_definitions(name: str, rows: int, labels: int, seed: int) -> None:
    s, t, y, w = draw(seed, rows, labels)
    value, slope = gradient(lambda point: CASES[name](point, t, y, w), s)
    exact, exact_slope = gradient(lambda point: naive(name, point, t.double(), y, w.double()), s.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_order_of_labels_does_not_matter(name: str, order: tuple[int, ...]) -> None:
    s, t, y, w = draw(11)
    renamed = torch.tensor([order.index(label) for label in y.tolist()])
    again = CASES[name](s[:, order], t[:, order], renamed, w[list(order)])
    torch.testing.assert_close(again, CASES[name](s, t, y, w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CASES) - ORDERED))
def test_order_of_rows_does_not_matter(name: str) -> None:
    s, t, y, w = draw(12)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(CASES[name](s[order], t[order], y[order], w), CASES[name](s, t, y, w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CASES) - ORDERED - {"supervised_contrastive", "info_nce"}))
def test_repeating_the_batch_changes_nothing(name: str) -> None:
    """A mean, not a sum: over the rows only, and weighted rows are divided by their weights."""
    s, t, y, w = draw(13)
    twice = CASES[name](s.repeat(2, 1), t.repeat(2, 1), y.repeat(2), w)
    torch.testing.assert_close(twice, CASES[name](s, t, y, w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_scale_of_the_weights_does_not_matter(name: str) -> None:
    s, t, y, w = draw(14)
    torch.testing.assert_close(CASES[name](s, t, y, 50 * w), CASES[name](s, t, y, w), rtol=1e-5, atol=1e-6)


# Saturated on the right label, on a wrong one, on all, on none; a mask that is no -inf; and scores so near that p rounds to 1.
EXTREMES = [
    [1e4, -1e4, 0.0],
    [-1e4, 1e4, 0.0],
    [0.0, 0.0, 0.0],
    [-1e4, -1e4, -1e4],
    [1e4, 1e4, 1e4],
    [-1e9, 3.0, 2.0],
    [0.0, 17.0, -17.0],
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_extremes_stay_finite(name: str, label: int) -> None:
    pairs = list(itertools.product(EXTREMES, repeat=2))
    s, t = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    value, slope = gradient(lambda point: CASES[name](point, t, torch.full((len(pairs),), label), torch.ones(3)), s)
    assert torch.isfinite(value)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_float32_value_of_the_rounded_input(name: str, dtype: torch.dtype) -> None:
    s, t, y, w = draw(15)
    s, t = s.to(dtype), t.to(dtype)
    value = CASES[name](s, t, y, w)
    assert value.dtype == torch.float32
    assert value.item() == CASES[name](s.float(), t.float(), y, w).item()


@pytest.mark.parametrize("name", CASES)
def test_mixed_precision_changes_nothing(name: str) -> None:
    """Under autocast a matrix product would run in bfloat16."""
    s, t, y, w = draw(16)
    with torch.autocast("cpu", torch.bfloat16):
        value = CASES[name](s, t, y, w)
    assert value.item() == CASES[name](s, t, y, w).item()


@pytest.mark.parametrize("name", [*DISTILLATIONS, *PAIRS])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e4])
def test_equal_arguments_give_exactly_zero(name: str, scale: float) -> None:
    s, _, y, w = draw(17, scale=scale)
    value, slope = gradient(lambda point: CASES[name](point, s, y, w), s)
    assert value.item() == 0.0
    assert slope.abs().max() < 1e-6


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_rows_of_weight_zero_have_no_part(name: str) -> None:
    s, t, _, _ = draw(18)
    y = torch.tensor([0, 1, 0, 1, 2])
    value, slope = gradient(lambda point: CASES[name](point, t, y, torch.tensor([0.0, 3.0, 1.0])), s)
    rows = [CASES[name](s[row : row + 1], t[row : row + 1], y[row : row + 1], torch.ones(3)) for row in (1, 3, 4)]
    assert value.item() == pytest.approx(((3 * rows[0] + 3 * rows[1] + rows[2]) / 7).item(), rel=1e-5)
    assert not slope[[0, 2]].any() and slope[[1, 3, 4]].any(dim=-1).all()

    value, slope = gradient(lambda point: CASES[name](point, t, y, torch.zeros(3)), s)
    assert value.item() == 0.0 and not slope.any()


@pytest.mark.parametrize("name", [name for name in DISTILLATIONS if "," not in name])
def test_no_row_weights_are_equal_row_weights(name: str) -> None:
    s, t, _, _ = draw(19)
    objective = getattr(losses, name)
    torch.testing.assert_close(objective(s, soft(t), T), objective(s, soft(t), T, torch.full((5,), 0.3)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_jensen_shannon_is_bounded_and_symmetric(seed: int, scale: float) -> None:
    s, t, _, _ = draw(seed, scale=scale)
    value = losses.jensen_shannon(s, soft(t), T).item()
    assert -1e-7 <= value <= T**2 * math.log(2) * (1 + 1e-6)
    assert value == pytest.approx(losses.jensen_shannon(t, soft(s), T).item(), rel=1e-5, abs=1e-7)


def test_largest_class_weights_still_teach() -> None:
    """Only the ratios of weights count, and their sum must not overflow."""
    logits = torch.zeros(16, 2, requires_grad=True)
    labels = torch.tensor([0] * 15 + [1])
    weights = class_weights_of({"a": 1e38}, labels, ("a", "b"))
    assert weights is not None and weights[0] == 1
    loss = losses.cross_entropy(logits, labels, class_weights=weights)
    loss.backward()

    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert logits.grad is not None and logits.grad[:15].abs().sum() > 0
