"""Losses on the cosines of feature vectors."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from petkit.losses.classification import cross_entropy
from petkit.losses.numerics import weighted_mean

_SATURATED = 0.01  # share of log n


def supervised_contrastive(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return ``-1/|P(i)| Σ_{j∈P(i)} log [exp(z_i·z_j / T) / Σ_{k≠i} exp(z_i·z_k / T)]`` (Khosla et al. 2020, equation 2).

    P(i) are the other rows with i's label. The mean is over rows that have a partner; without any, it is 0. Where rows have any
    number of labels, a partner counts as often as it shares one with i (Su et al. 2022).

    Args:
        vectors: shape ``(rows, dim)``; z are these at length 1.
        labels: class indices, shape ``(rows,)``, or 0 and 1, shape ``(rows, labels)``.
        temperature: T of the cosines, usually 0.07 to 0.3.

    >>> vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # cosines 1 and 0; the third row has no partner
    >>> supervised_contrastive(vectors, torch.tensor([0, 0, 1]), temperature=1.0).item()  # -ln [e / (e + 1)]
    0.3132...
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    shared = (labels.unsqueeze(1) == labels).float() if labels.ndim == 1 else _products(labels, labels)
    partners = shared.masked_fill(itself, 0.0)  # (rows, rows): how often each counts
    cosines = _cosines(vectors, vectors) / temperature
    log_probs = functional.log_softmax(cosines.masked_fill(itself, torch.finfo(torch.float32).min), dim=-1)
    counts = partners.sum(dim=-1)
    rows = -(partners * log_probs.masked_fill(partners == 0, 0.0)).sum(dim=-1) / counts.clamp_min(1)
    return weighted_mean(rows, counts > 0)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return ``-log [exp(q_i·k_i / T) / Σ_j exp(q_i·k_j / T)]`` (van den Oord et al. 2018, equation 4).

    :func:`mutual_information_bound` makes a lower bound on the mutual information of queries and keys of it.

    Args:
        queries: shape ``(rows, dim)``, brought to length 1 here.
        keys: shape ``(rows, dim)``, brought to length 1 here; row i is the partner of query i.
        temperature: T of the cosines, usually 0.07 to 0.3.

    >>> info_nce(torch.eye(2), torch.eye(2), temperature=1.0).item()  # -ln [e / (e + 1)]
    0.3132...
    """
    partners = torch.arange(len(queries), device=queries.device)
    return cross_entropy(_cosines(queries, keys) / temperature, partners)


class InformationBound(NamedTuple):
    """A lower bound on the mutual information of two views.

    Attributes:
        nats: ``log n - loss``; below 0 it says nothing.
        saturated: the bound is within 1 % of ``log n``, the most that n rows can show: the information may be far greater.
    """

    nats: float
    saturated: bool


def mutual_information_bound(loss: float, n: int) -> InformationBound:
    """Return the bound that a value of :func:`info_nce` over ``n`` rows gives (van den Oord et al. 2018, equation 8).

    Raises:
        ValueError: fewer than two rows, which tell nothing apart.

    >>> mutual_information_bound(loss=0.3133, n=2).nats
    0.3798...
    """
    if n < 2:
        raise ValueError(f"a bound needs at least two rows, not {n}")
    most = math.log(n)
    return InformationBound(most - loss, loss < _SATURATED * most)


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosines of all pairs, shape ``(rows of left, rows of right)``."""
    return _products(functional.normalize(left.float(), dim=-1), functional.normalize(right.float(), dim=-1))


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of all pairs, shape ``(rows of left, rows of right)``."""
    with torch.autocast(left.device.type, enabled=False):  # a mixed-precision run would multiply in bfloat16
        return left.float() @ right.float().T
