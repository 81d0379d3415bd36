"""What the student is trained on: soft labels, gold labels, and what may stand beside them (PET, section 3.3).

``L = (1 - hard_weight) · T² · D(p, softmax(s / T)) + hard_weight · CE(gold) + Σ weight · extra`` with D the KL
divergence unless another is asked for. Whatever is not asked for costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from petkit import losses
from petkit.config.schema import StudentSpec
from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.token_masking import TokenMasking
from petkit.models.batch import Batch, IndexArray
from petkit.storage.row_array import RowArray

_DIVERGENCES = {
    "kl": losses.distillation,
    "reverse_kl": losses.reverse_distillation,
    "jensen_shannon": losses.jensen_shannon,
}


@dataclass(frozen=True)
class StudentTargets:
    """What the student learns from.

    Attributes:
        soft_labels: of every unlabelled row, shape ``(rows, labels)``: log-probabilities at the teachers' temperature,
            or logits divided by it where a row may have any number of labels.
        row_weights: how much each unlabelled row counts, shape ``(rows,)``.
        gold: class indices of the few-shot examples ``(examples,)``, or ``(examples, labels)`` of 0 and 1.
        temperature: of the student's logits.
        hard_weight: share of the gold-label loss.
    """

    soft_labels: Tensor | RowArray
    row_weights: Tensor | RowArray
    gold: Tensor
    temperature: float
    hard_weight: float

    @property
    def multi(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.gold.ndim == 2

    def soft(self, rows: IndexArray) -> Tensor:
        """Return the soft labels of some rows, shape ``(len(rows), labels)``."""
        return torch.as_tensor(self.soft_labels[rows])

    def weights(self, rows: IndexArray) -> Tensor:
        """Return the weights of some rows, shape ``(len(rows),)``."""
        return torch.as_tensor(self.row_weights[rows])


@dataclass(frozen=True)
class Turn:
    """One step's rows: numbers of unlabelled rows and of few-shot examples (or none), and the step's own randomness."""

    rows: IndexArray
    gold: IndexArray | None
    random: np.random.Generator


class Student(nn.Module):
    """The classifier, and the projection of its features to a teacher's where those are distilled."""

    def __init__(self, classifier: ClassifierLogits, teacher_width: int | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        width = int(classifier.model.config.hidden_size)
        self.projection = nn.Linear(width, teacher_width) if teacher_width else None

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return label logits ``(batch, labels)``, the first hidden vector of each row ``(batch, hidden)``, and its projection.

        The projection has the teacher's width; without a teacher it is the vector itself.
        """
        logits = self.classifier(batch)
        features = self.classifier.features
        return logits, features, features if self.projection is None else self.projection(features)


class StudentObjective:
    """The loss of the student, called with the :class:`Student` and a :class:`Turn`.

    Args:
        settings: which losses, with which weights.
        lesson: soft and gold labels.
        labels: how many labels there are.
        batch_of: assembles numbered unlabelled rows and few-shot examples into one batch (on the processor).
        masking: hides tokens, where consistency asks for it.
        viewing: hides tokens, where the contrastive loss compares masked views.
        teacher_features: gives a teacher's features of numbered unlabelled rows ``(rows, hidden)``, where they are distilled.
    """

    def __init__(
        self,
        settings: StudentSpec,
        lesson: StudentTargets,
        labels: int,
        batch_of: Callable[[IndexArray, IndexArray | None], Batch],
        device: Device,
        masking: TokenMasking | None = None,
        viewing: TokenMasking | None = None,
        teacher_features: Callable[[IndexArray], Tensor] | None = None,
    ) -> None:
        self.settings, self.lesson, self.batch_of = settings, lesson, batch_of
        self.device, self.masking, self.viewing, self.teacher_features = device, masking, viewing, teacher_features
        self.class_weights = losses.balanced_class_weights(lesson.gold, labels) if settings.class_weights == "balanced" else None

    def __call__(self, student: Any, turn: Turn) -> Tensor:
        """Return the loss of one step, shape ``()``."""
        settings, lesson, count = self.settings, self.lesson, len(turn.rows)
        device = self.device.name
        # Soft and gold rows go through the model together: one forward pass per step.
        batch = self.batch_of(turn.rows, turn.gold)
        on_device = batch.to(device)
        logits, features, projected = student(on_device)  # (count + gold, …): labels, hidden, teacher's hidden
        loss = self._main(logits, turn)
        if settings.r_drop_weight:
            again = student(on_device)[0]
            loss = (loss + self._main(again, turn)) / 2
            loss = loss + settings.r_drop_weight * losses.r_drop(logits, again, binary=lesson.multi)
        if settings.consistency_weight:
            assert self.masking is not None
            perturbed = student(self.masking(batch, turn.random).batch.to(device))[0]
            loss = loss + settings.consistency_weight * losses.consistency(logits, perturbed, binary=lesson.multi)
        if settings.feature_weight:
            assert self.teacher_features is not None
            wanted = self.teacher_features(turn.rows)  # (count, hidden)
            loss = loss + settings.feature_weight * losses.feature_distillation(projected[:count], wanted)
        if settings.contrastive.weight:
            loss = loss + settings.contrastive.weight * self._contrast(student, batch, features, turn)
        return loss

    def _contrast(self, student: Any, batch: Batch, features: Tensor, turn: Turn) -> Tensor:
        """Return the contrastive loss of the rows' features, shape ``(batch, hidden)``."""
        contrastive = self.settings.contrastive
        if contrastive.partners == "same_label":
            return losses.supervised_contrastive(features, self._likely_labels(turn).to(features.device), contrastive.temperature)
        assert self.viewing is not None
        view = student(self.viewing(batch, turn.random).batch.to(self.device.name))[1]
        return losses.info_nce(features, view, contrastive.temperature)

    def _main(self, logits: Tensor, turn: Turn) -> Tensor:
        """Return the soft-label loss and the gold-label loss in their shares."""
        lesson, count = self.lesson, len(turn.rows)
        soft = lesson.soft(turn.rows).to(logits.device)
        weights = lesson.weights(turn.rows).to(logits.device)
        divergence = losses.binary_distillation if lesson.multi else _DIVERGENCES[self.settings.divergence]
        distilled = divergence(logits[:count], soft, lesson.temperature, weights)
        gold = None if turn.gold is None else self._gold_loss(logits[count:], lesson.gold[turn.gold].to(logits.device))
        return losses.student_loss(distilled, gold, lesson.hard_weight)

    def _gold_loss(self, logits: Tensor, gold: Tensor) -> Tensor:
        settings = self.settings
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = losses.binary_cross_entropy if self.lesson.multi else losses.cross_entropy
        return loss(
            logits, gold, label_smoothing=settings.label_smoothing, class_weights=weights, focal_gamma=settings.focal_gamma
        )

    def _likely_labels(self, turn: Turn) -> Tensor:
        """Return the gold label of few-shot examples and the teachers' most likely one of other rows."""
        likely = self.lesson.soft(turn.rows).argmax(dim=1)
        return likely if turn.gold is None else torch.cat([likely, self.lesson.gold[turn.gold]])
