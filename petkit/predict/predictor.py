"""Labels for new rows, by the student or by the teachers together; rows stream through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from petkit.config.schema import ComputeSpec, DataSpec, LabelKind
from petkit.engine.device import Device, choose_device, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.ensemble.combine import FloatArray, combine_teachers
from petkit.errors import IncompleteRun, InvalidInput, ModelRefused, Problem, shown_path
from petkit.metrics.decision import Decision
from petkit.models.loading import load_config, load_tokenizer, longest_input
from petkit.prompts.pattern import CompiledPattern, Pattern
from petkit.prompts.pvp import tokenised
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE
from petkit.runs.store import RUN, RunStore
from petkit.student.model import load_student
from petkit.teachers.loading import load_teachers

CHUNK = 1024
Fields = Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Attributes:
        label: its label; where rows may have several, all it has with the separator between them (empty: none).
        probability: how probable the answer is; of several labels, that it has these and no other, each judged on its own.
        probabilities: of each label, in class order; they sum to 1 unless rows may have several.
        labels: the labels by themselves: one, or as many as the row has.
        expected: the expected place ``Σ p_i i`` on an ordinal scale, from 0; None for other labels.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    expected: float | None = None


class Predictor:
    """A classifier ready to use.

    >>> predictor = Predictor.load("runs/support-tickets")  # the folder of a finished run
    >>> predictor(["Where is my parcel?"])[0].label in predictor.labels
    True

    Attributes:
        labels: label names in class order.
        fields: the fields a row must have.
        columns: field name → column name, as in the pipeline's data.
        label_names: label of each class number, where the pipeline's data has numbers.
        label_separator: stands between several labels of a row, in files and in ``Prediction.label``.
        decision: how label logits become answers.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fields: Sequence[str],
        reading: Mapping[str, Any],
        score: Callable[[Sequence[Fields]], FloatArray],
        decision: Decision,
    ) -> None:
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.columns: dict[str, str] = dict(reading.get("columns") or {})
        self.label_names: tuple[str, ...] | None = tuple(reading.get("label_names") or ()) or None
        self.label_separator: str = reading.get("label_separator") or DataSpec.model_fields["label_separator"].default
        self.decision = decision
        self._score = score

    @classmethod
    def load(cls, folder: str | Path, *, teachers: bool = False, compute: ComputeSpec | None = None) -> Predictor:
        """Load a run folder or a model folder.

        Args:
            folder: a run folder, or any sequence-classification model folder.
            teachers: predict with the ensemble of teachers instead of the student (run folders only).
            compute: device, precision and threads; default: automatic, but in the precision a run began with, so that
                its predictions are those its own evaluation measured.

        Raises:
            ModelRefused: the folder holds no usable classifier.
            IncompleteRun: the run is not finished, or damaged.
            RunConflict: the run was made by another version of petkit.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelRefused(f"{shown_path(folder)}: no such run or model folder")
        store = RunStore(folder)
        # Other tools write a manifest.json too; beside a config.json it is a model folder.
        manifest = {} if (folder / "config.json").is_file() else store.manifest()
        is_run = bool(manifest)
        if manifest.get("kind", RUN) != RUN:
            raise ModelRefused(f"{store.shown}: does not contain a run but {store.content_name} (name a run or a classifier)")
        if "recovered" in manifest:
            hint = "run the same petkit run again: it writes a new one, and finished steps stay"
            raise IncompleteRun(f"{store.shown}: manifest.json {manifest['recovered']} ({hint})")
        compute = compute or _compute_of(manifest)
        device = choose_device(compute)
        if teachers and not is_run:
            raise ModelRefused(f"{shown_path(folder)}: only a run folder holds teachers")
        if teachers:
            return _load_ensemble(store, device, compute.tokens_per_batch)
        if is_run and store.inputs(STUDENT) and store.inputs(STUDENT)[SOFT_LABELS] != store.content(SOFT_LABELS):
            message = "the classifier was made from other soft labels (run petkit stage-c, or predict with the teachers)"
            raise IncompleteRun(f"{store.shown}: {message}")
        return _load_student(store.path(STUDENT) if is_run else folder, manifest, device, compute.tokens_per_batch)

    def __call__(self, rows: Sequence[str | Fields]) -> list[Prediction]:
        """Predict rows: texts, or mappings from field to text.

        Raises:
            InvalidInput: a row lacks a field, or a bare text is given where rows have several fields.
        """
        return list(self.stream(rows))

    def stream(self, rows: Iterable[str | Fields]) -> Iterator[Prediction]:
        """Predict any number of rows in order, a thousand at a time; memory does not grow with their number."""
        pending = iter(rows)
        while chunk := list(islice(pending, CHUNK)):
            yield from self._predictions(self.logits(chunk))

    def logits(self, rows: Sequence[str | Fields]) -> FloatArray:
        """Return label logits of shape ``(rows, labels)``."""
        return self._score([self._checked(row) for row in rows])

    def _predictions(self, logits: FloatArray) -> Iterator[Prediction]:
        kind = self.decision.kind
        rows = zip(self.decision.probabilities(logits), self.decision.chosen(logits), strict=True)
        for probabilities, chosen in rows:  # both (labels,)
            labels = tuple(label for label, given in zip(self.labels, chosen, strict=True) if given)
            answer = np.where(chosen, probabilities, 1 - probabilities) if kind == "multi" else probabilities[chosen]
            yield Prediction(
                label=self.label_separator.join(labels),
                probability=float(answer.prod()),
                probabilities=dict(zip(self.labels, probabilities.tolist(), strict=True)),
                labels=labels,
                expected=float(probabilities @ np.arange(len(self.labels))) if kind == "ordinal" else None,
            )

    def _checked(self, row: str | Fields) -> Fields:
        if isinstance(row, str):
            row = {self.fields[0]: row}
        missing = [field for field in self.fields if not isinstance(row.get(field), str)]
        if missing:
            message = f"a row needs the fields {', '.join(self.fields)}; missing: {', '.join(missing)}"
            raise InvalidInput([Problem.of_command(message)])
        return row


def _compute_of(manifest: Mapping[str, Any]) -> ComputeSpec:
    precision = manifest.get("arithmetic", {}).get("precision")
    return ComputeSpec(precision=precision) if precision in ("float32", "bfloat16") else ComputeSpec()


class _About(BaseModel):
    """What ``petkit.json`` says of how a student reads and answers; folders that others made have none."""

    fields: tuple[Annotated[str, Field(min_length=1)], ...] = Field(("text",), min_length=1)
    max_length: Annotated[int, Field(ge=1)] | None = None
    truncate: Literal["tail", "head", "middle"] = "tail"
    labels: tuple[str, ...] | None = None
    label_kind: LabelKind | None = None
    thresholds: tuple[float, ...] | None = None
    columns: dict[str, str] = {}
    label_names: tuple[str, ...] | None = None
    label_separator: Annotated[str, Field(min_length=1)] | None = None


def _load_student(folder: Path, manifest: Mapping[str, Any], device: Device, tokens_per_batch: int) -> Predictor:
    name = str(folder)
    config = load_config(name)
    written = _read(folder / STUDENT_FILE)
    about = _checked_about(written, folder / STUDENT_FILE)
    tokenizer = load_tokenizer(name, needs_mask=False)
    student = load_student(name, written)
    prepare_for_inference(student, device)
    max_length = min(longest_input(config, tokenizer), about.max_length or 512)
    plain = Pattern.plain(about.fields, pairs=tokenizer.distinguishes_pairs)
    pattern = CompiledPattern(plain, tokenizer, max_length, about.truncate)
    names: Any = config.id2label
    labels = [str(names.get(index, "")) for index in range(len(names))]
    if not all(labels) or len(set(labels)) != len(labels):
        raise ModelRefused(f"{shown_path(folder)}: config.json: id2label: must name every class, each by a name of its own")
    if about.labels is not None and about.labels != tuple(labels):
        raise ModelRefused(f"{shown_path(folder / STUDENT_FILE)}: labels: config.json names others (write the same in both)")
    if about.thresholds is not None and len(about.thresholds) != len(labels):
        raise ModelRefused(f"{shown_path(folder / STUDENT_FILE)}: thresholds: one for each of {len(labels)} labels is needed")

    def score(rows: Sequence[Fields]) -> FloatArray:
        encoded = [pattern.encode(tokens) for tokens in tokenised(rows, pattern.keys, tokenizer)]
        return label_logits(student, encoded, tokenizer, device, tokens_per_batch)

    kind = about.label_kind or ("multi" if config.problem_type == "multi_label_classification" else "single")
    # A run knows best how its data is read now; a folder on its own remembers how it was.
    decision = Decision(kind) if about.thresholds is None else Decision(kind, about.thresholds)
    return Predictor(labels, about.fields, manifest.get("data", about.model_dump()), score, decision)


def _checked_about(written: Mapping[str, Any], path: Path) -> _About:
    try:
        return _About.model_validate_json(json.dumps(written))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise ModelRefused(f"{shown_path(path)}: {key} is damaged (take the folder from its run again)") from None


def _load_ensemble(store: RunStore, device: Device, tokens_per_batch: int) -> Predictor:
    ensemble = _read(store.path(SOFT_LABELS) / ENSEMBLE_FILE)
    # Teachers that were left out have no say, so they need not be asked.
    ensemble["teachers"] = {name: member for name, member in ensemble["teachers"].items() if member["weight"] > 0}
    members = load_teachers(store, ensemble["teachers"], device)

    def score(rows: Sequence[Fields]) -> FloatArray:
        logits = np.stack([member.logits(rows, device, tokens_per_batch) for member in members])
        return combine_teachers(logits, ensemble)

    # Thresholds are a student's; the ensemble answers at even chances.
    decision = Decision(ensemble["label_kind"])
    return Predictor(ensemble["labels"], members[0].fields, store.manifest().get("data", {}), score, decision)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelRefused(f"{shown_path(path)}: not valid JSON (take the folder from its run again)") from None
    if not isinstance(content, dict):
        raise ModelRefused(f"{shown_path(path)}: damaged (take the folder from its run again)")
    return content
