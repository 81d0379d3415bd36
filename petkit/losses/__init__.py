"""The losses, as pure functions of tensors: float32, finite gradients, one number in nats, the mean over the batch.

s, t are student and teacher label logits, p, q distributions over labels, T the temperature, C the number of labels. Logits are
finite: a label is masked by a large negative number such as -1e4, never by -inf. Rows can be weighted (``row_weights``, not
negative): Σ w·l / Σ w. ``docs/losses.md`` compares the losses and names the key that selects each. What they are applied to (models,
batches, masks) is in ``petkit.teachers`` and ``petkit.student``.
"""

from petkit.losses.classification import balanced_class_weights, binary_cross_entropy, cross_entropy, decoupled_label, hinge
from petkit.losses.consistency import consistency, r_drop
from petkit.losses.contrastive import info_nce, supervised_contrastive
from petkit.losses.distillation import (
    binary_distillation,
    distillation,
    feature_distillation,
    jensen_shannon,
    reverse_distillation,
    student_loss,
)
from petkit.losses.language_modeling import auxiliary, label_conditioning, masked_lm, next_token_cross_entropy
from petkit.losses.registry import DIVERGENCES, LOSSES

__all__ = [
    "DIVERGENCES",
    "LOSSES",
    "auxiliary",
    "balanced_class_weights",
    "binary_cross_entropy",
    "binary_distillation",
    "consistency",
    "cross_entropy",
    "decoupled_label",
    "distillation",
    "feature_distillation",
    "hinge",
    "info_nce",
    "jensen_shannon",
    "label_conditioning",
    "masked_lm",
    "next_token_cross_entropy",
    "r_drop",
    "reverse_distillation",
    "student_loss",
    "supervised_contrastive",
]
