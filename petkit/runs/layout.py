"""Names of the steps and files in a run folder, which the stages share."""

from __future__ import annotations

LABEL_WORDS, LABEL_WORDS_FILE = "stage_a/label_words", "label_words.json"
RANKING, RANKING_FILE = "stage_a/ranking", "ranking.json"
SOFT_LABELS, ENSEMBLE_FILE, AGREEMENT_FILE = "stage_b", "ensemble.json", "agreement.json"
STUDENT, STUDENT_FILE = "stage_c/model", "petkit.json"
EVALUATION, METRICS_FILE = "evaluation", "metrics.json"
# In the folders of a teacher's model and its logits, and in that of a baseline.
TEACHER_FILE, OWN_STATE, CONTENT_FREE_FILE = "teacher.json", "own_state.safetensors", "content_free.json"
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
