"""The names of losses that a pipeline file can choose; ``petkit.losses`` has the functions."""

from petkit.config.registry import Names

LOSS_NAMES = Names("losses", "cross_entropy", "hinge", "decoupled_label", "next_token")
DIVERGENCE_NAMES = Names("divergences", "kl", "reverse_kl", "jensen_shannon")
