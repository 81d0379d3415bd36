"""``petkit rank-patterns``: which patterns suit the model, before any is trained."""

from __future__ import annotations

from petkit.events import Listen, ignore
from petkit.lm.arithmetic import choose_arithmetic
from petkit.spec.loader import Pipeline
from petkit.stages.ranking import Ranking, ranking
from petkit.stages.workload import Workload


def rank_patterns(pipeline: Pipeline, listen: Listen = ignore) -> Ranking:
    """Rank all patterns of a pipeline; writes nothing, trains nothing and never looks at test data.

    Raises:
        InvalidInput: all mistakes in the input, at once.
    """
    work = Workload(pipeline)
    return ranking(work, choose_arithmetic(work.spec.compute), listen)
