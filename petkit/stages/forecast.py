"""``--dry-run``: what a run would do, and what that would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from petkit.config.loader import Pipeline
from petkit.cost.estimate import Estimate, estimate
from petkit.events import STAGES, Stage
from petkit.runs.planning import PlannedStep
from petkit.stages.pipeline import look_ahead


@dataclass(frozen=True)
class Forecast:
    """The plan, and the estimate; there is none where there is nothing to do, or where ``unknown`` says why."""

    steps: list[PlannedStep]
    estimate: Estimate | None
    unknown: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: seconds and bytes."""
        return asdict(self)


def forecast(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    stages: Sequence[Stage] = STAGES,
    force: str | None = None,
    resume: str = "auto",
) -> Forecast:
    """Say what :func:`petkit.stages.pipeline.run` would do with these arguments, and what time, memory and disk that takes.

    Writes nothing; takes some seconds where the speed of the models has to be measured.

    Raises:
        PetkitError: as the run would.
    """
    ahead = look_ahead(pipeline, folder, stages=stages, force=force, resume=resume)
    if not ahead.steps:
        return Forecast(ahead.planned, None, "no estimate before the steps have their names")
    return Forecast(ahead.planned, estimate(ahead.task, ahead.store, ahead.device, ahead.steps, ahead.todo))
