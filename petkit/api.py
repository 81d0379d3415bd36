"""petkit from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from petkit.config.loader import Pipeline, load_pipeline
from petkit.config.schema import PipelineSpec
from petkit.events import OnEvent, ignore
from petkit.stages.pipeline import RunResult
from petkit.stages.pipeline import run as run_pipeline


def run(
    pipeline: str | Path | Pipeline | PipelineSpec,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    force: str | None = None,
    resume: str = "auto",
    on_event: OnEvent = ignore,
) -> RunResult:
    """Run a pipeline from labels to classifier; what is finished and up to date is not done again.

    Args:
        pipeline: a pipeline file, or a specification made in Python.
        out: the run folder; default: ``runs/<task>``.
        overrides: ``key=value`` strings, as ``--set`` takes them (files only).
        force: None, ``"stale"``, ``"a"``, ``"b"``, ``"c"``, ``"evaluation"`` or ``"all"``.
        resume: ``"auto"`` goes on with a run that is there, ``"require"`` wants one that began with these versions on this
            kind of machine, ``"never"`` wants none.
        on_event: called with every event (see :mod:`petkit.events`).

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        TypeError: ``overrides`` for a specification that was not read from a file.
        RunConflict: the run folder is in use or was made by other settings.
    """
    if overrides and not isinstance(pipeline, (str, Path)):
        raise TypeError("overrides belong to a pipeline file; change the specification itself instead")
    if isinstance(pipeline, PipelineSpec):
        loaded = Pipeline.from_spec(pipeline)
    else:
        loaded = pipeline if isinstance(pipeline, Pipeline) else load_pipeline(pipeline, overrides)
    return run_pipeline(loaded, out or Path("runs") / loaded.spec.task, force=force, resume=resume, on_event=on_event)
