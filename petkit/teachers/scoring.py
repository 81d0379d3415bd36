"""Teachers and students at work: scoring a part of the data shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from petkit.engine.device import Device
from petkit.engine.inference import FloatArray, label_logits
from petkit.ensemble.calibration import CONTENT_FREE
from petkit.models.batch import IndexArray
from petkit.prompts.pvp import PVP
from petkit.runs.layout import CONTENT_FREE_FILE, TEACHER_FILE
from petkit.runs.step import Job
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import SHARD_ROWS, write_shard
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.training import describe
from petkit.teachers.untrained import content_free_logits


def write_logits(job: Job, task: Task, device: Device, models: TeacherModels, teacher: Teacher) -> None:
    """Write a teacher's label logits on the unlabelled set and on content-free texts; resumes after the last finished shard."""
    pvp, total = task.pvps[teacher.pattern], task.scans["unlabeled"].rows
    with teacher_scorer(job.store, task, models, teacher) as scorer:
        parts, kept = job.parts(), 0
        for kept, logits in enumerate(parts.load(), 1):
            write_shard(job.folder, kept - 1, {"logits": logits}, ragged=not task.label_kind.fixed)
        shards = shard_logits(scorer, pvp, task, "unlabeled", device, lambda done: job.progress(done, total, "rows"), first=kept)
        for index, logits in enumerate(shards, kept):
            write_shard(job.folder, index, {"logits": logits}, ragged=not task.label_kind.fixed)
            if (index + 1) * SHARD_ROWS < total:  # the last is soon published with all of them
                parts.save(index, logits)
        if task.candidates is None:
            content_free = content_free_logits(task, pvp, scorer, device)
            write_json(job.folder / CONTENT_FREE_FILE, {"texts": list(CONTENT_FREE), "logits": content_free.tolist()})
    if not teacher.trained:
        write_json(job.folder / TEACHER_FILE, describe(task, teacher))


def shard_logits(
    scorer: Any,
    pvp: PVP | None,
    task: Task,
    part: str,
    device: Device,
    on_rows: Callable[[int], None],
    first: int = 0,
    numbers: IndexArray | None = None,
) -> Iterator[FloatArray]:
    """Yield label logits of a part of the data from shard ``first`` on, shape ``(rows of the shard, labels)``, in row order.

    Args:
        scorer: a teacher's :class:`~petkit.models.label_scorers.LabelScorer` for a PVP, or, without one, the student.
        on_rows: called with the number of rows scored so far, after every batch.
        numbers: of the rows to score, rising; default: all of them.
    """
    encode = task.student_pattern.encode if pvp is None else pvp.encode
    tokenizer = task.student_tokenizer if pvp is None else task.tokenizer
    store = task.tokens(part, student=pvp is None)
    scored = np.arange(store.rows) if numbers is None else numbers
    done = min(first * SHARD_ROWS, len(scored))

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        on_rows(done)

    for start in range(done, len(scored), SHARD_ROWS):
        rows = [encode(tokens) for tokens in store.take(scored[start : start + SHARD_ROWS])]
        yield label_logits(scorer, rows, tokenizer, device, task.spec.compute.tokens_per_batch, count)
