"""A student's training loss: on soft labels, on gold labels, and losses added to them (PET, section 3.3).

``L = (1 - hard_weight) · T² · D(p, softmax(s / T)) + hard_weight · CE(gold) + Σ weight · extra`` with D the KL
divergence by default. Losses of weight 0 are not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from petkit import losses
from petkit.config.schema.training import StudentSpec
from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.sampling import StepRows
from petkit.engine.token_masking import TokenMasking
from petkit.losses.classification import class_weights_of
from petkit.models.batch import Batch, IndexArray
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.row_array import RowArray


@dataclass(frozen=True)
class StudentTargets:
    """Soft and gold labels of a student, with their weights.

    Attributes:
        soft_labels: of every unlabelled row, shape ``(rows, labels)``: log-probabilities at the teachers' temperature,
            or logits divided by it where a row may have any number of labels.
        row_weights: weight of each unlabelled row, shape ``(rows,)``.
        gold: class indices of the labelled rows ``(rows,)``, or ``(rows, labels)`` of 0 and 1.
        temperature: of the student's logits.
        hard_weight: share of the loss on labelled rows.
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


class Student(nn.Module):
    """The classifier, and the projection of its features to a teacher's where those are distilled."""

    def __init__(self, classifier: ClassifierLogits, teacher_width: int | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        width = int(classifier.model.config.hidden_size)
        self.projection = nn.Linear(width, teacher_width) if teacher_width else nn.Identity()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return label logits ``(batch, labels)``, each row's first hidden vector ``(batch, hidden)``, and its projection."""
        logits = self.classifier(batch)
        features = self.classifier.features
        return logits, features, self.projection(features)


class StudentObjective:
    """The loss of the student, called with the :class:`Student` and the :class:`StepRows`.

    Args:
        labels: in class order.
        batch_of: assembles numbered unlabelled and labelled rows into one batch (on the processor).
        teacher_features: a teacher's features of numbered unlabelled rows ``(rows, hidden)``, where they are distilled.
    """

    def __init__(
        self,
        settings: StudentSpec,
        targets: StudentTargets,
        labels: Sequence[str],
        batch_of: Callable[[IndexArray, IndexArray | None], Batch],
        tokenizer: PieceTokenizer,
        device: Device,
        teacher_features: Callable[[IndexArray], Tensor] | None = None,
    ) -> None:
        self.settings, self.targets, self.batch_of = settings, targets, batch_of
        self.device, self.teacher_features = device, teacher_features
        self.masking = cache(partial(TokenMasking, tokenizer, always=True))
        self.class_weights = class_weights_of(settings.class_weights, targets.gold, labels)

    def __call__(self, student: Any, step: StepRows) -> Tensor:
        """Return the loss of one step, shape ``()``."""
        settings, binary, count = self.settings, self.targets.multi, len(step.rows)
        device = self.device.name
        # Soft and gold rows go through the model together: one forward pass per step.
        batch = self.batch_of(step.rows, step.added)
        on_device = batch.to(device)
        logits, features, projected = student(on_device)  # (count + gold, …): labels, hidden, teacher's hidden
        loss = self._main(logits, step)
        if settings.r_drop_weight:
            again = student(on_device)[0]
            loss = (loss + self._main(again, step)) / 2
            loss = loss + settings.r_drop_weight * losses.r_drop(logits, again, binary=binary)
        if settings.consistency_weight:
            hidden = self.masking(settings.masked_share)(batch, step.random)
            perturbed = student(hidden.batch.to(device))[0]
            loss = loss + settings.consistency_weight * losses.consistency(logits, perturbed, binary=binary)
        if settings.feature_weight:
            assert self.teacher_features is not None
            wanted = self.teacher_features(step.rows)  # (count, hidden)
            loss = loss + settings.feature_weight * losses.feature_distillation(projected[:count], wanted)
        if settings.contrastive.weight:
            loss = loss + settings.contrastive.weight * self._contrast(student, batch, features, step)
        return loss

    def _contrast(self, student: Any, batch: Batch, features: Tensor, step: StepRows) -> Tensor:
        """Return the contrastive loss of the rows' features, shape ``(batch, hidden)``."""
        contrastive = self.settings.contrastive
        if contrastive.partners == "same_label":
            # The gold labels of labelled rows, and of other rows those that the teachers give them.
            soft = torch.as_tensor(self.targets.soft_labels[step.rows])
            labels = (soft > 0).float() if self.targets.multi else soft.argmax(dim=1)
            if step.added is not None:
                labels = torch.cat([labels, self.targets.gold[step.added]])
            return losses.supervised_contrastive(features, labels.to(features.device), contrastive.temperature)
        view = student(self.masking(contrastive.masked_share)(batch, step.random).batch.to(self.device.name))[1]
        return losses.info_nce(features, view, contrastive.temperature)

    def _main(self, logits: Tensor, step: StepRows) -> Tensor:
        """Return the losses on soft-labelled and labelled rows in their shares."""
        targets, count = self.targets, len(step.rows)
        soft, weights = (
            torch.as_tensor(entries[step.rows]).to(logits.device) for entries in (targets.soft_labels, targets.row_weights)
        )
        divergence = losses.DIVERGENCES[self.settings.divergence]
        if targets.multi:
            divergence = partial(losses.binary_distillation, divergence=divergence)
        distilled = divergence(logits[:count], soft, targets.temperature, weights)
        gold = None if step.added is None else self._gold_loss(logits[count:], targets.gold[step.added].to(logits.device))
        return losses.student_loss(distilled, gold, targets.hard_weight)

    def _gold_loss(self, logits: Tensor, gold: Tensor) -> Tensor:
        settings = self.settings
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = losses.binary_cross_entropy if self.targets.multi else losses.cross_entropy
        options: dict[str, Any] = {"label_smoothing": settings.label_smoothing, "focal_gamma": settings.focal_gamma}
        return loss(logits, gold, class_weights=weights, **options)
