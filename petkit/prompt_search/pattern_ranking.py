"""Ranks patterns before any is trained, and without a development set.

Three measures, each in its own way blind: a pattern's answers may depend on the text and still be wrong
(information), patterns may agree in error (agreement), and a handful of labelled rows says little
(cross-entropy). Their ranks are averaged. Test data is never looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from petkit.config.loader import Pipeline
from petkit.data.examples import targets_of
from petkit.engine.device import Device, choose_device
from petkit.ensemble import FloatArray, LabelKind, batch_prior, calibrate, entropy, log_softmax
from petkit.events import OnEvent, ignore, report_notes
from petkit.task.checks import refuse_candidates
from petkit.task.task import Task
from petkit.teachers.untrained import SAMPLE, sample_logits, train_logits, untrained

FOLDS = 5
Array = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class RankedPattern:
    """The measures of a pattern; None where there is no other pattern, or labelled rows cannot be held out."""

    id: str
    rank: float  # mean of its ranks in the measures below; 1 is best
    information: float  # mutual information of text and untrained prediction in nats, after batch calibration; more is better
    raw_information: float  # the same before calibration; does not count
    agreement: float | None  # share of unlabelled rows where it answers as most other patterns do
    cross_entropy: float | None  # nats per labelled row, cross-validated; less is better


@dataclass(frozen=True)
class Ranking:
    """All patterns, best first."""

    patterns: tuple[RankedPattern, ...]
    kept: int  # how many of them the pipeline uses
    sampled: int  # number of unlabelled rows looked at
    left_out: str  # why there is no cross-entropy; empty where there is


def rank_patterns(pipeline: Pipeline, on_event: OnEvent = ignore) -> Ranking:
    """Rank all patterns of a pipeline; writes nothing, trains nothing and never reads test labels."""
    refuse_candidates(pipeline, "ranks patterns by how they tell fixed labels apart")
    task = Task.checked(pipeline)
    report_notes(task.notes, on_event)
    device = choose_device(task.spec.compute)
    with device.in_use():
        return rank(task, device, on_event)


def rank(task: Task, device: Device, on_event: OnEvent = ignore) -> Ranking:
    """Rank the patterns of a task by untrained scores of an unlabelled sample and of the labelled rows."""
    from scipy.stats import rankdata

    kind, gold = task.label_kind, targets_of(task.train, len(task.labels))
    folds, left_out = _folds(task)
    samples: list[FloatArray] = []
    raw_information: list[float] = []
    cross_entropies: list[float] = []
    for pvp, scorer in untrained(task, device, on_event):
        sample = sample_logits(task, pvp, scorer, device, SAMPLE)
        raw_information.append(mutual_information(sample, kind))
        log_prior = batch_prior(sample, kind)
        samples.append(calibrate(sample, log_prior))
        if folds:
            train = calibrate(train_logits(task, pvp, scorer, device), log_prior)
            cross_entropies.append(cross_validated(train, gold, folds, kind))
    information = [mutual_information(sample, kind) for sample in samples]
    agreement = agreement_with_others(np.stack(samples), kind) if len(samples) > 1 else []
    measures = (np.negative(information), np.negative(agreement), np.array(cross_entropies))  # less is better
    ranks = np.mean([rankdata(measure) for measure in measures if len(measure)], axis=0)
    names, keep = [pvp.id for pvp in task.pvps], task.spec.keep_patterns
    columns = zip_longest(names, ranks.tolist(), information, raw_information, agreement, cross_entropies)
    patterns = [RankedPattern(*measured) for measured in columns]
    kept = len(patterns) if keep == "all" else min(keep, len(patterns))
    # Sorting is stable: equals stay in the order of the file.
    return Ranking(tuple(sorted(patterns, key=lambda pattern: pattern.rank)), kept, len(samples[0]), left_out)


def mutual_information(logits: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> float:
    """Return the mutual information of text and answer, ``H(mean_n p_n) - mean_n H(p_n)`` in nats (Sorensen et al. 2022, equation 3).

    0 where every row is answered alike; ln(labels) where rows are answered with certainty and all labels equally often.
    Logits are best calibrated, for a label that is always favoured hides all others. Of multi-label rows every label is a
    question of its own, here and below; the result is their mean.
    """
    log_probs = log_softmax(kind.class_logits(logits.astype(np.float64)))  # (rows, questions, answers)
    log_mean = np.logaddexp.reduce(log_probs, axis=0) - np.log(len(logits))  # (questions, answers)
    return float((entropy(log_mean) - entropy(log_probs).mean(axis=0)).mean())


def agreement_with_others(logits: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> list[float]:
    """Return for every pattern the share of rows that most of the other patterns answer as it does.

    Where the others' votes are tied, their mean probability decides. Logits are calibrated, ``(patterns, rows, labels)``.
    """
    answers = kind.class_logits(logits.astype(np.float64))  # (patterns, rows, questions, answers)
    probabilities = np.exp(log_softmax(answers))
    chosen = kind.choices(logits)  # (patterns, rows, questions)
    votes = (chosen[..., None] == np.arange(answers.shape[-1])) + probabilities / len(logits)  # a vote outweighs all shares
    majority = (votes.sum(axis=0) - votes).argmax(axis=-1)  # (patterns, rows, questions): of the others
    return [float(share) for share in (chosen == majority).mean(axis=(1, 2))]


def cross_validated(logits: FloatArray, gold: FloatArray, folds: Sequence[Fold], kind: LabelKind = LabelKind.SINGLE) -> float:
    """Return the cross-entropy of held-out rows in nats, after a map of temperature and bias fitted on the others.

    The map ``log softmax(e^s · x + b)`` keeps what the pattern says and only learns how sure it may be of it, so that
    a pattern is not blamed for being too sure or for favouring a label.

    Args:
        logits: calibrated, shape ``(rows, labels)``, as ``gold``, which is 1 where a row has the label.
        folds: row numbers to fit on and row numbers to hold out.
    """
    answers = kind.class_logits(logits.astype(np.float64))  # (rows, questions, answers)
    targets = np.stack([1 - gold, gold], axis=-1) if kind.multi else gold[:, None, :]
    answers = answers - answers.mean(axis=-1, keepdims=True)
    answers /= np.sqrt((answers**2).mean()) or 1.0  # one scale for all patterns; the labels play no part in it
    held_out = 0.0
    for fitted, held in folds:
        sharpness, bias = fit_map(answers[fitted], targets[fitted].astype(np.float64))
        held_out -= float((targets[held] * log_softmax(sharpness * answers[held] + bias)).sum())
    return held_out / float(answers[..., 0].size)


def fit_map(answers: Array, targets: Array) -> tuple[float, Array]:
    """Return the sharpness ``e^s`` and the bias ``b (questions, answers)`` that minimise cross-entropy + ``(s² + |b|²) / 2``.

    The cross-entropy is summed over rows; the second term, a normal prior, keeps the map near "as it is" where rows are few.
    Answers, and targets that are 1 for the right one, have the shape ``(rows, questions, answers)``.
    """
    from scipy.optimize import minimize

    rows, *shape = answers.shape

    def loss(parameters: Array) -> tuple[float, Array]:
        sharpness, bias = np.exp(parameters[0]), parameters[1:].reshape(shape)
        log_probs = log_softmax(sharpness * answers + bias)
        error = np.exp(log_probs) - targets  # (rows, questions, answers): the gradient in the logits
        value = -(targets * log_probs).sum() + (parameters**2).sum() / 2
        slope = np.concatenate([[sharpness * (error * answers).sum()], error.sum(axis=0).ravel()]) + parameters
        return float(value) / rows, slope / rows

    found = minimize(loss, np.zeros(1 + int(np.prod(shape))), jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), found[1:].reshape(shape)


def _folds(task: Task) -> tuple[list[Fold], str]:
    """Return at most five folds of the labelled rows, the same for all patterns; or none, and why."""
    from sklearn.model_selection import KFold, StratifiedKFold

    counts = Counter(label for example in task.train for label in example.labels)
    alone = [task.labels[label] for label in sorted(counts) if counts[label] == 1]
    if alone or not task.train:
        return [], f"label {alone[0]!r} has one row" if alone else "there are no labelled rows"
    rows, multi = len(task.train), task.label_kind.multi
    splitter = KFold if multi else StratifiedKFold  # every fold has rows of every label
    most = rows if multi else min(counts.values())
    return list(splitter(min(FOLDS, most), shuffle=True, random_state=0).split(np.zeros(rows), task.targets())), ""
