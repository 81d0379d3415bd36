"""``petkit rank-patterns``: which patterns suit the model, before any is trained."""

from __future__ import annotations

from petkit.config.loader import Pipeline
from petkit.engine.device import choose_device
from petkit.events import OnEvent, ignore
from petkit.prompt_search.pattern_ranking import Ranking, ranking
from petkit.task.task import Task


def rank_patterns(pipeline: Pipeline, on_event: OnEvent = ignore) -> Ranking:
    """Rank all patterns of a pipeline; writes nothing, trains nothing and never looks at test data.

    Raises:
        InvalidInput: all mistakes in the input, at once.
    """
    task = Task.checked(pipeline)
    return ranking(task, choose_device(task.spec.compute), on_event)
