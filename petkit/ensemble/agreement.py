"""How far teachers agree, and what each contributes to the ensemble; memory does not grow with the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petkit import limits
from petkit.ensemble.combine import Ensemble, votes
from petkit.ensemble.label_kind import FloatArray, Floats, LabelKind, log_softmax

COLLAPSED_SHARE = 0.95


def agreement(logits: FloatArray, combined: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the share of answers, over teachers (and over the labels of multi-label rows), that are the ensemble's.

    Logits have the shape ``(teachers, rows, labels)``, the ensemble's ``(rows, labels)``, the shares ``(rows,)``.

    >>> agreement(np.array([[[2, 0]], [[1, 0]], [[0, 1]], [[3, 1]]]), np.array([[1.5, 0.5]])).tolist()
    [0.75]
    """
    same = kind.choices(logits) == kind.choices(combined)  # (teachers, rows, questions)
    return np.asarray(same.mean(axis=(0, 2), dtype=np.float32))


@dataclass(frozen=True)
class Effect:
    """What one teacher contributes.

    Attributes:
        kappa: its mean κ with the others; None without others.
        changed: share of answers that change when it is left out; None if no teacher would remain.
        kl: mean KL(with ‖ without) in nats; None if no teacher would remain.
    """

    kappa: float | None
    changed: float | None = None
    kl: float | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain data for ``ensemble.json``."""
        return {"kappa": self.kappa, "without": None if self.changed is None else {"changed": self.changed, "kl": self.kl}}


class TeacherAgreement:
    """Counts of answers, equal answers and changed answers over the unlabelled rows of one ensemble.

    Single-label rows have one question; multi-label rows one per label, and figures are means over those.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.others = [ensemble.without([name]) for name in ensemble.members]
        teachers, labels = len(ensemble.members), len(ensemble.labels) or limits.CANDIDATES
        questions, answers = (labels, 2) if ensemble.kind.multi else (1, labels)
        self.rows = 0
        self._same = np.zeros((teachers, teachers, questions), np.int64)
        self._given = np.zeros((teachers, questions, answers), np.int64)
        self._given_without = np.zeros((teachers, questions, answers), np.int64)
        self._changed = np.zeros(teachers)
        self._divergence = np.zeros(teachers)

    def add(self, logits: FloatArray, combined: FloatArray) -> None:
        """Count some rows, from raw label logits ``(teachers, rows, labels)`` and the ensemble's ``(rows, labels)``."""
        self.rows += len(combined)
        kind, adjusted = self.ensemble.kind, self.ensemble.adjust(logits)
        given = kind.choices(adjusted)  # (teachers, rows, questions)
        for teacher, answers in enumerate(given):
            self._same[teacher] += (answers == given).sum(axis=1)
            self._given[teacher] += self._count(answers)
        ours = kind.choices(combined)  # (rows, questions)
        log_p = self._log_probs(combined)  # (rows, questions, answers)
        cast = votes(adjusted, self.ensemble.how, kind)
        for teacher, others in enumerate(self.others):
            if others is None:
                continue
            without = others.combine_votes(cast)
            theirs = kind.choices(without)
            self._given_without[teacher] += self._count(theirs)
            self._changed[teacher] += (theirs != ours).mean(axis=1).sum()
            self._divergence[teacher] += (np.exp(log_p) * (log_p - self._log_probs(without))).sum(axis=-1).mean(axis=1).sum()

    @property
    def agreement(self) -> Floats:
        """Share of rows (and labels) with equal answers of two teachers, shape ``(teachers, teachers)``."""
        return np.asarray(self._same.mean(axis=-1) / self.rows)

    @property
    def kappa(self) -> Floats:
        """Cohen's κ of every two teachers: ``(p_o - p_e) / (1 - p_e)`` (Cohen 1960, equation 1), shape ``(teachers, teachers)``.

        p_o is the share of equal answers and p_e the share expected by chance from the two label distributions. If both
        always give the same single answer, p_e is 1 and κ is set to 1; if each always gives a different one, κ is 0.
        """
        # In whole numbers, rows² times the shares: 1 - p_e is 0 exactly where it should be.
        by_chance = np.einsum("iqa,jqa->ijq", self._given, self._given)
        observed, most = self.rows * self._same, self.rows**2
        constant = by_chance == most
        kappa = np.where(constant, 1.0, (observed - by_chance) / np.where(constant, 1, most - by_chance))
        return np.asarray(kappa.mean(axis=-1))

    def effects(self) -> dict[str, Effect]:
        """Return what each teacher contributes to the ensemble."""
        found = {}
        for index, (name, own, others) in enumerate(zip(self.ensemble.members, self.kappa, self.others, strict=True)):
            kappa = float((own.sum() - own[index]) / (len(own) - 1)) if len(own) > 1 else None
            # Rounding can take a KL of 0 below it.
            lost = float(self._changed[index] / self.rows), max(0.0, float(self._divergence[index] / self.rows))
            found[name] = Effect(kappa) if others is None else Effect(kappa, *lost)
        return found

    def collapsed(self) -> dict[str, float]:
        """Return the share of the most frequent answer of every teacher where it is 95 % or more, though not of the others together.

        For multi-label rows this must be so for the answers to every label.
        """
        own, others = (given.max(axis=-1).min(axis=-1) / self.rows for given in (self._given, self._given_without))
        return {
            name: float(own[index])
            for index, name in enumerate(self.ensemble.members)
            if self.others[index] is not None and own[index] >= COLLAPSED_SHARE > others[index]
        }

    def _count(self, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each answer is given, shape ``(questions, answers)``."""
        kinds = self._given.shape[-1]
        return np.stack([np.bincount(column, minlength=kinds) for column in answers.T])

    def _log_probs(self, combined: FloatArray) -> Floats:
        """Return the log-probabilities of every answer, shape ``(rows, questions, answers)``."""
        return log_softmax(self.ensemble.kind.class_logits(combined)).astype(np.float64)
