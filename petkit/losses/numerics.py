"""Distributions in log space and means over rows; not public."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

TINY = torch.finfo(torch.float32).tiny


def weighted_mean(rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``Σ w·l / Σ w`` over the rows (the plain mean without weights); 0, with gradient 0, where all weights are 0."""
    if weights is None:
        return rows.mean()
    # The weights are divided, not the sum: 1 over the floor, times a gradient above 1, would overflow.
    shares = weights.float() / weights.float().sum().clamp_min(TINY)
    return (shares * rows).sum()


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return ``Σ p (log p - log q)`` over the last axis, per row."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def log_sigmoids(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log σ`` and ``log(1 - σ)``."""
    return functional.logsigmoid(logits.float()), functional.logsigmoid(-logits.float())


def log_probs(logits: Tensor, binary: bool = False) -> Tensor:
    """Return log-probabilities of every outcome, ``(batch, labels)``, or yes and no of each label, ``(batch, 2 · labels)``."""
    return torch.cat(log_sigmoids(logits), dim=-1) if binary else functional.log_softmax(logits.float(), dim=-1)


def log1mexp(log_prob: Tensor) -> Tensor:
    """Return ``log(1 - p)`` from log p, accurate at both ends (Mächler 2012) and finite at p = 1.

    In float32 p next to 1 is 1: there ``log(1 - p)`` is taken half a step below it and has no gradient, as the logits'
    softmax would make it 0 anyway.
    """
    capped = log_prob.clamp_max(-torch.finfo(torch.float32).eps / 2)
    # Each branch is kept where it is finite: torch.where lets NaN gradients of the branch not taken through.
    far = torch.log1p(-capped.clamp_max(-math.log(2)).exp())
    return torch.where(capped > -math.log(2), torch.log(-torch.expm1(capped)), far)
