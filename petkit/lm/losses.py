"""The objectives, as pure functions of logits. All run in float32 and return the batch mean.

s, t are student and teacher label logits, T the temperature, C the number of labels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(label_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy over the label logits (PET, Schick & Schütze 2021, section 3.1).

    Args:
        label_logits: shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
    """
    return functional.cross_entropy(label_logits.float(), labels)


def distillation(student_logits: Tensor, soft_labels: Tensor, temperature: float) -> Tensor:
    """Return ``T² · KL(p ‖ softmax(s / T))``, the mean over the batch (Hinton et al. 2015, section 2).

    The factor T² keeps the gradient's size when T changes. It is exactly 0 where ``softmax(s / T)`` equals ``p``.

    Args:
        student_logits: s, shape ``(batch, labels)``.
        soft_labels: log p, shape ``(batch, labels)``: log-probabilities, already at the teachers' temperature.
        temperature: T of the student's logits.
    """
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    divergence = functional.kl_div(log_q, soft_labels.float(), reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def student_loss(distilled: Tensor, gold: Tensor | None, hard_weight: float) -> Tensor:
    """Return ``(1 - hard_weight) · distilled + hard_weight · gold``; without gold rows, ``distilled`` alone."""
    return distilled if gold is None else (1 - hard_weight) * distilled + hard_weight * gold
