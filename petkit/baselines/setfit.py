"""SetFit: a classifier on sentence vectors trained on pairs of labelled rows, without patterns (Tunstall et al. 2022).

The package ``setfit`` is optional and imported only here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from petkit.baselines.base import Answer, Baseline, targets, texts, train_inputs
from petkit.baselines.tfidf import log_shares
from petkit.engine.device import Device
from petkit.ensemble import FloatArray, LabelKind
from petkit.errors import ModelRefused, shown_path
from petkit.models.loading import open_folder
from petkit.runs.fingerprint import Inputs
from petkit.runs.inputs import model_inputs
from petkit.runs.step import Job
from petkit.task.task import Task

# The paper's R: pairs per row and kind. SetFit's own default grows with the square of the rows.
_ITERATIONS = 20
_BATCH_SIZE = 16
_ALMOST = 1e-7
_PARTS = ("Transformer", "Pooling", "Normalize")


def setfit_logits(
    model: str,
    texts: Sequence[str],
    targets: FloatArray,
    unseen: Sequence[str],
    *,
    kind: LabelKind = LabelKind.SINGLE,
    max_length: int,
    seed: int,
    device: str,
) -> Answer:
    """Train SetFit with its own defaults and apply it.

    Args:
        model: a model folder; without sentence-transformers modules it is read with mean pooling.
        texts: the labelled rows.
        targets: their labels, 1 or 0, shape ``(len(texts), labels)``.
        unseen: the rows to label.
        max_length: tokens per row.
        seed: of the pairs and of training.
        device: cpu, cuda, cuda:N or mps.

    Returns:
        Logits of shape ``(len(unseen), labels)``, and the settings.

    Raises:
        ModelRefused: a sentence-transformers model with other parts than a transformer, pooling and a norm.
    """
    _check_modules(Path(model))
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    body = SentenceTransformer(model, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    body.max_seq_length = max_length
    # Not SetFitModel.from_pretrained: it would unpickle a head stored in the folder.
    head = OneVsRestClassifier(LogisticRegression()) if kind.multi else LogisticRegression()
    classifier = SetFitModel(model_body=body, model_head=head, multi_target_strategy="one-vs-rest" if kind.multi else None)
    labels = targets.astype(int).tolist() if kind.multi else targets.argmax(axis=1).tolist()
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=_BATCH_SIZE,
            num_iterations=_ITERATIONS,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        Trainer(model=classifier, args=arguments, train_dataset=Dataset.from_dict({"text": list(texts), "label": labels})).train()
    probabilities = classifier.predict_proba(list(unseen), as_numpy=True, show_progress_bar=False)  # (rows, classes)
    settings = {"batch_size": _BATCH_SIZE, "num_iterations": _ITERATIONS, "max_length": max_length, "seed": seed}
    if not kind.multi:
        return log_shares(probabilities, classifier.model_head.classes_, targets.shape[1]), settings
    sure = np.clip(probabilities, _ALMOST, 1 - _ALMOST)
    return np.log(sure / (1 - sure)).astype(np.float32), settings


def _check_modules(folder: Path) -> None:
    """Refuse parts that sentence-transformers would import by name, or unpickle."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return
    shown = f"{shown_path(folder)}: {listed.name}"
    try:
        modules = json.loads(listed.read_text(encoding="utf-8"))
        parts = [(str(module["type"]), str(module["path"])) for module in modules]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise ModelRefused(f"{shown}: is damaged") from None
    for kind, path in parts:
        if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _PARTS:
            raise ModelRefused(f"{shown}: {kind!r:.100} is none of {', '.join(_PARTS)}, and no other code is run")
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise ModelRefused(f"{shown}: {path!r:.100} leads out of the folder")


def _answer(task: Task, device: Device, job: Job) -> Answer:
    return setfit_logits(
        str(open_folder(task.spec.model).path),
        texts(task, "train"),
        targets(task),
        texts(task, "test"),
        kind=task.label_kind,
        max_length=task.max_length,
        seed=task.spec.student.seed,
        device=device.name,
    )


def _inputs(task: Task, device: Device) -> Inputs:
    seed = task.spec.student.seed
    return {**train_inputs(task, device), **model_inputs(task.model_hash, task.max_length), "student.seed": seed}


SETFIT = Baseline(_answer, _inputs, package="setfit")
