"""Stage C: distil the soft labels into one ordinary classifier (PET, section 3.3; Hinton et al. 2015).

Reads soft labels from the run folder and nothing else of the teachers, so it runs as well after a
crash, on another machine, or on the few-shot examples' own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from petkit.errors import IncompleteRun
from petkit.lm.arithmetic import Arithmetic
from petkit.lm.backbone import new_classifier
from petkit.lm.batching import Batch, IndexArray, collate, training_batches
from petkit.lm.ensemble import FloatArray, log_softmax
from petkit.lm.inference import ClassifierLogits
from petkit.lm.losses import cross_entropy, distillation, student_loss
from petkit.lm.training import fit, seed_everything
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE
from petkit.runs.shards import read_matrix
from petkit.runs.store import write_json
from petkit.stages.step import Job, Step
from petkit.stages.workload import Workload
from petkit.task.token_store import TokenStore


def steps(work: Workload, arithmetic: Arithmetic) -> list[Step]:
    """Return the one step of this stage."""
    settings = work.spec.student.model_dump(exclude={"model", "temperature"})
    inputs: Inputs = {
        "step.version": 1,
        **work.common_inputs(arithmetic),
        "fields": list(work.fields),
        "model": work.student_model_hash,
        "max_length": work.student_max_length,
        "data.train": work.scans["train"].sha256,
        "data.unlabeled": work.scans["unlabeled"].sha256,
        "student.temperature": work.spec.student_temperature,
        **{f"student.{name}": value for name, value in settings.items()},
    }
    return [Step(STUDENT, "c", inputs, lambda job: _distil(job, work, arithmetic), (SOFT_LABELS,))]


def _distil(job: Job, work: Workload, arithmetic: Arithmetic) -> None:
    settings = work.spec.student
    soft_labels = torch.from_numpy(_read_soft_labels(job, work))  # (rows, labels) log-probabilities
    seed_everything(settings.seed)
    student = ClassifierLogits(new_classifier(work.spec.student_model, work.labels, arithmetic.training_attention))
    student.to(arithmetic.device)
    reader = _Reader(work, arithmetic)

    def loss_of(model: nn.Module, batch: tuple[IndexArray, IndexArray | None]) -> Tensor:
        rows, gold_rows = batch
        count = len(rows)
        # Soft and gold rows go through the model together: one forward pass per step.
        logits = model(reader.batch(rows, gold_rows))  # (count + gold, labels)
        distilled = distillation(logits[:count], soft_labels[rows].to(logits.device), work.spec.student_temperature)
        gold = None if gold_rows is None else cross_entropy(logits[count:], reader.labels[gold_rows].to(logits.device))
        return student_loss(distilled, gold, settings.hard_weight)

    losses = fit(
        student,
        _batches(work, reader),
        loss_of,
        settings,
        arithmetic,
        lambda step, loss: job.progress(step, settings.steps, "steps", f"loss {loss:.3f}"),
    )
    job.facts.update(first_loss=losses[0], last_loss=float(np.mean(losses[-20:])), rows=len(soft_labels))
    _save(job, work, student)


def _read_soft_labels(job: Job, work: Workload) -> FloatArray:
    """Return the soft labels as log-probabilities at the teachers' temperature, shape ``(rows, labels)``.

    Raises:
        IncompleteRun: they were made for other rows or labels than this pipeline's.
    """
    folder = job.store.path(SOFT_LABELS)
    ensemble = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    if tuple(ensemble["labels"]) != work.labels:
        raise IncompleteRun(
            f"{job.store.shown}: the soft labels are for labels {', '.join(ensemble['labels'])} (run petkit stage-b)"
        )
    if ensemble["data.unlabeled"] != work.scans["unlabeled"].sha256:
        raise IncompleteRun(f"{job.store.shown}: the soft labels are for another unlabelled set (run petkit stage-a and stage-b)")
    return log_softmax(read_matrix(folder / "soft_labels", "logits"), ensemble["temperature"])


class _Reader:
    """Turns row numbers into batches of student inputs."""

    def __init__(self, work: Workload, arithmetic: Arithmetic) -> None:
        self.work, self.device = work, arithmetic.device
        self.unlabeled = work.tokens("unlabeled", student=True)
        self.gold = work.tokens("train", student=True)
        self.labels = torch.tensor([example.label for example in work.train])

    def batch(self, rows: IndexArray, gold_rows: IndexArray | None) -> Batch:
        pattern = self.work.student_pattern
        encoded = [pattern.encode(self.unlabeled.row(row)) for row in rows]
        if gold_rows is not None:
            encoded += [pattern.encode(self.gold.row(row)) for row in gold_rows]
        return collate(encoded, self.work.student_tokenizer).to(self.device)

    def lengths(self, store: TokenStore) -> IndexArray:
        lengths: IndexArray = np.sum([store.lengths(key) for key in self.work.student_pattern.keys], axis=0)
        return lengths


def _batches(work: Workload, reader: _Reader) -> Iterator[tuple[IndexArray, IndexArray | None]]:
    """Yield rows of the unlabelled set and, while the gold loss counts, of the few-shot examples."""
    settings = work.spec.student
    soft = training_batches(reader.lengths(reader.unlabeled), settings.batch_size, settings.steps, settings.seed)
    if settings.hard_weight == 0:
        return ((rows, None) for rows in soft)
    gold = training_batches(reader.lengths(reader.gold), settings.gold_batch_size, settings.steps, settings.seed + 1)
    return zip(soft, gold, strict=True)


def _save(job: Job, work: Workload, student: ClassifierLogits) -> None:
    """Write a plain transformers folder, and beside it what petkit needs to read rows the same way."""
    student.model.save_pretrained(job.folder)
    tokenizer = work.student_tokenizer.hf
    before = tokenizer.model_max_length
    tokenizer.model_max_length = work.student_max_length
    tokenizer.save_pretrained(job.folder)
    tokenizer.model_max_length = before
    description = {
        "task": work.spec.task,
        "labels": work.labels,
        "fields": work.fields,
        **work.reading,
        "max_length": work.student_max_length,
        "truncate": work.spec.truncate,
    }
    write_json(job.folder / STUDENT_FILE, description)
