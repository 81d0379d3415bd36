"""Names of the steps and files in a run folder, which the stages share."""

from __future__ import annotations

LABEL_WORDS = "stage_a/label_words"
RANKING = "stage_a/ranking"
SOFT_LABELS = "stage_b"
STUDENT = "stage_c/model"
EVALUATION = "evaluation"

LABEL_WORDS_FILE = "label_words.json"
RANKING_FILE = "ranking.json"
TEACHER_FILE = "teacher.json"
OWN_STATE = "own_state.safetensors"
CONTENT_FREE_FILE = "content_free.json"
ENSEMBLE_FILE = "ensemble.json"
AGREEMENT_FILE = "agreement.json"
STUDENT_FILE = "petkit.json"
METRICS_FILE = "metrics.json"
BASELINE_FILE = "baseline.json"

# Folders of steps in the order in which they are made; the last two are those of petkit adapt and petkit pretrain-prompt.
STEP_FOLDERS = ("stage_a", "stage_b", "stage_c", "evaluation", "baselines", "model", "prompt")
CHECKPOINTS = "checkpoints"


def teacher_model(teacher: str) -> str:
    """Return the step that trains ``teacher``."""
    return f"stage_a/{teacher}/model"


def teacher_logits(teacher: str) -> str:
    """Return the step that scores the unlabelled set with ``teacher``."""
    return f"stage_a/{teacher}/logits"


def teacher_folds(teacher: str) -> str:
    """Return the step that scores the labelled rows by teachers trained without them."""
    return f"stage_a/{teacher}/folds"


def baseline(name: str) -> str:
    """Return the step that trains a baseline and evaluates it on the test set."""
    return f"baselines/{name}"
