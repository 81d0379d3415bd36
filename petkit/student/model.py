"""A student's model: made for training, written to its folder, and loaded from there.

A student without an adapter, or with one that can be merged, is a plain transformers folder. One with a deep prefix or
virtual tokens cannot be: its folder contains the adapter and the head in PEFT's format, and names the model they belong to.
A QLoRA student is trained on a backbone in 4 bits and merged into the float32 weights that those bits represent: the
folder is plain again, takes the memory of a plain model, and predicts as the model that was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from torch import Tensor

from petkit.config.schema.adapter import AnyAdapter, TrainedAdapter
from petkit.config.schema.section import beyond_bound
from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits, MultipleChoiceLogits
from petkit.engine.training_loop import seed_everything
from petkit.ensemble import LabelKind
from petkit.errors import ModelRefused, shown_path
from petkit.models.adapters.attach import attach, start_from_folder
from petkit.models.adapters.base import Adapter, read_adapter
from petkit.models.adapters.four_bit import weights_in_full
from petkit.models.loading import load_classifier, model_fingerprint, new_classifier, shown_name
from petkit.runs.layout import STUDENT_FILE
from petkit.storage.fault_points import crash_point
from petkit.task.task import Task

KEPT_ADAPTER = "adapter"
Record = TypeVar("Record", bound=BaseModel)


class _AdapterRecord(BaseModel):
    """What ``petkit.json`` contains of a student that is an adapter of a model."""

    adapter: TrainedAdapter
    base: str = Field(min_length=1)
    base_sha256: str
    labels: tuple[str, ...]
    label_kind: LabelKind

    @field_validator("label_kind")
    @classmethod
    def _has_labels(cls, kind: LabelKind, info: ValidationInfo) -> LabelKind:
        if kind.fixed and len(info.data.get("labels", ())) < 2:
            raise ValueError("fixed labels are two or more")
        return kind


def checked_record(kind: type[Record], content: Mapping[str, Any], folder: Path) -> Record:
    """Return the content of a classifier's ``petkit.json``; refuse it with the first key that is damaged."""
    try:
        return kind.model_validate_json(json.dumps(content))
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        # Below an adapter pydantic names its classes too.
        key = ".".join(map(str, place[:1] if kind is _AdapterRecord else place))
        shown = shown_path(folder / STUDENT_FILE)
        bound = beyond_bound(error) if kind is _AdapterRecord else ""
        raise ModelRefused(f"{shown}: {bound or f'{key} is damaged (take the folder from its run again)'}") from None


def untrained_student(task: Task, device: Device) -> ClassifierLogits:
    """Return the classifier that a student starts from; seeds torch."""
    seed_everything(task.spec.student.seed)
    spec, start = task.spec.student.adapted, task.start_hash("student")
    return new_student(task.spec.student_model, task.labels, task.label_kind, spec, device, start)


def new_student(
    name: str, labels: Sequence[str], kind: LabelKind, spec: AnyAdapter | None, device: Device | None, start: str | None = None
) -> ClassifierLogits:
    """Return a backbone with a new head, or an adapter and a new head on the frozen backbone.

    Without fixed labels the head is that of a multiple-choice model.

    Args:
        device: where it will be trained; None: only its weights are wanted.
        start: hash of the prompt the adapter starts from, as it was checked.
    """
    attention, four_bit = (None, None) if device is None else (device.training_attention, device.four_bit(spec))
    model, head = new_classifier(name, labels if kind.fixed else None, attention, multi=kind.multi, four_bit=four_bit)
    adapter = None
    if spec is not None:
        adapter = attach(model, spec, head=head)
        start_from_folder(adapter, spec, start)
    return classifier_of(model, adapter)


def classifier_of(model: Any, adapter: Adapter | None = None) -> ClassifierLogits:
    """Return what reads a model's logits: of fixed labels, or of each row's candidates."""
    return MultipleChoiceLogits(model, adapter) if _chooses(model) else ClassifierLogits(model, adapter)


def _chooses(model: Any) -> bool:
    return type(model).__name__.endswith("ForMultipleChoice")


def save_student(student: ClassifierLogits, name: str, spec: AnyAdapter | None, folder: Path, *, keep: bool) -> dict[str, Any]:
    """Write a trained classifier with its backbone's ``name``; return what :func:`load_student` needs in addition to the files.

    Args:
        keep: write a mergeable adapter too, in a folder of its own.
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
        adapter = _on_full_weights(adapter, name, spec)
    adapter.merge()
    adapter.model.save_pretrained(folder)
    return {}


def _on_full_weights(adapter: Adapter, name: str, spec: AnyAdapter) -> Adapter:
    """Return an adapter and a head as they were trained, on the dequantised weights of the backbone in 4 bits."""
    config = adapter.model.config
    labels = [config.id2label[index] for index in range(config.num_labels)]
    kind = LabelKind.MULTI if config.problem_type == "multi_label_classification" else LabelKind.SINGLE
    kind = LabelKind.CANDIDATES if _chooses(adapter.model) else kind
    student = _restored(name, labels, kind, spec, adapter.state(), shown_name(name))
    student.detach()
    assert student.adapter is not None
    layers = dict(student.adapter.model.named_modules())
    with torch.no_grad():
        for layer, weights in weights_in_full(adapter.model):
            layers[layer].weight.copy_(weights)
    return student.adapter


def _restored(
    name: str, labels: Sequence[str], kind: LabelKind, spec: AnyAdapter, state: Mapping[str, Tensor], source: str
) -> ClassifierLogits:
    """Return a trained adapter and head on their backbone; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        student = new_student(name, labels, kind, spec, None)
    assert student.adapter is not None
    student.adapter.put(state, source)
    return student


def load_student(folder: Path, content: Mapping[str, Any]) -> ClassifierLogits:
    """Return a finished classifier, plain or with its adapter; ``content`` is that of its ``petkit.json``, if it has one."""
    if "adapter" not in content:
        return classifier_of(load_classifier(str(folder)))
    made, shown = checked_record(_AdapterRecord, content, folder), shown_path(folder)
    if model_fingerprint(made.base) != made.base_sha256:
        raise ModelRefused(f"{shown}: the adapter was trained on another model than {shown_name(made.base)} is now")
    return _restored(made.base, made.labels, made.label_kind, made.adapter, read_adapter(folder), shown)
