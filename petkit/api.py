"""petkit from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from petkit.config.loader import Pipeline, load_pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.events import OnEvent, ignore
from petkit.stages.pipeline import RunResult, prepare
from petkit.stages.pipeline import run as run_pipeline


def run(
    pipeline: str | Path | Pipeline | PipelineSpec,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    force: str | None = None,
    resume: str = "auto",
    on_event: OnEvent = ignore,
    listen: OnEvent | None = None,
) -> RunResult:
    """Run a pipeline from labels to classifier; finished steps that are up to date are skipped.

    Args:
        pipeline: a pipeline file, or a specification made in Python.
        out: the run folder; default: ``runs/<task>``.
        overrides: ``key=value`` strings, as ``--set`` takes them (files only).
        force: None, ``"stale"``, ``"a"``, ``"b"``, ``"c"``, ``"evaluation"`` or ``"all"``.
        resume: ``"auto"`` resumes the run if it exists, ``"require"`` fails unless it exists with the same versions and
            hardware, ``"never"`` fails if it exists.
        on_event: called with every event (see :mod:`petkit.events`).
        listen: alias of ``on_event``.

    >>> steps = ["teachers.steps=10", "student.steps=30"]  # for a quick try; leave it out to train in full
    >>> result = run("examples/support-tickets/pipeline.yaml", overrides=steps)
    >>> result.folder.as_posix()
    'runs/support-tickets'

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        TypeError: ``overrides`` for a specification that was not read from a file.
        RunConflict: the run folder is in use or was made with other settings.
    """
    if overrides and not isinstance(pipeline, (str, Path)):
        raise TypeError("overrides belong to a pipeline file; change the specification itself instead")
    if listen is not None and on_event is not ignore:
        raise TypeError("listen is an alias of on_event; pass one of them")
    if isinstance(pipeline, PipelineSpec):
        loaded = Pipeline.from_spec(pipeline)
    else:
        loaded = pipeline if isinstance(pipeline, Pipeline) else load_pipeline(pipeline, overrides)
    ready = prepare(loaded, out or Path("runs") / loaded.spec.task, force=force, resume=resume)
    return run_pipeline(ready, listen or on_event)
