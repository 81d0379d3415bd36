"""A teacher taken back from the run folder, ready to answer new rows as it was trained to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from petkit.config.schema.adapter import AdapterSpec, AnyAdapter, NoAdapter
from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.config.schema.section import beyond_bound
from petkit.data.candidates import Candidates
from petkit.engine.device import Device
from petkit.engine.inference import FloatArray, label_logits
from petkit.errors import IncompleteRun, shown_path
from petkit.models.architectures import WantedScoring
from petkit.models.label_scorer import LabelScorer
from petkit.models.loading import load_tokenizer, model_fingerprint, shown_name
from petkit.prompts.pvp import PVP, Demonstrations, compile_pvp
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.runs.layout import SOFT_LABELS, TEACHER_FILE, teacher_logits, teacher_model
from petkit.runs.store import RunStore
from petkit.teachers.models import TeacherModels, load_scorer, teacher_models


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher's PVP, its tokenizer and what lends its model."""

    pvp: PVP
    tokenizer: PieceTokenizer
    lend: Callable[[], AbstractContextManager[LabelScorer]]
    fields: tuple[str, ...]

    def logits(self, rows: Sequence[Mapping[str, str]], device: Device, tokens_per_batch: int) -> FloatArray:
        """Return label logits of new rows, shape ``(rows, labels)``."""
        pvp, candidates = self.pvp, Candidates.of(self.pvp.verbalizer.candidates)
        if candidates is not None:
            pvp = pvp.for_candidates(candidates.fields_of(rows), self.tokenizer)
        encoded = pvp.encode_texts(rows, self.tokenizer)
        with self.lend() as scorer:
            return label_logits(scorer, encoded, self.tokenizer, device, tokens_per_batch)


class _Shared:
    """What teachers of one run have in common, loaded once."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.tokenizer, self.model_hash = cache(load_tokenizer), cache(model_fingerprint)
        self._models: dict[str, TeacherModels] = {}

    def lender(
        self, name: str, adapter: Mapping[str, Any], folder: Path, pvp: PVP, *, trained: bool, scoring: WantedScoring = "auto"
    ) -> Callable[[], AbstractContextManager[LabelScorer]]:
        """Return what lends the model of a teacher in ``folder`` that starts from the backbone ``name``."""
        if trained and adapter["kind"] == "none":
            scorer = load_scorer(name, pvp, self.device)  # a model of its own
            return lambda: nullcontext(scorer)
        try:
            spec = TypeAdapter[NoAdapter | AnyAdapter](AdapterSpec).validate_json(json.dumps(adapter))
        except ValidationError as error:
            why = beyond_bound(error) or "adapter is damaged (petkit verify checks the run)"
            raise IncompleteRun(f"{shown_path(folder / TEACHER_FILE)}: {why}") from None
        adapted = None if isinstance(spec, NoAdapter) else spec
        lent = teacher_models(name, adapted, self.device, scoring=scoring)
        models = self._models.setdefault(json.dumps([name, adapter, scoring]), lent)
        return (lambda: models.trained(folder, pvp)) if trained else (lambda: models.untrained(pvp))


def load_teachers(store: RunStore, teachers: Iterable[str], device: Device) -> list[LoadedTeacher]:
    """Load teachers of a finished run; those that learnt from nothing are the backbone itself. Those on one backbone share it."""
    shared = _Shared(device)
    return [_load_teacher(store, teacher, shared) for teacher in teachers]


def _load_teacher(store: RunStore, teacher: str, shared: _Shared) -> LoadedTeacher:
    model, logits = teacher_model(teacher), teacher_logits(teacher)
    scored_from = store.inputs(logits)
    trained = not scored_from or model in scored_from
    made_from = {**scored_from, **store.inputs(SOFT_LABELS)}
    for step in (logits, model) if trained else (logits,):
        if store.content(step) not in (None, made_from.get(step)):
            message = f"teacher {teacher} is newer than its logits or the soft labels (finish the run first)"
            raise IncompleteRun(f"{store.shown}: {message}")
    folder = store.path(model if trained else logits)
    about = json.loads((folder / TEACHER_FILE).read_text(encoding="utf-8"))
    name = about.get("model", str(folder))
    if "model" in about and shared.model_hash(name) != (store.inputs(model) if trained else made_from)["model"]:
        message = f"{shown_name(name)} has changed since it answered as teacher {teacher} (run petkit stage-a --force)"
        raise IncompleteRun(f"{store.shown}: {message}")
    tokenizer = shared.tokenizer(name)
    spec = PatternSpec.model_validate_json(json.dumps(about["pattern"]))
    verbalizer = VerbalizerSpec.model_validate_json(json.dumps(about["verbalizer"]))
    pvp, problems = compile_pvp(spec, verbalizer, tokenizer, about["max_length"], about["truncate"])
    if problems:
        raise IncompleteRun(f"{store.shown}: teacher {teacher} does not fit its tokenizer: {problems[0].message}")
    if (shown := about["demonstrations"]) is not None:
        filled = tuple(tuple(np.array(ids, np.int32) for ids in examples) for examples in shown["filled"])
        # A new row is not among the labelled rows, so their numbers do not matter.
        numbers = tuple(tuple(range(len(examples))) for examples in filled)
        pvp = replace(pvp, demonstrations=Demonstrations(shown["per_label"], filled, numbers))
    lend = shared.lender(name, about["adapter"], folder, pvp, trained=trained, scoring=about.get("scoring", "auto"))
    return LoadedTeacher(pvp, tokenizer, lend, tuple(about["fields"]))
