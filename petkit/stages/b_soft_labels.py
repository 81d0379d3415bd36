"""Stage B: the teachers label the unlabelled text together (PET, section 3.3).

Reads every teacher's logits shard by shard and writes the ensemble's: label logits, never
probabilities, because small probabilities would be lost in rounding.

    soft_labels/*.parquet   a row per unlabelled row: id; logits (labels,), before soft_labels.temperature; label (labels, a
                            list, where there may be several); entropy at that temperature, in nats; agreement, the share
                            of teachers that say the same; weight in stage C, from 0 (left out) to 1
    ensemble.json           what makes the logits of new rows (petkit.ensemble.combine.combine_teachers), and figures
    agreement.json          every two teachers: share of equal answers, and Cohen's κ
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.agreement import Consensus
from petkit.ensemble.combine import (
    FloatArray,
    adjust,
    agreement,
    as_class_logits,
    choices,
    combine_teachers,
    entropy,
    log_softmax,
)
from petkit.ensemble.row_selection import best_probability, choose_rows, confidence_weights, is_rare
from petkit.errors import InvalidInput
from petkit.events import Notice
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import AGREEMENT_FILE, ENSEMBLE_FILE, SOFT_LABELS, teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Job, Step
from petkit.stages.b_ensemble import combined_shards, form_ensemble, reads_train, refuse_other_rows, teacher_shards
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import write_shard
from petkit.task.task import Task

SHOWN_LABELS = 10


def steps(task: Task) -> list[Step]:
    """Return the one step of this stage; it needs every teacher, and a missing one is an error."""
    settings = task.spec.soft_labels
    teachers = [teacher.name for teacher in task.teachers]
    inputs: Inputs = {
        "step.version": 2,
        **task.unlabeled_inputs(),
        "label_kind": task.spec.label_kind,
        **({"data.train": task.scans["train"].sha256} if reads_train(settings) else {}),
        # Folds that are read bring the hash of their content.
        **{f"soft_labels.{name}": value for name, value in settings.model_dump(exclude={"folds"}).items()},
    }
    needs = [teacher_logits(teacher) for teacher in teachers]
    if settings.weighting == "train_accuracy":
        needs += [teacher_model(teacher) for teacher in teachers]
    if settings.out_of_fold:
        needs += [teacher_folds(teacher) for teacher in teachers]
    return [Step(SOFT_LABELS, "b", inputs, lambda job: _label(job, task, teachers), tuple(needs))]


def _label(job: Job, task: Task, teachers: list[str]) -> None:
    refuse_other_rows(job.store, task, [teacher_logits(teacher) for teacher in teachers], "unlabeled")
    ensemble = form_ensemble(job, task, teachers)
    keep = _choose(job, task, ensemble)  # (rows,)
    consensus, tally = Consensus(ensemble), _Tally(ensemble)
    ids = (example.id for example in task.rows("unlabeled"))
    for index, logits in enumerate(teacher_shards(job.store, teachers)):  # (teachers, rows, labels)
        combined = combine_teachers(logits, ensemble)  # (rows, labels)
        consensus.add(logits, combined)
        kept = keep[tally.rows : tally.rows + len(combined)]
        columns = {"id": list(islice(ids, len(combined))), **tally.add(logits, combined, kept)}
        write_shard(job.folder / "soft_labels", index, columns)
        job.progress(tally.rows, len(keep), "rows")
    for _ in ids:  # to the end, where the rows prove to be those of the check
        pass
    if tally.weight == 0:
        place, why = ("soft_labels", "confidence_weights"), "the teachers are sure of no row at all, so that none counts"
        raise InvalidInput([task.pipeline.problem(place, why, "set it to false")])
    effects = consensus.effects()
    members = {name: {**member, **effects[name]} for name, member in ensemble["teachers"].items()}
    written = {
        "labels": ensemble["labels"],
        "rows": tally.rows,
        "data.unlabeled": task.scans["unlabeled"].sha256,
        **ensemble,
        "weights": {name: member["weight"] for name, member in members.items()},
        "teachers": members,
        **tally.description(),
    }
    write_json(job.folder / ENSEMBLE_FILE, written)
    pairs = {"agreement": _named(teachers, consensus.agreement), "kappa": _named(teachers, consensus.kappa)}
    write_json(job.folder / AGREEMENT_FILE, pairs)
    _report(job, consensus, written)
    job.facts.update(rows=tally.rows, mean_entropy=written["mean_entropy"], mean_agreement=written["mean_agreement"])


def _named(teachers: list[str], matrix: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    return {teacher: dict(zip(teachers, row.tolist(), strict=True)) for teacher, row in zip(teachers, matrix, strict=True)}


class _Tally:
    """What is known of every row, and the sums of it."""

    def __init__(self, ensemble: dict[str, Any]) -> None:
        self.ensemble, self.labels, self.multi = ensemble, ensemble["labels"], ensemble["label_kind"] == "multi"
        self.voting = [not member["dropped"] for member in ensemble["teachers"].values()]
        self.rows, self.weight, self.entropy, self.agreement = 0, 0.0, 0.0, 0.0
        self.won = np.zeros(len(self.labels), np.int64)
        self.kept = np.zeros(len(self.labels), np.int64)

    def add(self, logits: FloatArray, combined: FloatArray, kept: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the columns of some rows beside their ids.

        Args:
            logits: the teachers' raw label logits, shape ``(teachers, rows, labels)``.
            combined: the ensemble's, shape ``(rows, labels)``.
            kept: which rows stage C may learn from, shape ``(rows,)``.
        """
        ensemble, multi = self.ensemble, self.multi
        soft = log_softmax(as_class_logits(combined, multi=multi), ensemble["temperature"])  # (rows, questions, answers)
        row_entropy = entropy(soft).mean(axis=-1)
        row_agreement = agreement(adjust(logits, ensemble)[self.voting], combined, multi=multi)
        sure = confidence_weights(combined, multi=multi) if ensemble["confidence_weights"] else np.ones(len(kept), np.float32)
        weight = np.where(kept, sure, np.float32(0))
        answers = choices(combined, multi=multi)  # (rows, questions)
        has = answers == 1 if multi else answers == np.arange(len(self.labels))  # (rows, labels)
        self.rows += len(kept)
        self.won += has.sum(axis=0)
        self.kept += has[kept].sum(axis=0)
        self.weight += float(weight.sum(dtype=np.float64))
        self.entropy += float(row_entropy.sum(dtype=np.float64))
        self.agreement += float(row_agreement.sum(dtype=np.float64))
        named: dict[str, Any] = {"label": [self.labels[answer] for answer in answers[:, 0]]}
        if multi:
            named = {"labels": [[self.labels[label] for label in np.flatnonzero(row)] for row in has]}
        return {
            "logits": combined,
            **named,
            "entropy": row_entropy,
            "agreement": row_agreement,
            "weight": weight,
        }

    def description(self) -> dict[str, Any]:
        """Return the figures for ``ensemble.json``."""
        counts = [(label, int(won), int(kept)) for label, won, kept in zip(self.labels, self.won, self.kept, strict=True)]
        return {
            "mean_entropy": self.entropy / self.rows,
            "mean_agreement": self.agreement / self.rows,
            "label_counts": {label: won for label, won, _ in counts},
            "kept": {label: {"rows": won, "kept": kept, "share": kept / max(won, 1)} for label, won, kept in counts},
        }


