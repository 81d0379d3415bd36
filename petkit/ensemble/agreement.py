"""How teachers agree, and what each of them does for the ensemble; gathered in memory that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.combine import (
    FloatArray,
    adjust,
    as_class_logits,
    choices,
    combine_teachers,
    is_multi,
    leave_out,
    log_softmax,
)

COLLAPSED_SHARE = 0.95
Shares = NDArray[np.float64]


class Consensus:
    """Counts of answers, shared answers and changed answers over the unlabelled rows of one ensemble.

    Single-label rows ask one question; multi-label rows one per label, and figures are means over those.

    Args:
        ensemble: see :func:`petkit.ensemble.combine.combine_teachers`.
    """

    def __init__(self, ensemble: Mapping[str, Any]) -> None:
        self.ensemble, self.multi = ensemble, is_multi(ensemble)
        self.names = list(ensemble["teachers"])
        self.others = [leave_out(ensemble, [name]) for name in self.names]
        teachers, labels = len(self.names), len(ensemble["labels"])
        asked, answers = (labels, 2) if self.multi else (1, labels)
        self.rows = 0
        self._same = np.zeros((teachers, teachers, asked), np.int64)
        self._given = np.zeros((teachers, asked, answers), np.int64)
        self._given_without = np.zeros((teachers, asked, answers), np.int64)
        self._changed = np.zeros(teachers)
        self._divergence = np.zeros(teachers)

    def add(self, logits: FloatArray, combined: FloatArray) -> None:
        """Count some rows.

        Args:
            logits: the teachers' raw label logits, shape ``(teachers, rows, labels)``.
            combined: the ensemble's, shape ``(rows, labels)``.
        """
        self.rows += len(combined)
        given = choices(adjust(logits, self.ensemble), multi=self.multi)  # (teachers, rows, questions)
        for teacher, answers in enumerate(given):
            self._same[teacher] += (answers == given).sum(axis=1)
            self._given[teacher] += self._count(answers)
        ours = choices(combined, multi=self.multi)  # (rows, questions)
        log_p = self._log_probs(combined)  # (rows, questions, answers)
        for teacher, others in enumerate(self.others):
            if others is None:
                continue
            without = combine_teachers(logits, others)
            theirs = choices(without, multi=self.multi)
            self._given_without[teacher] += self._count(theirs)
            self._changed[teacher] += (theirs != ours).mean(axis=1).sum()
            self._divergence[teacher] += (np.exp(log_p) * (log_p - self._log_probs(without))).sum(axis=-1).mean(axis=1).sum()

    @property
    def agreement(self) -> Shares:
        """Share of rows (and labels) that two teachers answer alike, shape ``(teachers, teachers)``."""
        share: Shares = self._same.mean(axis=-1) / self.rows
        return share

    @property
    def kappa(self) -> Shares:
        """Cohen's κ of every two teachers: ``(p_o - p_e) / (1 - p_e)`` (Cohen 1960, equation 1), shape ``(teachers, teachers)``.

        p_o is the share of equal answers and p_e what chance would give teachers with their label shares. Where both
        always give one and the same answer p_e is 1 and κ is set to 1; teachers that each always give another have κ 0.
        """
        # In whole numbers, rows² times the shares: 1 - p_e is 0 exactly where it should be.
        by_chance = np.einsum("iqa,jqa->ijq", self._given, self._given)
        observed, most = self.rows * self._same, self.rows**2
        constant = by_chance == most
        kappa: Shares = np.where(constant, 1.0, (observed - by_chance) / np.where(constant, 1, most - by_chance)).mean(axis=-1)
        return kappa

    def effects(self) -> dict[str, dict[str, Any]]:
        """Return what each teacher does for the ensemble.

        ``kappa`` is its mean κ with the others. ``without`` is how the ensemble changes when it is left out:
        ``changed`` the share of answers that become others, ``kl`` the mean KL(with ‖ without) in nats. None where
        there are no others.
        """
        found: dict[str, dict[str, Any]] = {}
        for index, (name, own, others) in enumerate(zip(self.names, self.kappa, self.others, strict=True)):
            lost = {
                "changed": float(self._changed[index] / self.rows),
                "kl": max(0.0, float(self._divergence[index] / self.rows)),  # rounding can take a KL of 0 below it
            }
            found[name] = {
                "kappa": float((own.sum() - own[index]) / (len(own) - 1)) if len(own) > 1 else None,
                "without": None if others is None else lost,
            }
        return found

    def collapsed(self) -> dict[str, float]:
        """Return the teachers that give 95 % of the rows or more one answer, though the others together do not; with that share.

        Of multi-label rows this must hold for the answers to every label.
        """
        own, others = (given.max(axis=-1).min(axis=-1) / self.rows for given in (self._given, self._given_without))
        return {
            name: float(own[index])
            for index, name in enumerate(self.names)
            if self.others[index] is not None and own[index] >= COLLAPSED_SHARE > others[index]
        }

    def _count(self, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each answer is given, shape ``(questions, answers)``."""
        kinds = self._given.shape[-1]
        return np.stack([np.bincount(column, minlength=kinds) for column in answers.T])

    def _log_probs(self, combined: FloatArray) -> Shares:
        """Return the log-probabilities of every answer, shape ``(rows, questions, answers)``."""
        return log_softmax(as_class_logits(combined, multi=self.multi)).astype(np.float64)
