"""The student's loss against a plain transformers forward and formulas written out, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.config.schema.training import StudentSpec
from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.sampling import StepRows
from petkit.engine.token_masking import TokenMasking
from petkit.engine.training_loop import set_dropout
from petkit.models.batch import Batch, IndexArray, collate
from petkit.models.loading import new_classifier
from petkit.prompts.pattern import CompiledPattern, Encoded, Pattern
from petkit.student.objective import Student, StudentObjective, StudentTargets
from tests.teachers.teacher_bench import LABELS, TEXTS, TOKENIZER, near

DEVICE = Device("cpu", "float32", 1)
GOLD_TEXTS = ["a good game", "no question", "the market", "science is great"]
GOLD = torch.tensor([0, 1, 2, 1])
SEVERAL = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.float32)
SOFT = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
WEIGHTS = torch.tensor([0.5, 1.0, 0.2, 0.0, 0.9, 0.4])
ROWS, GOLD_ROWS = np.array([4, 0, 5]), np.array([2, 3])
T = 2.0


def encode(texts: list[str]) -> list[Encoded]:
    pattern = CompiledPattern(Pattern.plain(["text"]), TOKENIZER, 64, "tail")
    (key,) = pattern.keys
    return [pattern.encode({key: np.array(ids, np.int32)}) for ids in TOKENIZER.encode(texts)]


@dataclass
class Bench:
    """A student about to take a step, and the same model untouched."""

    student: Student
    objective: StudentObjective
    plain: Any
    seen: list[Tensor]
    asked: list[IndexArray]  # of the teacher

    def loss(self, gold: Any = GOLD_ROWS, seed: int = 7) -> Tensor:
        return self.objective(self.student, StepRows(ROWS, gold, np.random.default_rng(seed)))

    def untouched(self, gold: Any = GOLD_ROWS) -> tuple[Tensor, Tensor]:
        """Return logits and first hidden vectors of the rows."""
        batch = self.objective.batch_of(ROWS, gold)
        output = self.plain(**batch.model_inputs, output_hidden_states=True)
        return output.logits, output.hidden_states[-1][:, 0]


Make = Callable[..., Bench]


@pytest.fixture
def bench(model_folder: Callable[[str], Path]) -> Make:
    """``bench(gold, soft, hard_weight, teacher, **settings)``: a student without dropout unless it is set."""

    def lively() -> Any:
        torch.manual_seed(1)
        model, _ = new_classifier(str(model_folder("bert")), LABELS, "eager")
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(8 if weight.ndim > 1 else 1)
        return model

    def make(gold: Tensor = GOLD, soft: Tensor = SOFT, hard_weight: float = 0.3, teacher: Any = None, **settings: Any) -> Bench:
        spec = StudentSpec.model_validate({"temperature": T, "hard_weight": hard_weight, **settings})
        plain, model = lively(), lively()
        student = Student(ClassifierLogits(model), None if teacher is None else teacher.shape[1]).train()
        set_dropout(student, spec.dropout)
        seen: list[Tensor] = []
        asked: list[IndexArray] = []
        model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True)

        def batch_of(rows: IndexArray, gold_rows: IndexArray | None) -> Batch:
            chosen = [TEXTS[row] for row in rows] + ([] if gold_rows is None else [GOLD_TEXTS[row] for row in gold_rows])
            return collate(encode(chosen), TOKENIZER)

        def features(rows: IndexArray) -> Tensor:
            asked.append(rows)
            wanted: Tensor = teacher[rows]
            return wanted

        targets = StudentTargets(soft, WEIGHTS, gold, T, hard_weight)
        objective = StudentObjective(spec, targets, LABELS, batch_of, TOKENIZER, DEVICE, features)
        return Bench(student, objective, plain, seen, asked)

    return make


def share(rows: Tensor) -> Tensor:
    """Return the mean of the soft rows by their weights."""
    weights = WEIGHTS[ROWS]
    return (weights * rows).sum() / weights.sum()


def by_default(made: Bench, logits: Tensor | None = None) -> Tensor:
    """Return the default loss: KL at a temperature, times its square, and cross-entropy."""
    logits = made.untouched()[0] if logits is None else logits
    p, q = SOFT[ROWS], (logits[:3] / T).log_softmax(-1)
    soft = T**2 * share((p.exp() * (p - q)).sum(-1))
    return 0.7 * soft + 0.3 * -logits[3:].log_softmax(-1)[torch.arange(2), GOLD[GOLD_ROWS]].mean()


# -- soft and gold labels ----------------------------------------------------------------------------


def test_by_default_it_is_kl_and_cross_entropy_in_one_pass(bench: Make) -> None:
    made = bench()
    near(made.loss(), by_default(made))
    assert len(made.seen) == 1 and len(made.seen[0]) == 5 and not made.asked


def test_without_gold_rows_the_soft_labels_have_it_all(bench: Make) -> None:
    made = bench(hard_weight=0.0)
    logits, _ = made.untouched(None)
    p, q = SOFT[ROWS], (logits / T).log_softmax(-1)
    near(made.loss(None), T**2 * share((p.exp() * (p - q)).sum(-1)))


def test_rows_weigh_what_their_weight_says(bench: Make) -> None:
    made = bench(hard_weight=0.0)
    made.objective.targets = StudentTargets(SOFT, torch.tensor([0.0, 0, 0, 0, 1.0, 0.0]), GOLD, T, 0.0)
    logits, _ = made.untouched(None)
    p, q = SOFT[4], (logits[0] / T).log_softmax(-1)
    near(made.loss(None), T**2 * (p.exp() * (p - q)).sum())


@pytest.mark.parametrize("divergence", ["reverse_kl", "jensen_shannon"])
def test_other_divergences(divergence: str, bench: Make) -> None:
    made = bench(divergence=divergence)
    logits, _ = made.untouched()
    p, q = SOFT[ROWS].exp(), (logits[:3] / T).softmax(-1)
    if divergence == "reverse_kl":
        rows = (q * (q / p).log()).sum(-1)
    else:
        m = (p + q) / 2
        rows = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2
    gold = -logits[3:].log_softmax(-1)[torch.arange(2), GOLD[GOLD_ROWS]].mean()
    near(made.loss(), 0.7 * T**2 * share(rows) + 0.3 * gold)


@pytest.mark.parametrize(
    ("class_weights", "of_labels"),
    [("balanced", [4 / 3, 4 / 6, 4 / 3]), ({"World": 5.0}, [1, 1, 5]), ({"World": 5, "Sports": 0.5, "Science": 2}, [0.5, 2, 5])],
)
def test_gold_rows_smoothed_focused_and_weighted(class_weights: Any, of_labels: list[float], bench: Make) -> None:
    made = bench(label_smoothing=0.3, focal_gamma=2.0, class_weights=class_weights, hard_weight=1.0)
    logits, _ = made.untouched()
    log_q = logits[3:].log_softmax(-1)
    soft = 0.7 * torch.eye(3)[GOLD[GOLD_ROWS]] + 0.1
    rows = -(soft * (1 - log_q.exp()) ** 2 * log_q).sum(-1)
    weights = torch.tensor(of_labels)[GOLD[GOLD_ROWS]]
    near(made.loss(), (weights * rows).sum() / weights.sum())


def test_rows_of_several_labels_contrasted_and_compared_another_way(bench: Make) -> None:
    logits_of_teachers = SOFT * 3 + 3
    made = bench(SEVERAL, logits_of_teachers, divergence="reverse_kl", contrastive={"weight": 0.5, "temperature": 0.3})
    logits, features = made.untouched()
    p, q = logits_of_teachers[ROWS].sigmoid(), (logits[:3] / T).sigmoid()
    rows = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum(-1)
    own, gold = logits[3:].sigmoid(), SEVERAL[GOLD_ROWS]
    binary = -(gold * own.log() + (1 - gold) * (1 - own).log()).sum(-1).mean()
    labels = torch.cat([(logits_of_teachers[ROWS] > 0).float(), gold])
    z = features / features.norm(dim=-1, keepdim=True)
    pulled = []
    for row in range(5):
        others = [other for other in range(5) if other != row]
        log_q = (z[others] @ z[row] / 0.3).log_softmax(0)
        shared = labels[others] @ labels[row]
        if shared.any():
            pulled.append(-(shared * log_q).sum() / shared.sum())
    assert len(pulled) > 0
    near(made.loss(), 0.7 * T**2 * share(rows) + 0.3 * binary + 0.5 * torch.stack(pulled).mean())


def test_rows_of_several_labels(bench: Make) -> None:
    logits_of_teachers = SOFT * 3
    made = bench(SEVERAL, logits_of_teachers)
    logits, _ = made.untouched()
    p, q = logits_of_teachers[ROWS].sigmoid(), (logits[:3] / T).sigmoid()
    rows = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1)
    own, gold = logits[3:].sigmoid(), SEVERAL[GOLD_ROWS]
    binary = -(gold * own.log() + (1 - gold) * (1 - own).log()).sum(-1).mean()
    near(made.loss(), 0.7 * T**2 * share(rows) + 0.3 * binary)


# -- beside them -------------------------------------------------------------------------------------


def kl(p: Tensor, q: Tensor) -> Tensor:
    left, right = p.log_softmax(-1), q.log_softmax(-1)
    return (left.exp() * (left - right)).sum(-1).mean()


def test_r_drop_halves_the_main_loss_of_two_passes(bench: Make) -> None:
    made = bench(r_drop_weight=0.7, dropout=0.3)
    batch = made.objective.batch_of(ROWS, GOLD_ROWS)
    torch.manual_seed(3)
    one, two = made.student(batch)[0], made.student(batch)[0]
    mains = [by_default(made, logits) for logits in (one, two)]
    assert kl(one, two) > 0.001
    made.seen.clear()
    torch.manual_seed(3)
    near(made.loss(), sum(mains) / 2 + 0.7 * (kl(one, two) + kl(two, one)) / 2)
    assert len(made.seen) == 2


def test_consistency_hides_words_of_all_rows(bench: Make) -> None:
    made = bench(consistency_weight=0.5, masked_share=0.4)
    loss = made.loss()
    clean, hidden = made.seen
    masked = hidden == TOKENIZER.mask_id
    assert ((clean == hidden) | masked).all() and masked.any(1).all()
    logits, _ = made.untouched()
    perturbed = made.plain(input_ids=hidden, attention_mask=(hidden != TOKENIZER.pad_id).long()).logits
    assert kl(logits, perturbed) > 0.001
    near(loss, by_default(made) + 0.5 * kl(logits, perturbed))


def test_features_of_soft_rows_are_drawn_to_the_teachers(bench: Make) -> None:
    teacher = torch.randn(6, 8, generator=torch.Generator().manual_seed(4)).requires_grad_()
    made = bench(feature_weight=0.6, teacher=teacher)
    loss = made.loss()
    _, hidden = made.untouched()
    assert made.student.projection is not None
    projected = hidden[:3] @ made.student.projection.weight.T + made.student.projection.bias
    near(loss, by_default(made) + 0.6 * ((projected - teacher[ROWS]) ** 2).sum() / (3 * 8))
    np.testing.assert_array_equal(made.asked, [ROWS])
    loss.backward()
    assert teacher.grad is None and made.student.projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("projected", [False, True])
def test_rows_of_a_label_are_drawn_together_by_their_own_vectors(projected: bool, bench: Make) -> None:
    settings: dict[str, Any] = {"feature_weight": 0.6, "teacher": torch.zeros(6, 8)} if projected else {}
    made = bench(contrastive={"weight": 0.4, "temperature": 0.2}, **settings)
    _, hidden = made.untouched()
    labels = [*SOFT[ROWS].argmax(-1).tolist(), *GOLD[GOLD_ROWS].tolist()]
    z = hidden / hidden.norm(dim=1, keepdim=True)
    rows = []
    for i in range(5):
        partners = [j for j in range(5) if j != i and labels[j] == labels[i]]
        whole = sum((z[i] @ z[k] / 0.2).exp() for k in range(5) if k != i)
        if partners:
            rows.append(sum(-((z[i] @ z[j] / 0.2).exp() / whole).log() for j in partners) / len(partners))
    assert rows
    without = bench(**settings)
    without.student.load_state_dict(made.student.state_dict())
    near(made.loss(), without.loss() + 0.4 * sum(rows) / len(rows))


def test_contrast_with_a_masked_view_of_the_same_row(bench: Make) -> None:
    made = bench(contrastive={"weight": 0.4, "temperature": 0.2, "partners": "masked_view"})
    loss = made.loss(seed=5)
    batch = made.objective.batch_of(ROWS, GOLD_ROWS)
    view = TokenMasking(TOKENIZER, 0.15, always=True)(batch, np.random.default_rng(5)).batch
    assert torch.equal(made.seen[1], view.input_ids)
    q, k = (
        torch.nn.functional.normalize(made.plain(**read.model_inputs, output_hidden_states=True).hidden_states[-1][:, 0])
        for read in (batch, view)
    )
    near(loss, by_default(made) - 0.4 * (q @ k.T / 0.2).log_softmax(1).diagonal().mean())


PASSES = [
    ({}, 1),
    ({"contrastive": {"weight": 1.0}}, 1),
    ({"contrastive": {"weight": 1.0, "partners": "masked_view"}}, 2),
    ({"r_drop_weight": 1.0, "dropout": 0.1}, 2),
    ({"consistency_weight": 1.0}, 2),
    ({"consistency_weight": 1.0, "r_drop_weight": 1.0, "dropout": 0.1}, 3),
]


@pytest.mark.parametrize(("settings", "passes"), PASSES)
def test_what_is_not_asked_for_costs_no_pass(settings: dict[str, Any], passes: int, bench: Make) -> None:
    made = bench(**settings)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(made.loss(seed=seed).item())
    assert len(made.seen) == 3 * passes and not made.asked
    assert found[0] == found[2]  # a step depends on its own randomness only
    assert (found[0] == found[1]) == (passes == 1)
