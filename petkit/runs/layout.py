"""The names under which the stages meet in the run folder."""

from __future__ import annotations

SOFT_LABELS = "stage_b"
STUDENT = "stage_c/model"
EVALUATION = "evaluation"

TEACHER_FILE = "teacher.json"
ENSEMBLE_FILE = "ensemble.json"
AGREEMENT_FILE = "agreement.json"
STUDENT_FILE = "petkit.json"
METRICS_FILE = "metrics.json"


def teacher_model(teacher: str) -> str:
    """Return the step that trains ``teacher``."""
    return f"stage_a/{teacher}/model"


def teacher_logits(teacher: str) -> str:
    """Return the step that scores the unlabelled set with ``teacher``."""
    return f"stage_a/{teacher}/logits"
