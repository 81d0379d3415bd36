"""A teacher's logits, written shard by shard: the second step of every teacher."""

from __future__ import annotations

from petkit.engine.device import Device
from petkit.ensemble.calibration import CONTENT_FREE
from petkit.models.label_scorers import LabelScorer
from petkit.runs.layout import CONTENT_FREE_FILE, TEACHER_FILE
from petkit.runs.step import Job
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import SHARD_ROWS, write_shard
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.scoring import shard_logits
from petkit.teachers.training import describe
from petkit.teachers.untrained import content_free_logits


def write_logits(job: Job, task: Task, device: Device, models: TeacherModels, teacher: Teacher) -> None:
    """Write a teacher's label logits on the unlabelled set and on content-free texts; resumes after the last finished shard."""
    with teacher_scorer(job.store, task, models, teacher) as scorer:
        _write(job, task, device, scorer, teacher)
    if not teacher.trained:
        write_json(job.folder / TEACHER_FILE, describe(task, teacher))


def _write(job: Job, task: Task, device: Device, scorer: LabelScorer, teacher: Teacher) -> None:
    pvp, total = task.pvps[teacher.pattern], task.scans["unlabeled"].rows
    parts, kept = job.parts(), 0
    for kept, logits in enumerate(parts.load(), 1):
        write_shard(job.folder, kept - 1, {"logits": logits})
    shards = shard_logits(scorer, pvp, task, "unlabeled", device, lambda done: job.progress(done, total, "rows"), first=kept)
    for index, logits in enumerate(shards, kept):
        write_shard(job.folder, index, {"logits": logits})
        if (index + 1) * SHARD_ROWS < total:  # the last is soon published with all of them
            parts.save(index, logits)
    content_free = content_free_logits(task, pvp, scorer, device)
    write_json(job.folder / CONTENT_FREE_FILE, {"texts": list(CONTENT_FREE), "logits": content_free.tolist()})
