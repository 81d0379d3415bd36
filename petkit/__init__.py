"""petkit: from a handful of labels, unlabelled text and a few cloze patterns to a text classifier.

    few labels ─┐                                   unlabelled text ─┐
    patterns  ──┼─► A: K language models       ─► teacher logits ────┼─► B: soft labels ─► C: student classifier
    verbalizer ─┘     one per (pattern, seed)       per row, per teacher                   KL distillation

Packages, each importing only from those below it (the import contract in ``pyproject.toml``):

    cli                                   commands of the terminal, and all printing
    api | commands                        ``petkit.run``; what the commands do that train nothing
    stages | pretraining | predict        the method (read ``stages.pipeline`` first); before it; after it
    cost | baselines | prompt_search      estimates; what a student is compared with; found label words, ranked patterns
    teachers | student                    one model of stage A; the model of stage C
    task                                  the checked task: specification, rows and tokens
    runs                                  the run folder: steps, fingerprints, checkpoints, locks
    engine                                device, training loop, inference
    models                                transformers models: loading, safety checks, scoring at the mask, adapters
    prompts | metrics                     patterns and verbalizers as token ids; accuracy and its interval
    data | ensemble | losses              rows of files; combining logits (numpy); objectives (torch)
    config                                pipeline files and their schema
    storage                               files on disk: atomic, checked, in shards
    errors | events | formatting | limits | network

Three things differ from what one might expect. Stages take a ``Task`` (the checked specification with
its data) and return ``Step`` objects instead of doing their work at once, so that planning, staleness and
resuming are written once, in ``stages.pipeline``. ``stages.evaluation`` is a stage of its own, so that a new
test file never touches training. And the schema is a package: what is written in a pipeline file, and its defaults.

Two things fall short of the design. Python 3.11 is the oldest supported, because the pinned transformers, numpy and
scikit-learn require it. And a run uses one device and one process, because the run folder is written by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "IncompleteRun",
    "InvalidInput",
    "ModelRefused",
    "PetkitError",
    "PipelineSpec",
    "Prediction",
    "Predictor",
    "RunConflict",
    "RunResult",
    "__version__",
    "load_pipeline",
    "run",
]

if TYPE_CHECKING:
    from petkit.api import run
    from petkit.config.loader import load_pipeline
    from petkit.config.schema.pipeline import PipelineSpec
    from petkit.errors import IncompleteRun, InvalidInput, ModelRefused, PetkitError, RunConflict
    from petkit.predict.predictor import Prediction, Predictor
    from petkit.stages.pipeline import RunResult

_MODULES = {
    "petkit.api": ("run",),
    "petkit.config.loader": ("load_pipeline",),
    "petkit.config.schema.pipeline": ("PipelineSpec",),
    "petkit.errors": ("IncompleteRun", "InvalidInput", "ModelRefused", "PetkitError", "RunConflict"),
    "petkit.predict.predictor": ("Prediction", "Predictor"),
    "petkit.stages.pipeline": ("RunResult",),
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``import petkit`` stays light."""
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'petkit' has no attribute {name!r}")
