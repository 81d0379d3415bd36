"""How much a label counts in a loss where the labels are not equally frequent."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced(targets: Tensor, labels: int) -> Tensor:
    """Return the class weights ``rows / (labels · rows of the label)``, shape ``(labels,)``: rare labels weigh more.

    Args:
        targets: class indices ``(rows,)``, or ``(rows, labels)`` of 0 and 1.
        labels: how many labels there are.
    """
    counts = targets.sum(0) if targets.ndim == 2 else torch.bincount(targets, minlength=labels)
    return len(targets) / (labels * counts.float().clamp_min(1))
