"""Which teachers a run has: patterns × seeds, in every generation (PET, sections 3.1 and 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from petkit.config.schema.pipeline import PatternSpec
from petkit.config.schema.training import GenerationsSpec

# iPET stops where a training set would hold this many rows (the paper's experiments).
ENOUGH_ROWS = 1000


@dataclass(frozen=True)
class Teacher:
    """One teacher; ``pattern`` is its index. Without labelled rows and descriptions, those of generation 0 are not trained."""

    name: str
    pattern: int
    seed: int
    generation: int
    trained: bool = True


def list_teachers(
    patterns: Sequence[PatternSpec],
    seeds: Sequence[int],
    settings: GenerationsSpec,
    train_rows: int,
    labels: int,
    *,
    described: bool = False,
) -> list[list[Teacher]]:
    """Return the teachers of every generation, the last of which labels the unlabelled set.

    Without labelled rows, and where no label is ``described``, generation 0 is every pattern untrained.
    """
    pairs = [(index, pattern.id, seed) for index, pattern in enumerate(patterns) for seed in seeds]
    if train_rows or described:
        first = [Teacher(f"{name}-{seed}", index, seed, 0) for index, name, seed in pairs]
    else:
        first = [Teacher(f"{pattern.id}-untrained", index, seeds[0], 0, trained=False) for index, pattern in enumerate(patterns)]
    further = [
        [Teacher(f"{name}-{seed}-g{number}", index, seed, number) for index, name, seed in pairs]
        for number in range(1, generation_count(settings, train_rows, labels) + 1)
    ]
    return [first, *further]


def generation_count(settings: GenerationsSpec, train_rows: int, labels: int) -> int:
    """Return the number of further generations; ``auto`` is ``ceil(log_scale(1000 / rows))``, from zero rows one more."""
    if settings.count != "auto":
        return settings.count
    rows = train_rows or settings.per_label_from_zero * labels
    steps = math.ceil(math.log(ENOUGH_ROWS / rows, settings.scale) - 1e-9) if rows < ENOUGH_ROWS else 0
    return steps if train_rows else steps + 1


def others(teacher: Teacher, before: Sequence[Teacher]) -> list[Teacher]:
    """Return the teachers of the generation before that may label rows for ``teacher``: all but its own predecessor."""
    return [other for other in before if other.pattern != teacher.pattern or (other.trained and other.seed != teacher.seed)]
