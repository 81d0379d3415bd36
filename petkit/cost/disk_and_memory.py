"""How much disk and memory a run will take, by formulas: numbers of parameters, rows, labels and tokens.

Disk is estimated to a few per cent; memory to about a third, as it depends on what training keeps of each token.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from petkit.config.schema import StudentSpec, TeachersSpec
from petkit.engine.device import Device
from petkit.models.size import ModelSize, model_size
from petkit.prompts.pattern import Encoded
from petkit.prompts.token_store import TokenStore
from petkit.runs.layout import EVALUATION, SOFT_LABELS, STUDENT
from petkit.storage.parquet_shards import SHARD_ROWS
from petkit.storage.row_array import HELD_ROWS
from petkit.task.task import Task

_FLOAT = 4  # bytes
# In addition to a trained parameter: its gradient and AdamW's two moments. A checkpoint holds it and the moments.
_PER_TRAINED, _IN_CHECKPOINT = 3 * _FLOAT, 3 * _FLOAT
_CHECKPOINTS = 2  # the last one goes only when the next is whole
_ADAPTER_SHARE = 0.02  # of the model's parameters: an upper guess, as adapters differ with their options
_TOKENIZER_ENTRY = 60  # bytes of its files per token
_TABLE = 2_000  # bytes of a Parquet file without rows
_SOFT_ROW, _ANSWER_ROW = 30, 40  # bytes of a row in addition to its logits: id, label, entropy, agreement, weight; id and labels
# Python and the libraries, where the system does not report it.
_PROCESS = 500_000_000
_IMPORTED_ON_THE_WAY = ("accelerate", "sklearn.metrics", "transformers.modeling_utils")


@dataclass(frozen=True)
class Sample:
    """The first unlabelled rows under the first pattern, and as a student reads them.

    Attributes:
        field_tokens: the mean number of tokens of a row that a token store holds, all its fields together.
        fields: number of those fields.
    """

    teacher_rows: Sequence[Encoded]
    student_rows: Sequence[Encoded]
    field_tokens: float
    fields: int

    @classmethod
    def of(cls, task: Task) -> Sample:
        """Read and tokenise the first rows."""
        pvp, plain = task.pvps[0], task.student_pattern
        rows = task.scans["unlabeled"].head
        keys = tuple(dict.fromkeys(key for each in task.pvps for key in each.pattern.keys))
        own = TokenStore.build(rows, task.tokenizer, keys, task.max_length, task.spec.truncate)
        students = TokenStore.build(rows, task.student_tokenizer, plain.keys, task.student_max_length, task.spec.truncate)
        tokens = own.row_lengths(keys, np.arange(own.rows)).mean() + students.row_lengths(plain.keys, np.arange(own.rows)).mean()
        return cls(
            [pvp.encode(tokens) for tokens in own],
            [plain.encode(tokens) for tokens in students],
            float(tokens),
            len(keys) + len(plain.keys),
        )


class Footprint:
    """The disk and memory of a pipeline's steps.

    Args:
        sample: typical rows.
    """

    def __init__(self, task: Task, device: Device, sample: Sample) -> None:
        self.task, self.device, self.sample = task, device, sample
        self.labels, self.rows = len(task.labels), task.scans["unlabeled"].rows
        self.teacher = model_size(task.spec.model)
        self.student = model_size(task.spec.student_model, self.labels)

    # -- disk ------------------------------------------------------------------------------------

    def written(self, step: str) -> int:
        """Return how many bytes a step leaves in the run folder."""
        shards = -(-self.rows // SHARD_ROWS)
        if step == SOFT_LABELS:
            return self.rows * (self.labels * _FLOAT + _SOFT_ROW) + shards * _TABLE
        if step == STUDENT:
            adapter = self.task.spec.student.adapted
            plain = adapter is None or adapter.mergeable
            return _FLOAT * (self.student.parameters if plain else self._trained("student")) + self._tokenizer(self.student)
        if step == EVALUATION or step.startswith("baselines/"):
            return self.task.scans["test"].rows * (self.labels * _FLOAT + _ANSWER_ROW)
        if step.endswith("/model"):
            return _FLOAT * self._trained("teachers") + (self._tokenizer(self.teacher) if self._in_full("teachers") else 0)
        if step.endswith("/logits"):
            return self.rows * self.labels * _FLOAT + shards * _TABLE
        return _TABLE

    def passing(self, steps: Sequence[str]) -> int:
        """Return how many bytes more there must be while these steps are worked on: token ids, soft labels."""
        per_row = 0.0
        if self.rows > HELD_ROWS:
            per_row = self.sample.field_tokens * 4 + self.sample.fields * 8
            per_row += (self.labels + 3) * _FLOAT if STUDENT in steps else 0
        return int(self.rows * per_row)

    def checkpoints(self, steps: Sequence[str]) -> int:
        """Return how many bytes more there may be: checkpoints, which come where a training takes long, if there is room."""
        trained = [self._trained("teachers")] * any(map(_trains_a_teacher, steps)) + [self._trained("student")] * (
            STUDENT in steps
        )
        return _CHECKPOINTS * _IN_CHECKPOINT * max(trained, default=0)

    # -- memory ----------------------------------------------------------------------------------

    def memory(self, step: str) -> int:
        """Return the peak memory of a step in bytes: the process's, or the device's where there is another."""
        base = process_bytes() if self.device.name == "cpu" else 0
        if step == SOFT_LABELS:
            return base + 10 * SHARD_ROWS * self.labels * _FLOAT * len(self.task.teachers) + self.rows
        if step == STUDENT:
            rows, settings = self.sample.student_rows, self.task.spec.student
            return base + self._training("student", rows, self.student, settings) + self.rows * 8
        if _trains_a_teacher(step):
            rows = self.sample.teacher_rows
            return base + self._training("teachers", rows, self.teacher, self.task.spec.teachers)
        return base + self._scoring()

    def _training(self, section: str, rows: Sequence[Encoded], size: ModelSize, settings: TeachersSpec | StudentSpec) -> int:
        """Weights, gradients and moments of those trained, and the activations of every token.

        The last is ``layers · tokens · (66 · hidden + 9 · heads · length)`` bytes: Korthikanti et al. (2022), equation 1, in
        float32 instead of 16 bits and with attention as a matrix of its own.
        """
        length = max(len(row.ids) for row in rows)
        batch = settings.batch_size * length
        kept = size.layers * batch * (66 * size.hidden + 9 * size.heads * length)
        passes = 1.0
        if isinstance(settings, StudentSpec):
            passes = student_passes(settings)
            kept = int(kept * (1 + settings.gold_batch_size / settings.batch_size))
        else:
            passes = teacher_passes(settings)
            if settings.auxiliary_mlm_weight:
                kept += int(3 * _FLOAT * settings.mlm_share * settings.unlabeled_batch_size * length * size.vocabulary)
        weights = size.parameters * (_FLOAT + (2 if self.device.precision == "bfloat16" else 0))
        return weights + self._trained(section) * _PER_TRAINED + int(kept * passes)

    def _scoring(self) -> int:
        """Weights, the widest layer of a batch, and a shard of rows."""
        size, tokens = self.teacher, self.task.spec.compute.tokens_per_batch
        shard = min(self.rows, SHARD_ROWS) * (int(self.sample.field_tokens) * 8 + 1_000)
        return size.parameters * _FLOAT + tokens * (2 * size.inner + 6 * size.hidden) * _FLOAT + shard

    # -- models ----------------------------------------------------------------------------------

    def _in_full(self, section: str) -> bool:
        return (self.task.spec.teachers if section == "teachers" else self.task.spec.student).adapted is None

    def _trained(self, section: str) -> int:
        """Return how many parameters are trained."""
        size = self.teacher if section == "teachers" else self.student
        return size.parameters if self._in_full(section) else int(_ADAPTER_SHARE * size.parameters)

    def _tokenizer(self, size: ModelSize) -> int:
        return size.vocabulary * _TOKENIZER_ENTRY


def teacher_passes(settings: TeachersSpec) -> float:
    """Return how many times the rows of a step go through a teacher; other rows count by their share."""
    text = settings.unlabeled_batch_size / settings.batch_size if settings.auxiliary_mlm_weight else 0
    views = settings.contrastive.weight > 0 and settings.contrastive.partners == "masked_view"
    more = (settings.r_drop_weight > 0, settings.consistency.kind != "none", views, settings.label_conditioning_weight > 0)
    return 1 + sum(more) + text


def student_passes(settings: StudentSpec) -> float:
    """Return how many times the rows of a step go through the student; through a teacher only forwards, a third of it."""
    views = settings.contrastive.weight > 0 and settings.contrastive.partners == "masked_view"
    more = (settings.r_drop_weight > 0, settings.consistency_weight > 0, views)
    return 1 + sum(more) + (1 / 3 if settings.feature_weight else 0)


def process_bytes() -> int:
    """Return the memory this process has once it has imported what a run imports on its way."""
    for module in _IMPORTED_ON_THE_WAY:
        import_module(module)
    status = Path("/proc/self/statm")
    if sys.platform == "linux" and status.is_file():
        import resource

        return int(status.read_text().split()[1]) * resource.getpagesize()
    return _PROCESS


def _trains_a_teacher(step: str) -> bool:
    return step.startswith("stage_a/") and step.endswith(("/model", "/folds"))
