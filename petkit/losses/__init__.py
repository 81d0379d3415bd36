"""The losses, as pure functions of tensors: float32, finite gradients, one number in nats, the mean over the batch.

s, t are student and teacher label logits, p, q distributions over labels, T the temperature, C the number of labels. Label logits
are ``(batch, labels)`` and finite: a label is masked by a large negative number such as -1e4, never by -inf. Gold labels are
class indices ``(batch,)``. Rows can be weighted (``row_weights (batch,)``, not negative): Σ w·l / Σ w. ``docs/losses.md`` compares
the losses and names the key that selects each. The models, batches and masks are in ``petkit.teachers`` and ``petkit.student``.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from torch import Tensor

from petkit.config.registry import DIVERGENCE_NAMES, LOSS_NAMES, Registry
from petkit.losses.classification import balanced_class_weights, binary_cross_entropy, cross_entropy, decoupled_label, hinge
from petkit.losses.consistency import consistency, r_drop
from petkit.losses.contrastive import info_nce, mutual_information_bound, supervised_contrastive
from petkit.losses.distillation import (
    binary_distillation,
    distillation,
    feature_distillation,
    jensen_shannon,
    reverse_distillation,
    student_loss,
)
from petkit.losses.language_modeling import auxiliary, label_conditioning, masked_lm, next_token_cross_entropy

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
    "mutual_information_bound",
    "next_token_cross_entropy",
    "r_drop",
    "reverse_distillation",
    "student_loss",
    "supervised_contrastive",
]

Loss: TypeAlias = Callable[..., Tensor]

# The losses that a pipeline file chooses by name; other packages add theirs by entry points.
# Called with label logits (batch, labels) and class indices (batch,). Cross-entropy also takes smoothing, class weights and the
# focal exponent; decoupled_label is called with log-probabilities, next_token with logits and ids of tokens.
LOSSES: Final[Registry[Loss]] = Registry(
    LOSS_NAMES,
    {"cross_entropy": cross_entropy, "hinge": hinge, "decoupled_label": decoupled_label, "next_token": next_token_cross_entropy},
)
# Called with the student's logits and the soft labels' logs (batch, labels), the temperature, and row weights (batch,).
DIVERGENCES: Final[Registry[Loss]] = Registry(
    DIVERGENCE_NAMES, {"kl": distillation, "reverse_kl": reverse_distillation, "jensen_shannon": jensen_shannon}
)
