"""How much labels and probabilities say, in bits, nats or harts (Shannon 1948; Cover & Thomas 2006, chapter 2).

p and q are distributions over the same labels along the last axis, shape ``(…, labels)``: not negative, with sum 1. What is
returned has the shape ``(…)``, float64. Where p has a label that q excludes, cross-entropy and divergence are infinite. A
ValueError says what is not a distribution, or not a unit.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, rel_entr, xlogy

from petkit.ensemble.label_kind import Floats

Unit: TypeAlias = Literal["bit", "nat", "hart"]
NATS: Final[dict[str, float]] = {"bit": math.log(2), "nat": 1.0, "hart": math.log(10)}
_ROUNDING = 1e-4  # of probabilities stored as float32, or printed


def entropy(p: ArrayLike, unit: Unit = "nat") -> Floats:
    """Return ``H(p) = -Σ p log p``.

    >>> entropy([0.25, 0.25, 0.25, 0.25], "bit").item()
    2.0
    """
    return np.asarray(entr(_distribution("p", p)).sum(axis=-1) / _nats(unit))


def cross_entropy(p: ArrayLike, q: ArrayLike, unit: Unit = "nat") -> Floats:
    """Return ``H(p, q) = -Σ p log q = H(p) + KL(p ‖ q)``.

    >>> cross_entropy([0.2, 0.8], [0.5, 0.5], "bit").item()
    1.0
    """
    p, q = _distributions(p, q)
    with np.errstate(divide="ignore"):
        summands = -xlogy(p, q)
    return np.asarray(summands.sum(axis=-1) / _nats(unit))


def kl_divergence(p: ArrayLike, q: ArrayLike, unit: Unit = "nat") -> Floats:
    """Return ``KL(p ‖ q) = Σ p log(p / q)``, what it costs to take q for p; ``KL(q ‖ p)`` is another number.

    >>> kl_divergence([0.2, 0.8], [0.5, 0.5], "bit").round(4).item()
    0.2781
    """
    p, q = _distributions(p, q)
    return _not_negative(rel_entr(p, q).sum(axis=-1)) / _nats(unit)


def jensen_shannon(p: ArrayLike, q: ArrayLike, unit: Unit = "nat") -> Floats:
    """Return ``½ KL(p ‖ m) + ½ KL(q ‖ m)`` with ``m = (p + q) / 2`` (Lin 1991): symmetric, and at most one bit.

    Its square root, :func:`jensen_shannon_distance`, obeys the triangle inequality.

    >>> jensen_shannon([1.0, 0.0], [0.0, 1.0], "bit").item()
    1.0
    """
    p, q = _distributions(p, q)
    middle = (p + q) / 2
    return _not_negative((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / 2) / _nats(unit)


def jensen_shannon_distance(p: ArrayLike, q: ArrayLike, unit: Unit = "nat") -> Floats:
    """Return the square root of the Jensen–Shannon divergence, a metric (Endres & Schindelin 2003).

    >>> jensen_shannon_distance([1.0, 0.0], [0.0, 1.0], "bit").item()
    1.0
    """
    return np.sqrt(jensen_shannon(p, q, unit))


def perplexity(p: ArrayLike, q: ArrayLike | None = None) -> Floats:
    """Return ``exp H(p)``, the number of equally likely labels that are as uncertain; with q, ``exp H(p, q)``.

    >>> perplexity([0.25, 0.25, 0.25, 0.25]).round(6).item()
    4.0
    """
    return np.exp(entropy(p) if q is None else cross_entropy(p, q))


def mutual_information(x: ArrayLike, y: ArrayLike, unit: Unit = "nat", *, corrected: bool = False) -> float:
    """Return how much the labels x say about the labels y: ``Σ p(x, y) log [p(x, y) / (p(x) p(y))]``, from their frequencies.

    Args:
        x: a label (a number or a string) per row, shape ``(rows,)``.
        y: another label per row, shape ``(rows,)``.
        corrected: subtract ``(m_xy - m_x - m_y + 1) / (2 rows)`` nats, m the numbers of pairs and of labels that occur: frequencies
            of few rows say too much (Miller 1955, Madow's correction of each entropy). The result may then be below 0.

    Raises:
        ValueError: x and y have other shapes than ``(rows,)``, or no row.

    >>> mutual_information(["a", "a", "b", "b"], [0, 0, 1, 1], "bit")
    1.0
    """
    found, other = np.asarray(x), np.asarray(y)
    if found.ndim != 1 or found.shape != other.shape or not len(found):
        raise ValueError(f"x and y must be labels of the same rows, shape (rows,), not {found.shape} and {other.shape}")
    (kinds, left), (other_kinds, right) = (np.unique(labels, return_inverse=True) for labels in (found, other))
    joint = np.zeros((len(kinds), len(other_kinds)))
    np.add.at(joint, (left, right), 1.0)
    joint /= len(found)
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    information = float(rel_entr(joint, alone).sum())
    if corrected:
        information -= (np.count_nonzero(joint) - len(kinds) - len(other_kinds) + 1) / (2 * len(found))
    return information / _nats(unit)


def _distribution(name: str, values: ArrayLike) -> Floats:
    """Return values as float64; refuse those that are no probabilities of alternatives."""
    found = np.asarray(values, np.float64)
    if found.ndim == 0 or not found.shape[-1] or not (found >= 0).all() or abs(found.sum(axis=-1) - 1).max(initial=0) > _ROUNDING:
        raise ValueError(f"{name} must have probabilities along its last axis: not negative, with sum 1")
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def _distributions(p: ArrayLike, q: ArrayLike) -> tuple[Floats, Floats]:
    """Return two distributions over the same labels."""
    found, other = _distribution("p", p), _distribution("q", q)
    if found.shape[-1] != other.shape[-1]:
        raise ValueError(f"p and q must be about the same labels, not {found.shape[-1]} and {other.shape[-1]}")
    return found, other


def _nats(unit: str) -> float:
    """Return how many nats a unit is."""
    if unit not in NATS:
        raise ValueError(f"unit must be one of {', '.join(NATS)}, not {unit!r}")
    return NATS[unit]


def _not_negative(values: ArrayLike) -> Floats:
    """Return divergences; of nearly equal distributions, rounding makes the sum fall below 0, and a root of it NaN."""
    return np.maximum(np.asarray(values, np.float64), 0.0)
