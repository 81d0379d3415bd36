"""The losses that a pipeline file chooses by name; other packages add theirs by entry points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from torch import Tensor

from petkit.config.names import DIVERGENCE_NAMES, LOSS_NAMES
from petkit.config.registry import Registry
from petkit.losses.classification import cross_entropy, decoupled_label, hinge
from petkit.losses.distillation import distillation, jensen_shannon, reverse_distillation
from petkit.losses.language_modeling import next_token_cross_entropy

Loss: TypeAlias = Callable[..., Tensor]

# Called with label logits (batch, labels) and class indices (batch,). Cross-entropy also takes smoothing, class weights and the
# focal exponent; decoupled_label is called with log-probabilities, next_token with logits and ids of tokens.
LOSSES: Final[Registry[Loss]] = Registry(
    LOSS_NAMES,
    {
        "cross_entropy": cross_entropy,
        "hinge": hinge,
        "decoupled_label": decoupled_label,
        "next_token": next_token_cross_entropy,
    },
)

# Called with the student's logits and the soft labels' logs (batch, labels), the temperature, and row weights (batch,).
DIVERGENCES: Final[Registry[Loss]] = Registry(
    DIVERGENCE_NAMES, {"kl": distillation, "reverse_kl": reverse_distillation, "jensen_shannon": jensen_shannon}
)
