"""Losses against gold labels: cross-entropy in its forms, hinge, and that of decoupled label words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from petkit.losses.numerics import TINY, log1mexp, log_sigmoids, weighted_mean


def cross_entropy(
    label_logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return ``-Σ_c g_c (1 - q_c)^γ log q_c`` with q the softmax and g the smoothed gold label, ``(1 - ε)·[c = y] + ε/C``.

    The plain form ``-log q_y`` is PET's (Schick & Schütze 2021, section 3.1); smoothing ε is Szegedy et al. 2016,
    section 7; the focal factor γ is Lin et al. 2017, equation 4. A row weighs what its gold label weighs and the sum is
    divided by the rows' weights in every case; torch's soft targets are divided by the number of rows instead.

    Args:
        label_logits: shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
        label_smoothing: ε, from 0 to 1.
        class_weights: not negative, shape ``(labels,)``; their scale does not matter.
        focal_gamma: γ, not negative; 0 is plain cross-entropy.

    >>> probabilities = torch.tensor([[0.7, 0.2, 0.1]])
    >>> cross_entropy(probabilities.log(), torch.tensor([0])).item()  # -ln 0.7
    0.3566...
    """
    log_q = functional.log_softmax(label_logits.float(), dim=-1)  # (batch, labels)
    losses = -log_q
    if focal_gamma:
        # The floor is below every 1 - q that is not 0: where γ < 1, the power's slope at 0 is infinite.
        losses = losses * (-torch.expm1(log_q)).clamp_min(TINY) ** focal_gamma
    rows = losses.gather(1, labels.unsqueeze(1)).squeeze(1)
    if label_smoothing:
        rows = (1 - label_smoothing) * rows + label_smoothing * losses.mean(dim=-1)
    return weighted_mean(rows, None if class_weights is None else class_weights[labels])


def binary_cross_entropy(
    label_logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Return ``-Σ_c [g_c (1 - q_c)^γ log q_c + (1 - g_c) q_c^γ log(1 - q_c)]``, q the sigmoid: a sum over labels.

    For texts with several labels. Smoothing is that of two classes, ``g = (1 - ε)·target + ε/2``; focal: Lin et al.
    2017, equation 4. Torch's ``reduction="mean"`` would be C times smaller.

    Args:
        label_logits: shape ``(batch, labels)``.
        targets: 1 where a row has the label, 0 where not, or a probability, shape ``(batch, labels)``.
        label_smoothing: ε, from 0 to 1.
        class_weights: not negative, shape ``(labels,)``, for a label's whole term; divided by their mean.
        focal_gamma: γ, not negative.
        row_weights: not negative, shape ``(batch,)``; divided by their sum.

    >>> binary_cross_entropy(torch.zeros(1, 3), torch.tensor([[1, 0, 1]])).item()  # 3 ln 2
    2.0794...
    """
    log_yes, log_no = log_sigmoids(label_logits)  # (batch, labels) each
    gold = (1 - label_smoothing) * targets.float() + label_smoothing / 2
    losses = -gold * (focal_gamma * log_no).exp() * log_yes - (1 - gold) * (focal_gamma * log_yes).exp() * log_no
    if class_weights is not None:
        losses = losses * (class_weights.float() / class_weights.float().mean().clamp_min(TINY))
    return weighted_mean(losses.sum(dim=-1), row_weights)


def hinge(label_log_scores: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Return ``Σ_{y'≠y} max(0, margin - log q(y) + log q(y'))`` (Schick & Schütze 2021, It's Not Just Size, section 3).

    For label words of several tokens, whose scores need not sum to 1 over the labels.

    Args:
        label_log_scores: log q, shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
        margin: in nats, by which the gold label must win.

    >>> hinge(torch.tensor([[0.0, -0.25, -3.0]]), torch.tensor([0])).item()  # the second label is 0.75 too close
    0.75
    """
    scores, gold = label_log_scores.float(), labels.unsqueeze(1)
    missing = functional.relu(margin - scores.gather(1, gold) + scores)  # (batch, labels)
    return weighted_mean(missing.scatter(1, gold, 0.0).sum(dim=-1))


def decoupled_label(word_log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return ``-log q(y) - Σ_{y'≠y} log(1 - q(y'))`` (Tam et al. 2021, ADAPET, section 3.1).

    q is over the whole vocabulary, so the gold word must also win against words of no label.

    Args:
        word_log_probs: log q of each label's word, shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.

    >>> word_probabilities = torch.tensor([[0.5, 0.25]])  # the other words of the vocabulary have 0.25 together
    >>> decoupled_label(word_probabilities.log(), torch.tensor([0])).item()  # -ln 0.5 - ln 0.75
    0.9808...
    """
    log_q, gold = word_log_probs.float(), labels.unsqueeze(1)
    terms = log1mexp(log_q).scatter(1, gold, log_q.gather(1, gold))  # (batch, labels)
    return weighted_mean(-terms.sum(dim=-1))


def class_weights_of(setting: str | Mapping[str, float], targets: Tensor, labels: Sequence[str]) -> Tensor | None:
    """Return the class weights that a setting stands for, at most 1, shape ``(labels,)``; None where all rows weigh the same.

    Args:
        setting: ``none``, ``balanced``, or label → weight; labels that it does not name weigh 1.
        targets: as :func:`balanced_class_weights` takes them.
        labels: in class order.
    """
    if setting == "balanced":
        return balanced_class_weights(targets, len(labels))
    if isinstance(setting, str):
        return None
    weights = [setting.get(label, 1.0) for label in labels]
    # Only their ratios count; a sum of large ones would be infinite in float32, and the loss 0.
    return torch.tensor([weight / max(weights) for weight in weights])


def balanced_class_weights(targets: Tensor, labels: int) -> Tensor:
    """Return the class weights ``rows / (labels · rows of the label)``, shape ``(labels,)``: rare labels weigh more.

    Args:
        targets: class indices ``(rows,)``, or ``(rows, labels)`` of 0 and 1.

    >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    counts = targets.sum(0) if targets.ndim == 2 else torch.bincount(targets, minlength=labels)
    return len(targets) / (labels * counts.float().clamp_min(1))
