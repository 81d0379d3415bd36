"""Zero-shot scores of every pattern, and the label prior of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from petkit.engine.device import Device, quick_collections
from petkit.engine.inference import FloatArray, label_logits
from petkit.ensemble import CONTENT_FREE, batch_prior, contextual_prior
from petkit.errors import InvalidInput
from petkit.events import OnEvent, RunStarted, StepFinished, StepStarted, ignore
from petkit.models.label_scorer import LabelScorer
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import PVP
from petkit.task.task import Task
from petkit.teachers.models import TeacherModels, teacher_models

# Enough to know what a pattern favours: the prior of a label is then known to about one hundredth.
SAMPLE = 2000

LogPriors: TypeAlias = dict[Literal["contextual", "batch"], FloatArray]


def untrained(
    task: Task, device: Device, on_event: OnEvent = ignore, models: TeacherModels | None = None
) -> Iterator[tuple[PVP, LabelScorer]]:
    """Yield every pattern with the untrained model (of ``models``, else loaded for this) until the next one is requested."""
    if task.candidates is None and any(sum(map(bool, pvp.words.words)) < len(task.labels) for pvp in task.pvps):
        message = "untrained patterns have no words to read before they are found"
        hint = "petkit search-verbalizer writes them into a file to name here"
        raise InvalidInput([task.pipeline.problem(("verbalizer", "auto"), message, hint)])
    lent = teacher_models(task.spec.model, None, device, scoring=task.spec.teachers.scoring) if models is None else models
    on_event(RunStarted(len(task.pvps)))
    with quick_collections():
        for pvp in task.pvps:
            started = time.monotonic()
            on_event(StepStarted(pvp.id, "untrained"))
            with lent.untrained(pvp) as scorer:
                yield pvp, scorer
            on_event(StepFinished(pvp.id, time.monotonic() - started, {}))
        if models is None:
            lent.release()


def sample_logits(task: Task, pvp: PVP, scorer: LabelScorer, device: Device, most: int) -> FloatArray:
    """Return label logits of the unlabelled rows, of ``most`` drawn at random where there are more, shape ``(rows, labels)``."""
    rows = [pvp.encode(tokens) for tokens in task.sampled_tokens("unlabeled", most)]
    return _logits(rows, task, scorer, device)


def content_free_logits(task: Task, pvp: PVP, scorer: LabelScorer, device: Device) -> FloatArray:
    """Return label logits with ``N/A``, nothing and ``[MASK]`` in every field, shape ``(3, labels)``."""
    rows = pvp.encode_texts([dict.fromkeys(task.fields, text) for text in CONTENT_FREE], task.tokenizer)
    return _logits(rows, task, scorer, device)


def train_logits(task: Task, pvp: PVP, scorer: LabelScorer, device: Device) -> FloatArray:
    """Return label logits of the labelled rows, shape ``(rows, labels)``; none is its own demonstration."""
    rows = [pvp.encode(tokens, own=number) for number, tokens in enumerate(task.tokens("train"))]
    return _logits(rows, task, scorer, device)


def priors_of(task: Task, content_free: FloatArray, sample: FloatArray) -> LogPriors:
    """Return the log-priors ``(labels,)`` that follow from logits on content-free texts and on unlabelled rows."""
    return {"contextual": contextual_prior(content_free, task.label_kind), "batch": batch_prior(sample, task.label_kind)}


def _logits(rows: Sequence[Encoded], task: Task, scorer: LabelScorer, device: Device) -> FloatArray:
    return label_logits(scorer, rows, task.tokenizer, device, task.spec.compute.tokens_per_batch)
