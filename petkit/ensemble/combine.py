"""Many teachers, one soft label: the weighted mean of label logits (PET, section 3.3, equation 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import FloatArray, Floats, LabelKind, log_softmax

How: TypeAlias = Literal["logits", "log_probs", "probs"]


def combine(logits: FloatArray, weights: FloatArray, how: How, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the ensemble's label logits ``(rows, labels)``: the weighted mean over teachers.

    ``logits`` averages raw logits (the paper; a much sharper teacher dominates), ``log_probs`` the
    log-probabilities (a normalised geometric mean), ``probs`` the probabilities (each teacher has one vote).
    The log-odds of a yes/no question *are* the difference of its log-probabilities, so for multi-label
    rows ``logits`` and ``log_probs`` are the same.

    >>> combine(np.array([[[4.0, 0.0]], [[0.0, 2.0]]]), np.array([3, 1]), "logits").tolist()
    [[3.0, 0.5]]

    Args:
        logits: shape ``(teachers, rows, labels)``.
        weights: shape ``(teachers,)``, not negative; normalised here to sum to 1.

    Returns:
        Scores whose softmax (for multi-label rows: sigmoid) is the ensemble's distribution.
    """
    return mean_vote(votes(logits, how, kind), weights, how, kind)


def votes(logits: FloatArray, how: How, kind: LabelKind) -> FloatArray:
    """Return what :func:`mean_vote` averages: label logits, or the log-probabilities ``(…, questions, answers)``."""
    return logits if how == "logits" else log_softmax(kind.class_logits(logits))


