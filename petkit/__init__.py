"""petkit: from a handful of labels, unlabelled text and a few cloze patterns to a text classifier.

    few labels ─┐                                   unlabelled text ─┐
    patterns  ──┼─► A: K language models       ─► teacher logits ────┼─► B: soft labels ─► C: student classifier
    verbalizer ─┘     one per (pattern, seed)       per row, per teacher                   KL distillation

Read ``petkit.stages.pipeline`` first; README.md lists the packages, each of which imports only from those below it.

Three things differ from what one might expect. Stages take a ``Task`` (the checked specification with its data) and return
``Step`` objects instead of doing their work at once, so that planning, staleness and resuming are written once. The
evaluation is a stage of its own, so that a new test file never touches training. And the schema is a package: what is
written in a pipeline file, and its defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "IncompleteRun", "InvalidInput", "ModelRefused", "PetkitError", "PipelineSpec", "Prediction", "Predictor", "RunConflict",
    "RunResult", "__version__", "load_pipeline", "run",
]  # fmt: skip

if TYPE_CHECKING:
    from petkit.api import run
    from petkit.config.loader import load_pipeline
    from petkit.config.schema.pipeline import PipelineSpec
    from petkit.errors import IncompleteRun, InvalidInput, ModelRefused, PetkitError, RunConflict
    from petkit.predict.predictor import Prediction, Predictor
    from petkit.stages.pipeline import RunResult

_MODULES = {
    "run": "petkit.api", "load_pipeline": "petkit.config.loader", "PipelineSpec": "petkit.config.schema.pipeline",
    "Prediction": "petkit.predict.predictor", "Predictor": "petkit.predict.predictor", "RunResult": "petkit.stages.pipeline",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``import petkit`` stays light."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(_MODULES.get(name, "petkit.errors")), name)
    raise AttributeError(f"module 'petkit' has no attribute {name!r}")
