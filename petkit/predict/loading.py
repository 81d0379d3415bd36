"""Predictors from folders: the student of a run or any classifier, or a run's ensemble of teachers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from petkit import limits
from petkit.config.schema.pipeline import ComputeSpec
from petkit.config.schema.section import CandidateColumns, LabelName, LabelSeparator, Share
from petkit.data.candidates import Candidates
from petkit.engine.device import Device, choose_device, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.ensemble import Ensemble, FloatArray, LabelKind
from petkit.errors import IncompleteRun, ModelRefused, shown_path
from petkit.metrics import Decision
from petkit.models.loading import is_choice_model, load_config, load_tokenizer, longest_input
from petkit.predict.predictor import Fields, Predictor
from petkit.prompts.choices import ChoicePattern
from petkit.prompts.pattern import CompiledPattern, Pattern
from petkit.prompts.pvp import tokenised
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE
from petkit.runs.store import RUN, RunStore
from petkit.student.model import checked_record, load_student
from petkit.teachers.loading import load_teachers

# An ensemble of a thousand teachers with priors over a thousand labels is 30 MB.
_LARGEST_RECORD = 64 * 2**20
_NEW_MANIFEST = "run the same petkit run again: it writes a new one, and finished steps stay"


def load_predictor(folder: Path, teachers: bool, compute: ComputeSpec | None) -> Predictor:
    """Load a run folder or a model folder; see :meth:`petkit.predict.predictor.Predictor.load`."""
    if not folder.is_dir():
        what = "is a file, not a run or model folder" if folder.is_file() else "no such run or model folder"
        raise ModelRefused(f"{shown_path(folder)}: {what}")
    store = RunStore(folder)
    # Other tools write a manifest.json too; with a config.json next to it, it is a model folder.
    manifest = {} if (folder / "config.json").is_file() else store.manifest()
    is_run = bool(manifest)
    if manifest.get("kind", RUN) != RUN:
        raise ModelRefused(f"{store.shown}: does not contain a run but {store.content_name} (name a run or a classifier)")
    if "recovered" in manifest:
        raise IncompleteRun(f"{store.shown}: manifest.json {manifest['recovered']} ({_NEW_MANIFEST})")
    compute = compute or ComputeSpec()
    if teachers and not is_run:
        raise ModelRefused(f"{shown_path(folder)}: only a run folder contains teachers")
    recorded, reading = manifest.get("arithmetic", {}).get("precision"), _reading(store, manifest)
    if teachers:
        return _load_ensemble(store, reading, compute, recorded)
    if is_run and store.inputs(STUDENT) and store.inputs(STUDENT)[SOFT_LABELS] != store.content(SOFT_LABELS):
        message = "the classifier was made from other soft labels (run petkit stage-c, or predict with the teachers)"
        raise IncompleteRun(f"{store.shown}: {message}")
    return _load_student(store.path(STUDENT) if is_run else folder, reading, compute, recorded)


def _device(compute: ComputeSpec, recorded: str | None) -> tuple[Device, tuple[str, ...]]:
    """Return where to predict, and what to know about it: in the recorded precision unless it would be emulated."""
    device = choose_device(compute, {"arithmetic": {"precision": recorded}}, emulate=False)
    if recorded != "bfloat16" or device.precision == recorded or compute.precision != "auto":
        return device, ()
    return device, (
        "predicts in float32: this machine has no instructions for the bfloat16 of the training; probabilities differ slightly",
    )


_Text = Annotated[str, Field(min_length=1, max_length=limits.TEXT_CHARACTERS)]


class _Reading(BaseModel):
    """How the columns of data are read, in the manifest of a run and in a student's ``petkit.json``."""

    columns: dict[_Text, _Text] = Field({}, max_length=limits.ENTRIES)
    label_names: tuple[LabelName, ...] | None = Field(None, max_length=limits.LABELS)
    label_separator: LabelSeparator | None = None
    empty: Literal["skip", "refuse"] | None = None
    candidates: CandidateColumns | None = None


class _Record(_Reading):
    """What ``petkit.json`` contains of how a student reads rows and decides; folders made by other tools have none."""

    fields: tuple[_Text, ...] = Field(("text",), min_length=1, max_length=limits.COLUMNS)
    max_length: Annotated[int, Field(ge=1, le=limits.ROW_TOKENS)] | None = None
    truncate: Literal["tail", "head", "middle"] = "tail"
    verbatim: bool = False
    labels: tuple[LabelName, ...] | None = Field(None, max_length=limits.LABELS)
    label_kind: LabelKind | None = None
    thresholds: tuple[Share, ...] | None = None
    precision: Literal["float32", "bfloat16"] | None = None


