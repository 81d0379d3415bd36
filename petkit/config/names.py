"""The names that a pipeline file can choose; the packages that implement them register what each name means."""

from petkit.config.registry import Names

ADAPTER_NAMES = Names("adapters", "lora", "qlora", "ia3", "p_tuning_v2", "p_tuning_v1", "prompt_tuning")
BASELINE_NAMES = Names("baselines", "majority", "tfidf", "zero_shot", "supervised", "setfit")
CALIBRATION_NAMES = Names("calibrations", "none", "contextual", "batch")
LABEL_SCORER_NAMES = Names("label_scorers", "words", "soft", "prototype")
LOSS_NAMES = Names("losses", "cross_entropy", "hinge", "decoupled_label", "next_token")
DIVERGENCE_NAMES = Names("divergences", "kl", "reverse_kl", "jensen_shannon")