def _choose(job: Job, task: Task, ensemble: dict[str, Any]) -> NDArray[np.bool_]:
    """Say which rows to keep, shape ``(rows,)``: a byte per row, and where some may go 12 more and what the choice takes.

    Raises:
        InvalidInput: no row would be left.
    """
    settings, rows = task.spec.soft_labels, task.scans["unlabeled"].rows
    if settings.min_probability == 0 and settings.top_share == 1:
        return np.ones(rows, np.bool_)
    winners, probability, known = np.empty(rows, np.uint32), np.empty(rows, np.float64), 0
    for combined in combined_shards(job.store, ensemble):
        here = slice(known, known + len(combined))
        winners[here], probability[here] = combined.argmax(axis=-1), best_probability(combined)
        known = here.stop
    keep = choose_rows(winners, probability, min_probability=settings.min_probability, top_share=settings.top_share)
    if not keep.any():
        why = f"no unlabelled row is left; the surest has {probability.max():.4f}"
        raise InvalidInput([task.pipeline.problem(("soft_labels", "min_probability"), why, "lower it")])
    return keep


def _report(job: Job, consensus: Consensus, written: dict[str, Any]) -> None:
    """Tell what was left out, and what looks wrong."""

    def notice(message: str) -> None:
        job.on_event(Notice(job.step, message))

    if not written["drop_collapsed"]:
        for teacher, share in consensus.collapsed().items():
            notice(
                f"teacher {teacher} gives {share:.0%} of the rows the same label, though the others together do not "
                "(soft_labels.drop_collapsed: true leaves it out)"
            )
    kept = {label: counts["kept"] for label, counts in written["kept"].items()}
    if written["min_probability"] > 0 or written["top_share"] < 1:
        total = sum(kept.values())
        shown = ", ".join(f"{label} {counts['share']:.0%}" for label, counts in list(written["kept"].items())[:SHOWN_LABELS])
        more = f", … ({ENSEMBLE_FILE} has all {len(kept)})" if len(kept) > SHOWN_LABELS else ""
        notice(f"{total:,} of {written['rows']:,} rows are kept ({total / written['rows']:.1%}): {shown}{more}")
    for label, counts in written["kept"].items():
        if counts["rows"] == 0:
            notice(f"the teachers give no unlabelled row the label {label!r}; look at its label words and examples")
        elif written["label_kind"] != "multi" and is_rare(counts["kept"], sum(kept.values()), len(kept)):
            of = "" if counts["kept"] == counts["rows"] else f" (of {counts['rows']:,} before the choice of rows)"
            notice(f"label {label!r} has {counts['kept']:,} of {sum(kept.values()):,} rows{of}; the student will hardly learn it")