def _load_student(folder: Path, reading: Mapping[str, Any] | None, compute: ComputeSpec, recorded: str | None) -> Predictor:
    config = load_config(str(folder))
    content = _read(folder / STUDENT_FILE)
    record = checked_record(_Record, content, folder)
    device, notes = _device(compute, record.precision or recorded)
    tokenizer = load_tokenizer(str(folder), needs_mask=False)
    with device.in_use():
        student = load_student(folder, content)
        prepare_for_inference(student, device)
    max_length = min(longest_input(config, tokenizer), record.max_length or 512)
    candidates = Candidates.of(record.candidates)
    if is_choice_model(config) != (candidates is not None):
        where = shown_path(folder / STUDENT_FILE)
        raise ModelRefused(
            f"{where}: candidates: a multiple-choice model needs the columns of its candidates, and no other has any"
        )
    plain = Pattern.plain(record.fields, pairs=tokenizer.distinguishes_pairs)
    # Folders of petkit 0.1.0 are read as they were trained; all others as transformers reads them.
    pattern = CompiledPattern(plain, tokenizer, max_length, record.truncate, verbatim=record.verbatim or not content)
    if pattern.room < 1:
        where = shown_path(folder / STUDENT_FILE if record.max_length else folder)
        why = f"max_length: {max_length} tokens leave no room for a text between {pattern.fixed} special ones"
        raise ModelRefused(f"{where}: {why} (raise it)")
    names: Any = config.id2label if candidates is None else {}
    labels = [str(names.get(index, "")) for index in range(len(names))]
    if not all(labels) or len(set(labels)) != len(labels):
        raise ModelRefused(f"{shown_path(folder)}: config.json: id2label: must name every class, each by a name of its own")
    if record.labels is not None and record.labels != tuple(labels):
        raise ModelRefused(f"{shown_path(folder / STUDENT_FILE)}: labels: config.json names others (write the same in both)")
    if record.thresholds is not None and len(record.thresholds) != len(labels):
        raise ModelRefused(f"{shown_path(folder / STUDENT_FILE)}: thresholds: one for each of {len(labels)} labels is needed")

    def score(rows: Sequence[Fields]) -> FloatArray:
        read = pattern
        if candidates is not None:
            read = ChoicePattern(record.fields, candidates.fields_of(rows), tokenizer, max_length, record.truncate)
        encoded = [read.encode(tokens) for tokens in tokenised(rows, read, tokenizer)]
        with device.in_use():
            return label_logits(student, encoded, tokenizer, device, compute.tokens_per_batch)

    kind = record.label_kind or LabelKind("multi" if config.problem_type == "multi_label_classification" else "single")
    decision = Decision(kind) if record.thresholds is None else Decision(kind, record.thresholds)
    # A run records how its data is read now; a folder on its own, how it was read.
    reading = {**(reading or record.model_dump()), "candidates": record.candidates}
    if not content and labels == [f"LABEL_{index}" for index in range(len(labels))]:
        reading = {**reading, "label_names": labels}  # the names that transformers gives are class numbers
    return Predictor(labels, record.fields, reading, score, decision, notes)


def _load_ensemble(store: RunStore, reading: Mapping[str, Any] | None, compute: ComputeSpec, recorded: str | None) -> Predictor:
    device, notes = _device(compute, recorded)
    path = store.path(SOFT_LABELS) / ENSEMBLE_FILE
    try:
        ensemble = Ensemble.from_json(_read(path)).voting()
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _damaged(path) from None
    with device.in_use():
        members = load_teachers(store, ensemble.members, device)

    def score(rows: Sequence[Fields]) -> FloatArray:
        with device.in_use():
            return ensemble.combine(np.stack([member.logits(rows, device, compute.tokens_per_batch) for member in members]))

    # Thresholds belong to the student; the ensemble decides at probability 1/2.
    decision = Decision(ensemble.kind)
    return Predictor(ensemble.labels, members[0].fields, reading or {}, score, decision, notes)


def _reading(store: RunStore, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a run reads data; None if its manifest does not say."""
    try:
        return _Reading.model_validate(manifest["data"]).model_dump() if "data" in manifest else None
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise IncompleteRun(f"{store.shown}: manifest.json: data.{key} is damaged ({_NEW_MANIFEST})") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            raise _damaged(path, f"larger than {_LARGEST_RECORD / 2**20:.0f} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise _damaged(path, "not valid JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path, what: str = "damaged") -> ModelRefused:
    return ModelRefused(f"{shown_path(path)}: {what} (take the folder from its run again)")
