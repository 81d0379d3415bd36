"""Many teachers, one soft label: combining label logits (PET, section 3.3, equation 3).

A row of one label is one question with an answer per label; a row of any number of labels is a yes/no question
per label. What follows is written over questions and answers, so that both kinds of rows share it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
How: TypeAlias = Literal["logits", "log_probs", "probs"]


def as_class_logits(logits: FloatArray, *, multi: bool) -> FloatArray:
    """Return label logits as logits of answers: shape ``(…, labels)`` becomes ``(…, questions, answers)``.

    One question with an answer per label; or, for multi-label rows, one per label with the answers no and yes:
    the logit z of a label is the log-odds of yes, so their logits are 0 and z.
    """
    return np.stack([np.zeros_like(logits), logits], axis=-1) if multi else logits[..., None, :]


def combine(logits: FloatArray, weights: FloatArray, how: How, *, multi: bool = False) -> FloatArray:
    """Return the ensemble's label logits: the weighted mean over teachers.

    ``logits`` averages raw logits (the paper; a much sharper teacher dominates), ``log_probs`` the
    log-probabilities (a normalised geometric mean), ``probs`` the probabilities (each teacher has one vote).
    The log-odds of a yes/no question *are* the difference of its log-probabilities, so for multi-label
    rows ``logits`` and ``log_probs`` are the same.

    Args:
        logits: shape ``(teachers, rows, labels)``.
        weights: shape ``(teachers,)``, not negative; normalised here to sum to 1.
        multi: the logits are those of independent yes/no answers.

    Returns:
        Scores of shape ``(rows, labels)``; their softmax (for multi-label rows: sigmoid) is the ensemble's distribution.
    """
    share = (weights / weights.sum()).astype(np.float32)
    if how == "logits":
        return _mean(share, logits)
    log_probs = log_softmax(as_class_logits(logits, multi=multi))  # (teachers, rows, questions, answers)
    if how == "log_probs":
        mean = _mean(share, log_probs)
    else:
        with np.errstate(divide="ignore"):  # a teacher of weight 0 has no say
            mean = np.logaddexp.reduce(log_probs + np.log(share)[:, None, None, None], axis=0)
    return mean[..., 1] - mean[..., 0] if multi else mean[..., 0, :]


def combine_teachers(logits: FloatArray, ensemble: Mapping[str, Any]) -> FloatArray:
    """Return the label logits of an ensemble as ``ensemble.json`` describes it.

    Of the raw logits z of teacher k, ``z / T_k - log_prior_k`` is what it brings; the weighted mean of these
    (:func:`combine`) and the bias of every label make the ensemble's logits. Whoever asks the ensemble,
    for the unlabelled set, the test set or new rows, asks here.

    Args:
        logits: raw label logits, shape ``(teachers, rows, labels)``, in the order of ``ensemble["teachers"]``.
        ensemble: the keys ``labels``, ``label_kind``, ``combine``, ``teachers`` (``weight``, ``temperature`` and
            ``log_prior`` of each) and ``label_bias``; others are not read.

    Returns:
        Scores of shape ``(rows, labels)``, before ``soft_labels.temperature``.
    """
    labels = ensemble["labels"]
    weights = np.array([member["weight"] for member in ensemble["teachers"].values()], np.float32)
    bias = np.array([ensemble["label_bias"][label] for label in labels], np.float32)  # (labels,)
    return combine(adjust(logits, ensemble), weights, ensemble["combine"], multi=is_multi(ensemble)) + bias


def adjust(logits: FloatArray, ensemble: Mapping[str, Any]) -> FloatArray:
    """Return what each teacher brings to the ensemble: its logits at its temperature, without its prior.

    Args:
        logits: raw label logits, shape ``(teachers, rows, labels)``.
        ensemble: see :func:`combine_teachers`.
    """
    members = ensemble["teachers"].values()
    temperatures = np.array([member["temperature"] for member in members], np.float32)
    log_priors = np.array([[member["log_prior"][label] for label in ensemble["labels"]] for member in members], np.float32)
    adjusted: FloatArray = logits / temperatures[:, None, None] - log_priors[:, None]
    return adjusted


def is_multi(ensemble: Mapping[str, Any]) -> bool:
    """Say whether the ensemble answers a yes/no question per label."""
    return bool(ensemble["label_kind"] == "multi")


def leave_out(ensemble: Mapping[str, Any], names: Collection[str]) -> dict[str, Any] | None:
    """Return the ensemble without some teachers, or None where nobody would be left.

    Those left out stay listed with weight 0; the weights of the others are scaled to sum to 1 (equal where they had none).
    """
    members = {name: {**member, "dropped": member["dropped"] or name in names} for name, member in ensemble["teachers"].items()}
    left = [name for name, member in members.items() if not member["dropped"]]
    if not left:
        return None
    share = normalised([members[name]["weight"] for name in left])
    weights = {**dict.fromkeys(members, 0.0), **dict(zip(left, share, strict=True))}
    return {**ensemble, "teachers": {name: {**member, "weight": weights[name]} for name, member in members.items()}}


def normalised(weights: Sequence[float]) -> list[float]:
    """Return weights that sum to 1, equal ones where all are 0; six digits, so that what is written is what is used."""
    given = np.asarray(weights, np.float64)
    given = given if given.any() else np.ones_like(given)
    return [round(float(weight), 6) for weight in given / given.sum()]


def log_softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return ``log softmax(logits / temperature)`` over the last axis, stable at any size of logits."""
    scaled = logits / np.float32(temperature)
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    result: FloatArray = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
    return result


def entropy(log_probs: FloatArray) -> FloatArray:
    """Return the entropy over the last axis in nats."""
    result: FloatArray = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    return result


def choices(logits: FloatArray, *, multi: bool) -> NDArray[np.int64]:
    """Return the answer to every question, shape ``(…, questions)``: the best label; or 1 (yes) where a label's logit is above 0."""
    best: NDArray[np.int64] = as_class_logits(logits, multi=multi).argmax(axis=-1)
    return best


def agreement(logits: FloatArray, combined: FloatArray, *, multi: bool = False) -> FloatArray:
    """Return the share of answers, over teachers (and over the labels of multi-label rows), that are the ensemble's.

    Args:
        logits: shape ``(teachers, rows, labels)``.
        combined: shape ``(rows, labels)``.

    Returns:
        Shape ``(rows,)``, between 0 and 1.
    """
    same = choices(logits, multi=multi) == choices(combined, multi=multi)  # (teachers, rows, questions)
    share: FloatArray = same.mean(axis=(0, 2), dtype=np.float32)
    return share


def _mean(share: FloatArray, values: FloatArray) -> FloatArray:
    """Return the weighted mean over the first axis."""
    mean: FloatArray = np.einsum("k,k...->...", share, values)
    return mean
