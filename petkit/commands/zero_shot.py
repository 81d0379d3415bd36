"""``petkit zero-shot``: zero-shot accuracy of the patterns, with and without calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from petkit.config.loader import Pipeline
from petkit.data.examples import targets_of
from petkit.engine.device import Device, choose_device
from petkit.ensemble import FloatArray, LabelKind, calibrate, combine
from petkit.events import OnEvent, ignore, report_notes
from petkit.metrics import Decision
from petkit.models.label_scorer import LabelScorer
from petkit.prompts.pvp import PVP
from petkit.task.task import Task
from petkit.teachers.scoring import shard_logits
from petkit.teachers.untrained import SAMPLE, content_free_logits, priors_of, sample_logits, train_logits, untrained

# Calibration (raw, contextual, batch) → part of the data → label logits.
Answers: TypeAlias = dict[str, dict[str, FloatArray]]


@dataclass(frozen=True)
class Untrained:
    """The zero-shot result of a pattern, or of their ensemble."""

    accuracy: dict[str, dict[str, float]]  # part of the data (train, test) → calibration → accuracy
    label_shares: dict[str, dict[str, float]]  # calibration → label → share of the unlabelled sample that is given the label


@dataclass(frozen=True)
class ZeroShot:
    """Every pattern untrained, and their ensemble with equal weights."""

    task: str
    label_kind: LabelKind
    rows: dict[str, int]  # scored, by part of the data
    patterns: dict[str, Untrained]
    ensemble: Untrained
    notes: tuple[str, ...]  # limits of these figures


def zero_shot(pipeline: Pipeline, on_event: OnEvent = ignore) -> ZeroShot:
    """Score the labelled rows, a sample of the unlabelled set and the test set with every untrained pattern.

    Writes nothing. Batch calibration uses the unlabelled sample only, never the test set.
    """
    task = Task.checked(pipeline)
    report_notes(task.notes, on_event)
    device = choose_device(task.spec.compute)
    labelled = [part for part in ("train", "test") if part in task.scans]
    targets = {part: targets_of(list(task.rows(part)), len(task.labels)) for part in labelled}
    with device.in_use():
        answers = [_answers(task, pvp, scorer, device) for pvp, scorer in untrained(task, device, on_event)]
    notes, sampled, rows = [], len(answers[0]["raw"]["unlabeled"]), task.scans["unlabeled"].rows_of_source
    if rows > sampled and task.label_kind.fixed:
        notes.append(f"batch calibration and label shares are from {sampled:,} of {rows:,} unlabelled rows")
    if not labelled:
        notes.append("accuracy cannot be shown: there are no labelled rows (name some as data.train or data.test)")
    return ZeroShot(
        task=task.spec.task,
        label_kind=task.label_kind,
        rows={"unlabeled": sampled, **{part: len(gold) for part, gold in targets.items()}},
        patterns={pvp.id: _judge(task, own, targets) for pvp, own in zip(task.pvps, answers, strict=True)},
        ensemble=_judge(task, _together(task, answers), targets),
        notes=tuple(notes),
    )


def _answers(task: Task, pvp: PVP, scorer: LabelScorer, device: Device) -> Answers:
    raw = {"unlabeled": sample_logits(task, pvp, scorer, device, SAMPLE)}
    if "train" in task.scans:
        raw["train"] = train_logits(task, pvp, scorer, device)
    if "test" in task.scans:
        raw["test"] = np.concatenate(list(shard_logits(scorer, pvp, task, "test", device, lambda done: None)))
    answers: Answers = {"raw": raw}
    if not task.label_kind.fixed:  # candidates have no prior
        return answers
    for way, prior in priors_of(task, content_free_logits(task, pvp, scorer, device), raw["unlabeled"]).items():
        answers[way] = {part: calibrate(logits, prior) for part, logits in raw.items()}
    return answers


def _together(task: Task, answers: list[Answers]) -> Answers:
    """Combine the patterns with equal weights, as ``soft_labels.combine`` says."""
    how = task.spec.soft_labels.combine
    equal = np.ones(len(answers), np.float32)
    return {
        way: {part: combine(np.stack([one[way][part] for one in answers]), equal, how, task.label_kind) for part in parts}
        for way, parts in answers[0].items()
    }


def _judge(task: Task, answers: Answers, targets: Mapping[str, FloatArray]) -> Untrained:
    decision = Decision(task.label_kind)
    fixed = answers if task.label_kind.fixed else {}  # of candidates only their numbers are the same in every row
    shares = {way: decision.chosen(parts["unlabeled"]).mean(axis=0).tolist() for way, parts in fixed.items()}
    return Untrained(
        {part: {way: decision.accuracy(parts[part], gold) for way, parts in answers.items()} for part, gold in targets.items()},
        {way: dict(zip(task.labels, own, strict=True)) for way, own in shares.items()},
    )
