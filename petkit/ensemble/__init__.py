"""Many teachers, one soft label: combining label logits, calibration, temperatures, class priors, agreement and row selection.

Pure functions and frozen records over numpy arrays; nothing here reads a run folder (:mod:`petkit.teachers`), measures
accuracy (:mod:`petkit.metrics`) or needs torch.
"""

from petkit.ensemble.agreement import Effect, TeacherAgreement, agreement
from petkit.ensemble.calibration import (
    CALIBRATIONS,
    CONTENT_FREE,
    TeacherScores,
    batch_prior,
    calibrate,
    contextual_prior,
    fit_temperature,
    match_prior,
    prior_shares,
)
from petkit.ensemble.combine import Ensemble, How, combine, normalised
from petkit.ensemble.label_kind import FloatArray, LabelKind, entropy, log_softmax
from petkit.ensemble.row_selection import best_probability, choose_rows, confidence_weights, is_rare

__all__ = [
    "CALIBRATIONS",
    "CONTENT_FREE",
    "Effect",
    "Ensemble",
    "FloatArray",
    "How",
    "LabelKind",
    "TeacherAgreement",
    "TeacherScores",
    "agreement",
    "batch_prior",
    "best_probability",
    "calibrate",
    "choose_rows",
    "combine",
    "confidence_weights",
    "contextual_prior",
    "entropy",
    "fit_temperature",
    "is_rare",
    "log_softmax",
    "match_prior",
    "normalised",
    "prior_shares",
]
