"""Labels for new rows, by the student or by the teachers together; rows stream through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from petkit.errors import IncompleteRun, InvalidInput, ModelRefused, Problem, shown_path
from petkit.lm.arithmetic import Arithmetic, choose_arithmetic, prepare_for_inference
from petkit.lm.backbone import load_classifier, load_config, load_masked_lm, load_tokenizer, longest_input
from petkit.lm.ensemble import FloatArray, combine, log_softmax
from petkit.lm.heads import LabelScorer
from petkit.lm.inference import ClassifierLogits, label_logits
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, TEACHER_FILE, teacher_logits, teacher_model
from petkit.runs.store import RunStore
from petkit.spec.schema import ComputeSpec, PatternSpec, VerbalizerSpec
from petkit.task.pattern import CompiledPattern, Encoded, Pattern
from petkit.task.tokenization import PieceTokenizer
from petkit.task.verbalizer import find_label_words

CHUNK = 1024
Fields = Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """The label of one row, its probability, and the probabilities of all labels in class order."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Predictor:
    """A classifier ready to use.

    >>> predictor = Predictor.load("runs/support-tickets")
    >>> predictor(["Where is my parcel?"])[0].label
    'delivery'

    Attributes:
        labels: label names in class order.
        fields: the fields a row must have.
        columns: field name → column name, as in the pipeline's data.
        label_names: label of each class number, where the pipeline's data has numbers.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fields: Sequence[str],
        reading: Mapping[str, Any],
        score: Callable[[Sequence[Fields]], FloatArray],
    ) -> None:
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.columns: dict[str, str] = dict(reading.get("columns") or {})
        self.label_names: tuple[str, ...] | None = tuple(reading.get("label_names") or ()) or None
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
        compute = compute or _compute_of(manifest)
        arithmetic = choose_arithmetic(compute)
        if teachers and not is_run:
            raise ModelRefused(f"{shown_path(folder)}: only a run folder holds teachers")
        if teachers:
            return _load_ensemble(store, arithmetic, compute.tokens_per_batch)
        return _load_student(store.path(STUDENT) if is_run else folder, manifest, arithmetic, compute.tokens_per_batch)

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
            for log_probs in log_softmax(self.logits(chunk)):
                yield self.prediction(log_probs)

    def logits(self, rows: Sequence[str | Fields]) -> FloatArray:
        """Return label logits of shape ``(rows, labels)``."""
        return self._score([self._checked(row) for row in rows])

    def prediction(self, log_probs: FloatArray) -> Prediction:
        """Turn one row of log-probabilities into a prediction."""
        probabilities = np.exp(log_probs.astype(np.float64))
        best = int(probabilities.argmax())
        named = dict(zip(self.labels, probabilities.tolist(), strict=True))
        return Prediction(self.labels[best], float(probabilities[best]), named)

    def _checked(self, row: str | Fields) -> Fields:
        if isinstance(row, str):
            row = {self.fields[0]: row}
        missing = [field for field in self.fields if not isinstance(row.get(field), str)]
        if missing:
            message = f"a row needs the fields {', '.join(self.fields)}; missing: {', '.join(missing)}"
            raise InvalidInput([Problem("", None, "", message)])
        return row


def _compute_of(manifest: Mapping[str, Any]) -> ComputeSpec:
    precision = manifest.get("arithmetic", {}).get("precision")
    return ComputeSpec(precision=precision) if precision in ("float32", "bfloat16") else ComputeSpec()


def _load_student(folder: Path, manifest: Mapping[str, Any], arithmetic: Arithmetic, tokens_per_batch: int) -> Predictor:
    name = str(folder)
    config = load_config(name)
    about = _read(folder / STUDENT_FILE)
    tokenizer = load_tokenizer(name, needs_mask=False)
    student = ClassifierLogits(load_classifier(name))
    prepare_for_inference(student, arithmetic)
    fields = tuple(about.get("fields", ("text",)))
    max_length = about.get("max_length", min(longest_input(config, tokenizer), 512))
    pattern = CompiledPattern(Pattern.plain(fields), tokenizer, max_length, about.get("truncate", "tail"))
    names: Any = config.id2label
    labels = [str(names[index]) for index in range(len(names))]

    def score(rows: Sequence[Fields]) -> FloatArray:
        return label_logits(student, encode_rows(rows, pattern, tokenizer), tokenizer, arithmetic, tokens_per_batch)

    # A run knows best how its data is read now; a folder on its own remembers how it was.
    return Predictor(labels, fields, manifest.get("data", about), score)


def _load_ensemble(store: RunStore, arithmetic: Arithmetic, tokens_per_batch: int) -> Predictor:
    ensemble = _read(store.path(SOFT_LABELS) / ENSEMBLE_FILE)
    members: list[tuple[LabelScorer, CompiledPattern, PieceTokenizer]] = []
    about: dict[str, Any] = {}
    for teacher in ensemble["weights"]:
        model, logits = teacher_model(teacher), teacher_logits(teacher)
        folder = store.path(model)
        made_from = {**store.inputs(logits), **store.inputs(SOFT_LABELS)}
        if made_from.get(model) != store.content(model) or made_from.get(logits) != store.content(logits):
            raise IncompleteRun(
                f"{store.shown}: teacher {teacher} is newer than its logits or the soft labels (finish the run first)"
            )
        about = _read(folder / TEACHER_FILE)
        tokenizer = load_tokenizer(str(folder))
        spec = PatternSpec.model_validate_json(json.dumps(about["pattern"]))
        pattern = CompiledPattern(Pattern.from_spec(spec), tokenizer, about["max_length"], about["truncate"])
        verbalizer = VerbalizerSpec.model_validate_json(json.dumps(about["verbalizer"]))
        if pattern.mask_context is None:
            raise IncompleteRun(f"{store.shown}: {TEACHER_FILE} of {teacher} has no mask in its pattern")
        words, problems = find_label_words(verbalizer, tokenizer, pattern.mask_context)
        if problems:
            raise IncompleteRun(f"{store.shown}: teacher {teacher} does not fit its tokenizer: {problems[0].message}")
        scorer = LabelScorer(load_masked_lm(str(folder)), words.token_ids)
        prepare_for_inference(scorer, arithmetic)
        members.append((scorer, pattern, tokenizer))
    weights = np.array(list(ensemble["weights"].values()), np.float32)

    def score(rows: Sequence[Fields]) -> FloatArray:
        logits = [
            label_logits(scorer, encode_rows(rows, pattern, tokenizer), tokenizer, arithmetic, tokens_per_batch)
            for scorer, pattern, tokenizer in members
        ]
        return combine(np.stack(logits), weights, ensemble["combine"])

    return Predictor(ensemble["labels"], about["fields"], store.manifest().get("data", {}), score)


def encode_rows(rows: Sequence[Fields], pattern: CompiledPattern, tokenizer: PieceTokenizer) -> list[Encoded]:
    """Tokenise and assemble rows for one pattern."""
    columns = {key: tokenizer.encode([key.text(row) for row in rows], key.glue) for key in pattern.keys}
    return [pattern.encode({key: np.array(ids[index], np.int32) for key, ids in columns.items()}) for index in range(len(rows))]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
