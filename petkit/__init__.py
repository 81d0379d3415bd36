"""petkit: from a handful of labels, unlabelled text and a few cloze patterns to a text classifier.

    few labels ─┐                                   unlabelled text ─┐
    patterns  ──┼─► A: K language models       ─► teacher logits ────┼─► B: soft labels ─► C: student classifier
    verbalizer ─┘     one per (pattern, seed)       per row, per teacher                   KL distillation

Packages, each importing only from those below it (``pyproject.toml`` holds the whole order):

    cli → console → api, insight.* → stages.pipeline, stages.adaptation, stages.prompt_pretraining, deliver
        → stages.preparation                    found label words, ranked patterns: what names the teachers
        → stages.a_teachers | b_soft_labels | c_student | evaluation | baselines (none imports another)
        → stages.teacher_training, voting, rivals … → stages.teacher_objective, student_objective → stages.teacher_models, student_model
        → stages.scoring → stages.workload, lineup, generations, backbones → lm.next_tokens → lm.label_scorer → lm.adapters → lm.training, inference, heads, masking, runs
        → lm.backbone, task.pvp → task.*, lm.losses, ensemble, calibration … → spec → events → errors

Three things differ from what one might expect. Stages take a ``Task`` (the checked specification with
its data) and return ``Step`` objects instead of doing their work at once, so that planning, staleness and
resuming are written once, in ``stages.pipeline``. ``stages.evaluation`` is a stage of its own, so that a new
test file never touches training. And the schema is a package, one module per section of the pipeline file.

Two things fall short of the design. Python 3.11 is the oldest supported, because the pinned transformers, numpy and
scikit-learn ask for it. And a run uses one device and one process,
because the run folder is written by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InvalidInput", "PetkitError", "Prediction", "Predictor", "RunResult", "__version__", "load_pipeline", "run"]

if TYPE_CHECKING:
    from petkit.api import run
    from petkit.config.loader import load_pipeline
    from petkit.errors import InvalidInput, PetkitError
    from petkit.predict.predictor import Prediction, Predictor
    from petkit.stages.pipeline import RunResult

_HOMES = {
    "run": "petkit.api",
    "Prediction": "petkit.predict.predictor",
    "Predictor": "petkit.predict.predictor",
    "InvalidInput": "petkit.errors",
    "PetkitError": "petkit.errors",
    "load_pipeline": "petkit.config.loader",
    "RunResult": "petkit.stages.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``import petkit`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'petkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
