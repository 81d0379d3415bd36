"""``petkit rank-patterns``: which patterns suit the model, before any is trained."""

from __future__ import annotations

from petkit.config.loader import Pipeline
from petkit.engine.device import choose_arithmetic
from petkit.events import Listen, ignore
from petkit.prompt_search.pattern_ranking import Ranking, ranking
from petkit.task.task import Workload


def rank_patterns(pipeline: Pipeline, listen: Listen = ignore) -> Ranking:
    """Rank all patterns of a pipeline; writes nothing, trains nothing and never looks at test data.

    Raises:
        InvalidInput: all mistakes in the input, at once.
    """
    work = Workload(pipeline)
    return ranking(work, choose_arithmetic(work.spec.compute), listen)
