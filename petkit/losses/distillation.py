"""Losses of a student against its teachers: their soft labels (PET, section 3.3) and their features."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from petkit.losses.numerics import kl, log_probs, weighted_mean


def distillation(student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None) -> Tensor:
    """Return ``T² · KL(p ‖ softmax(s / T))``, the mean over the batch (Hinton et al. 2015, section 2).

    The factor T² keeps the gradient's size when T changes. It is exactly 0 where ``softmax(s / T)`` equals ``p``.

    Args:
        student_logits: s, shape ``(batch, labels)``.
        soft_labels: log p, shape ``(batch, labels)``: log-probabilities, already at the teachers' temperature.
        temperature: T of the student's logits.
        row_weights: not negative, shape ``(batch,)``.

    >>> teacher, student = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    >>> distillation(student, teacher, 1.0).item()  # 0.2 ln 0.4 + 0.8 ln 1.6
    0.1927...
    """
    divergence = kl(soft_labels.float(), log_probs(student_logits.float() / temperature))
    return temperature**2 * weighted_mean(divergence, row_weights)


def reverse_distillation(
    student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None
) -> Tensor:
    """Return ``T² · KL(softmax(s / T) ‖ p)``: the student settles in one mode of p (Gu et al. 2024, MiniLLM).

    Arguments and T² as in ``distillation``; near equality both have the same value.

    >>> teacher, student = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    >>> reverse_distillation(student, teacher, 1.0).item()  # 0.5 ln 2.5 + 0.5 ln 0.625
    0.2231...
    """
    divergence = kl(log_probs(student_logits.float() / temperature), soft_labels.float())
    return temperature**2 * weighted_mean(divergence, row_weights)


def jensen_shannon(student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None) -> Tensor:
    """Return ``T² · [KL(p ‖ m) + KL(q ‖ m)] / 2``, ``log m = logaddexp(log p, log q) - ln 2``, at most T² ln 2 (Lin 1991).

    Arguments and the factor T² as in ``distillation``, so that the same keys fit; near equality a quarter of its value.

    >>> teacher, student = torch.tensor([[1.0, 1e-9]]).log(), torch.tensor([[1e-9, 1.0]]).log()
    >>> jensen_shannon(student, teacher, 1.0).item()  # nothing in common: ln 2
    0.6931...
    """
    log_p, log_q = soft_labels.float(), log_probs(student_logits.float() / temperature)
    # log p - log m = ln 2 + logsigmoid(log p - log q): the same, and exactly 0 at equality.
    from_p = log_p.exp() * (math.log(2) + functional.logsigmoid(log_p - log_q))
    from_q = log_q.exp() * (math.log(2) + functional.logsigmoid(log_q - log_p))
    return temperature**2 * weighted_mean((from_p + from_q).sum(dim=-1) / 2, row_weights)


def binary_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    row_weights: Tensor | None = None,
    divergence: Callable[..., Tensor] = distillation,
) -> Tensor:
    """Return ``T² · Σ_c [BCE(s_c / T, σ(t_c)) - H(σ(t_c))]``: one binary KL per label, summed over labels.

    Hinton et al. 2015, section 2, for labels that do not exclude each other: each is a question of its own, with the answers
    yes and no. Exactly 0 where ``s / T`` equals ``t``. Arguments as in ``distillation``, but for t: logits, already divided by
    the teachers' temperature.

    Args:
        divergence: of the two answers' distributions, where it is not ``distillation``; called as that is.

    >>> yes_or_no = torch.tensor([[0.2], [0.5]]).logit()  # of the teachers and of the student
    >>> binary_distillation(yes_or_no[1:], yes_or_no[:1], 1.0).item()  # 0.2 ln 0.4 + 0.8 ln 1.6
    0.1927...
    """
    labels = student_logits.shape[-1]
    # The logit of no is 0: (batch · labels, 2).
    theirs, ours = (
        torch.stack([yes, torch.zeros_like(yes)], -1).flatten(0, 1) for yes in (teacher_logits.float(), student_logits)
    )
    weights = None if row_weights is None else row_weights.repeat_interleave(labels)
    return labels * divergence(ours, log_probs(theirs), temperature, weights)


def feature_distillation(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return the mean over rows and dimensions of ``(projected student - teacher)²`` (Romero et al. 2015, FitNets).

    Args:
        student_features: already projected to the teacher's size, shape ``(batch, hidden)``.
        teacher_features: shape ``(batch, hidden)``; no gradient flows into them.

    >>> feature_distillation(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])).item()  # (0 + 4) / 2
    2.0
    """
    return functional.mse_loss(student_features.float(), teacher_features.detach().float())


def student_loss(distilled: Tensor, gold: Tensor | None, hard_weight: float) -> Tensor:
    """Return ``(1 - hard_weight) · distilled + hard_weight · gold``; without gold rows, ``distilled`` alone.

    >>> student_loss(torch.tensor(1.0), torch.tensor(2.0), hard_weight=0.25).item()
    1.25
    """
    return distilled if gold is None else (1 - hard_weight) * distilled + hard_weight * gold