def mean_vote(votes: FloatArray, weights: FloatArray, how: How, kind: LabelKind) -> FloatArray:
    """Return the ensemble's label logits ``(rows, labels)`` from its teachers' :func:`votes`."""
    share = (weights / weights.sum()).astype(np.float32)
    if how == "probs":
        with np.errstate(divide="ignore"):  # a teacher of weight 0 has no say
            return kind.label_logits(np.logaddexp.reduce(votes + np.log(share)[:, None, None, None], axis=0))
    mean: FloatArray = np.einsum("k,k...->...", share, votes)
    return mean if how == "logits" else kind.label_logits(mean)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Teachers and how their label logits become one; ``ensemble.json`` stores it.

    Of the raw logits z of teacher k, ``z / T_k - log_prior_k`` is what it contributes; the weighted mean of these
    (:func:`combine`) plus the bias of every label are the ensemble's logits, for the unlabelled set, the test set and
    new rows alike.

    >>> ensemble = Ensemble.plain(["bad", "good"], LabelKind.SINGLE, "logits", ["one", "two"], [0.75, 0.25])
    >>> ensemble.combine(np.array([[[4.0, 0.0]], [[0.0, 2.0]]], np.float32)).tolist()
    [[3.0, 0.5]]

    Attributes:
        labels: label names in class order; none where each row has candidates of its own, which have no priors and no bias.
        how: what is averaged over the teachers.
        members: the teachers' names, in the order of the first axis of logits.
        weights: shape ``(teachers,)``, summing to 1.
        temperatures: shape ``(teachers,)``.
        log_priors: each teacher's log-prior over the labels, shape ``(teachers, labels)``; 0 ``(teachers, 1)`` without labels.
        dropped: which teachers were left out, shape ``(teachers,)``.
        label_bias: shape ``(labels,)``; 0 ``(1,)`` without labels.
    """

    labels: tuple[str, ...]
    kind: LabelKind
    how: How
    members: tuple[str, ...]
    weights: Floats
    temperatures: Floats
    log_priors: Floats
    dropped: NDArray[np.bool_]
    label_bias: Floats

    @classmethod
    def plain(
        cls, labels: Sequence[str], kind: LabelKind, how: How, members: Sequence[str], weights: Sequence[float]
    ) -> Ensemble:
        """Return an ensemble of teachers at temperature 1, without priors and bias."""
        count, priors = len(members), np.zeros((len(members), len(labels) or 1))
        ones, kept = np.ones(count), np.zeros(count, bool)
        return cls(tuple(labels), kind, how, tuple(members), np.array(weights), ones, priors, kept, priors[0])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ensemble:
        """Return the ensemble that ``ensemble.json`` contains; keys not written by :meth:`to_json` are not read.

        Raises:
            KeyError: a key is missing.
        """
        labels, teachers = data["labels"], data["teachers"].values()
        return cls(
            labels=tuple(labels),
            kind=LabelKind(data["label_kind"]),
            how=data["combine"],
            members=tuple(data["teachers"]),
            weights=np.array([teacher["weight"] for teacher in teachers], np.float64),
            temperatures=np.array([teacher["temperature"] for teacher in teachers], np.float64),
            log_priors=np.array([[teacher["log_prior"][label] for label in labels] or [0] for teacher in teachers], np.float64),
            dropped=np.array([teacher["dropped"] for teacher in teachers], np.bool_),
            label_bias=np.array([data["label_bias"][label] for label in labels] or [0], np.float64),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``ensemble.json``."""
        columns = zip(self.weights.tolist(), self.temperatures.tolist(), self.log_priors, self.dropped.tolist(), strict=True)
        return {
            "labels": list(self.labels),
            "label_kind": self.kind.value,
            "combine": self.how,
            "teachers": {
                name: {"weight": weight, "temperature": temperature, "log_prior": self._by_label(prior), "dropped": dropped}
                for name, (weight, temperature, prior, dropped) in zip(self.members, columns, strict=True)
            },
            "label_bias": self._by_label(self.label_bias),
        }

    def combine(self, logits: FloatArray) -> FloatArray:
        """Return the ensemble's label logits ``(rows, labels)``, before ``soft_labels.temperature``.

        Args:
            logits: the teachers' raw label logits, shape ``(teachers, rows, labels)``.
        """
        return self.combine_votes(votes(self.adjust(logits), self.how, self.kind))

    def adjust(self, logits: FloatArray) -> FloatArray:
        """Return raw label logits ``(teachers, rows, labels)`` at each teacher's temperature, without its prior."""
        log_priors = self.log_priors.astype(np.float32)[:, None]
        return logits / self.temperatures.astype(np.float32)[:, None, None] - log_priors

    def combine_votes(self, votes: FloatArray) -> FloatArray:
        """Return the ensemble's label logits ``(rows, labels)`` from the :func:`votes` of adjusted logits."""
        return mean_vote(votes, self.weights.astype(np.float32), self.how, self.kind) + self.label_bias.astype(np.float32)

    def without(self, names: Collection[str]) -> Ensemble | None:
        """Return the ensemble without some teachers, or None if none would remain.

        Teachers left out stay listed with weight 0; the weights of the others are scaled to sum to 1 (equal if all were 0).
        """
        dropped = self.dropped | np.array([name in names for name in self.members])
        if dropped.all():
            return None
        weights = np.zeros(len(dropped))
        weights[~dropped] = normalised(self.weights[~dropped])
        return replace(self, weights=weights, dropped=dropped)

    def voting(self) -> Ensemble:
        """Return the ensemble of the teachers with a weight above 0, which alone decide its answers."""
        counts = self.weights > 0
        by_teacher = {name: getattr(self, name)[counts] for name in ("weights", "temperatures", "log_priors", "dropped")}
        return replace(self, members=tuple(compress(self.members, counts)), **by_teacher)

    def _by_label(self, values: Floats) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=bool(self.labels)))


def normalised(weights: Sequence[float] | Floats) -> list[float]:
    """Return weights that sum to 1, equal ones where all are 0; six digits, so that what is written is what is used.

    >>> normalised([0.75, 0.5, 0.0])
    [0.6, 0.4, 0.0]
    """
    given = np.asarray(weights, np.float64) if any(weights) else np.ones(len(weights))
    return rounded(given / given.sum())


def rounded(values: Sequence[float] | FloatArray | Floats) -> list[float]:
    """Return values with six digits, as they are stored in ``ensemble.json``."""
    return [round(float(value), 6) for value in values]
