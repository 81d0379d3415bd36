"""SetFit, the rival without patterns: sentence vectors trained on pairs of few-shot rows (Tunstall et al. 2022).

The package ``setfit`` is optional and imported only here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from petkit.baselines.tfidf import log_shares
from petkit.ensemble.combine import FloatArray
from petkit.errors import ModelRefused, shown_path

# The paper's R: pairs per row and kind. SetFit's own default grows with the square of the rows.
_ITERATIONS = 20
_BATCH_SIZE = 16
_ALMOST = 1e-7
_PARTS = ("Transformer", "Pooling", "Normalize")


def is_installed() -> bool:
    """Say whether the package is there, without importing it."""
    return find_spec("setfit") is not None


def setfit_logits(
    model: str,
    texts: Sequence[str],
    targets: FloatArray,
    unseen: Sequence[str],
    *,
    multi: bool = False,
    max_length: int,
    seed: int,
    device: str,
) -> tuple[FloatArray, dict[str, Any]]:
    """Train SetFit with its own defaults and apply it.

    Args:
        model: a model folder; one that is no sentence-transformers model is read with mean pooling.
        texts: the few-shot rows.
        targets: their labels, 1 or 0, shape ``(len(texts), labels)``.
        unseen: the rows to label.
        multi: whether a row may have several labels.
        max_length: tokens per row.
        seed: of the pairs and of training.
        device: cpu, cuda, cuda:N or mps.

    Returns:
        Logits of shape ``(len(unseen), labels)``, and the settings.

    Raises:
        ModelRefused: a sentence-transformers model made of other parts than a transformer, pooling and a norm.
    """
    _check_modules(Path(model))
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    body = SentenceTransformer(model, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    body.max_seq_length = max_length
    # Not SetFitModel.from_pretrained: it would unpickle a head that lies in the folder.
    head = OneVsRestClassifier(LogisticRegression()) if multi else LogisticRegression()
    classifier = SetFitModel(model_body=body, model_head=head, multi_target_strategy="one-vs-rest" if multi else None)
    labels = targets.astype(int).tolist() if multi else targets.argmax(axis=1).tolist()
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
    if not multi:
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
