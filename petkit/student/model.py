"""A student's model: made for training, written to its folder, and taken back from there.

A student without an adapter, or with one that can be merged, is a plain transformers folder. One with a deep prefix or
virtual tokens cannot be: its folder holds the adapter and the head in PEFT's format, and names the model they belong to.
A QLoRA student is trained on a backbone in 4 bits and merged into the float32 weights that those bits stand for: the
folder is plain again, takes the memory of a plain model, and answers as the model that was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError

from petkit.config.schema.adapter import AnyAdapter, TrainedAdapter
from petkit.config.schema.section import LabelKindName
from petkit.engine.inference import ClassifierLogits
from petkit.errors import ModelRefused, shown_path
from petkit.models.adapters.attach import attach, start_from_folder
from petkit.models.adapters.base import Adapter, read_adapter
from petkit.models.adapters.four_bit import FourBit, weights_in_full
from petkit.models.loading import load_classifier, model_fingerprint, new_classifier, shown_name
from petkit.runs.layout import STUDENT_FILE
from petkit.storage.fault_points import crash_point

KEPT_ADAPTER = "adapter"


class _Beside(BaseModel):
    """What ``petkit.json`` records of a student that is an adapter of a model."""

    adapter: TrainedAdapter
    base: str = Field(min_length=1)
    base_sha256: str
    labels: tuple[str, ...] = Field(min_length=2)
    label_kind: LabelKindName


def new_student(
    name: str,
    labels: tuple[str, ...],
    spec: AnyAdapter | None,
    attention: str | None,
    *,
    multi: bool,
    four_bit: FourBit | None = None,
    start_sha256: str | None = None,
) -> ClassifierLogits:
    """Return a classifier to be trained: the backbone with a new head, or an adapter and the head on the frozen backbone.

    Head and adapter are drawn from torch's current random state.

    Args:
        four_bit: holds the frozen backbone in 4 bits while the adapter is trained.
        start_sha256: hash of the prompt the adapter starts from, as it was checked.

    Raises:
        ModelRefused: the backbone cannot be had, or cannot carry the adapter; or its prompt is not the one that was checked.
    """
    model, head = new_classifier(name, labels, attention, multi=multi, four_bit=four_bit)
    adapter = None
    if spec is not None:
        adapter = attach(model, spec, head=head)
        start_from_folder(adapter, spec, start_sha256)
    return ClassifierLogits(model, adapter)


def save_student(student: ClassifierLogits, name: str, spec: AnyAdapter | None, folder: Path, *, keep: bool) -> dict[str, Any]:
    """Write a trained classifier.

    Args:
        name: of its backbone.
        keep: write a mergeable adapter too, in a folder of its own.

    Returns:
        What :func:`load_student` needs to know besides the files.
    """
    crash_point("model: before write")
    adapter, model = student.adapter, student.detach()
    if adapter is None or spec is None:
        model.save_pretrained(folder)
        return {}
    if not adapter.mergeable:
        adapter.save(folder, name)
        model.config.save_pretrained(folder)
        return {"adapter": spec.model_dump(mode="json", exclude={"start"}), "base": name, "base_sha256": model_fingerprint(name)}
    if keep:
        adapter.save(folder / KEPT_ADAPTER, name)
    if spec.kind == "qlora":
        adapter = _beside_full_weights(adapter, name, spec)
    adapter.merge()
    adapter.model.save_pretrained(folder)
    return {}


def _beside_full_weights(adapter: Adapter, name: str, spec: AnyAdapter) -> Adapter:
    """Return an adapter and a head as they were trained, on the dequantised weights of the backbone in 4 bits."""
    config = adapter.model.config
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    with torch.random.fork_rng(devices=[]):
        student = new_student(name, labels, spec, None, multi=config.problem_type == "multi_label_classification")
    student.detach()
    assert student.adapter is not None
    student.adapter.put(adapter.state(), shown_name(name))
    layers = dict(student.adapter.model.named_modules())
    with torch.no_grad():
        for layer, weights in weights_in_full(adapter.model):
            layers[layer].weight.copy_(weights)
    return student.adapter


def load_student(folder: str, about: Mapping[str, Any]) -> ClassifierLogits:
    """Load a finished classifier, plain or with its adapter.

    Args:
        about: the content of its ``petkit.json``; nothing for folders that others made.

    Raises:
        ModelRefused: it is damaged, or the model its adapter belongs to has changed.
    """
    if "adapter" not in about:
        return ClassifierLogits(load_classifier(folder))
    shown = shown_path(folder)
    try:
        made = _Beside.model_validate_json(json.dumps(about))
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        place = shown_path(Path(folder) / STUDENT_FILE)
        raise ModelRefused(f"{place}: {key} is damaged (take the folder from its run again)") from None
    if model_fingerprint(made.base) != made.base_sha256:
        raise ModelRefused(f"{shown}: the adapter was trained on another model than {shown_name(made.base)} is now")
    with torch.random.fork_rng(devices=[]):
        student = new_student(made.base, made.labels, made.adapter, None, multi=made.label_kind == "multi")
    assert student.adapter is not None
    student.adapter.put(read_adapter(Path(folder)), shown)
    return student
