"""SetFit: a classifier on sentence vectors trained on pairs of labelled rows, without patterns (Tunstall et al. 2022).

The package ``setfit`` is optional and imported only here.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from petkit.baselines.base import Answer, Baseline, targets, texts, train_inputs
from petkit.baselines.linear import log_shares
from petkit.engine.device import Device
from petkit.errors import ModelRefused, shown_path
from petkit.models.loading import open_folder
from petkit.runs.fingerprint import Inputs, model_inputs
from petkit.runs.step import Job
from petkit.task.task import Task

# The paper's R: pairs per row and kind. SetFit's own default grows with the square of the rows.
_ITERATIONS = 20
_BATCH_SIZE = 16
_ALMOST = 1e-7
_PARTS = ("Transformer", "Pooling", "Normalize")


def _answer(task: Task, device: Device, job: Job) -> Answer:
    """Train SetFit on the pipeline's model."""
    return setfit_answer(open_folder(task.spec.model).path, task, device)


def setfit_answer(folder: Path, task: Task, device: Device) -> Answer:
    """Train SetFit with its own defaults, on sentence vectors by mean pooling where the model has no modules of its own.

    Args:
        folder: the encoder: a masked language model, or one trained for sentence vectors.
    """
    multi, gold = task.label_kind.multi, targets(task)
    check_modules(folder)
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    body = SentenceTransformer(str(folder), device=device.name, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    body.max_seq_length = task.max_length
    # Not SetFitModel.from_pretrained: it would unpickle a head stored in the folder.
    head = OneVsRestClassifier(LogisticRegression()) if multi else LogisticRegression()
    classifier = SetFitModel(model_body=body, model_head=head, multi_target_strategy="one-vs-rest" if multi else None)
    labels = gold.astype(int).tolist() if multi else gold.argmax(axis=1).tolist()
    seed = task.spec.student.seed
    silent = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "show_progress_bar": False}
    with TemporaryDirectory() as output:
        arguments = TrainingArguments(output_dir=output, batch_size=_BATCH_SIZE, num_iterations=_ITERATIONS, seed=seed, **silent)
        rows = Dataset.from_dict({"text": texts(task, "train"), "label": labels})
        Trainer(model=classifier, args=arguments, train_dataset=rows).train()
    probabilities = classifier.predict_proba(texts(task, "test"), as_numpy=True, show_progress_bar=False)  # (rows, classes)
    settings = {"batch_size": _BATCH_SIZE, "num_iterations": _ITERATIONS, "max_length": task.max_length, "seed": seed}
    if not multi:
        return log_shares(probabilities, classifier.model_head.classes_, gold.shape[1]), settings
    sure = np.clip(probabilities, _ALMOST, 1 - _ALMOST)
    return np.log(sure / (1 - sure)).astype(np.float32), settings


def check_modules(folder: Path) -> None:
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


def _inputs(task: Task, device: Device) -> Inputs:
    seed = task.spec.student.seed
    return {**train_inputs(task, device), **model_inputs(task.model_hash, task.max_length), "student.seed": seed}


SETFIT = Baseline(_answer, _inputs, package="setfit")
