"""Stage B: the ensemble of teachers labels the unlabelled text (PET, section 3.3).

Reads every teacher's logits shard by shard and writes the ensemble's: label logits, never
probabilities, because small probabilities would be lost in rounding.

    soft_labels/*.parquet   a row per unlabelled row: id; logits (labels,), before soft_labels.temperature, or those of the row's
                            candidates, however many it has; label (labels, a list, where there may be several; of candidates
                            the text); entropy at that temperature, in nats; agreement, the share of teachers with the same
                            answer; weight in stage C, from 0 (left out) to 1
    ensemble.json           what makes the logits of new rows (petkit.ensemble.Ensemble), and figures
    agreement.json          every two teachers: share of equal answers, and Cohen's κ
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema.training import SoftLabelsSpec
from petkit.ensemble import Ensemble, FloatArray, TeacherAgreement, agreement, entropy, log_softmax
from petkit.ensemble.row_selection import best_probability, choose_rows, confidence_weights, is_rare
from petkit.errors import InvalidInput
from petkit.events import Notice
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import AGREEMENT_FILE, ENSEMBLE_FILE, SOFT_LABELS, teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Job, Step
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import write_shard
from petkit.task.task import Task
from petkit.teachers.ensemble import combined_shards, form_ensemble, reads_train, refuse_other_rows, teacher_shards

SHOWN_LABELS = 10


def steps(task: Task) -> list[Step]:
    """Return the one step of this stage, which needs every teacher."""
    settings, teachers = task.spec.soft_labels, [teacher.name for teacher in task.teachers]
    inputs: Inputs = {
        "step.version": 2,
        **task.unlabeled_inputs(),
        "label_kind": task.label_kind.value,
        **({"data.train": task.scans["train"].sha256} if reads_train(settings) else {}),
        # Folds that are read bring the hash of their content, and the hash of the unlabelled set that of the rows drawn.
        **{f"soft_labels.{name}": value for name, value in settings.model_dump(exclude={"folds", "rows"}).items()},
    }
    needs = [*map(teacher_logits, teachers)]
    needs += map(teacher_model, teachers) if settings.weighting == "train_accuracy" else ()
    needs += map(teacher_folds, teachers) if settings.out_of_fold else ()
    return [Step(SOFT_LABELS, "b", inputs, lambda job: _label(job, task, teachers), tuple(needs))]


def _label(job: Job, task: Task, teachers: list[str]) -> None:
    settings = task.spec.soft_labels
    refuse_other_rows(job.store, task, [*map(teacher_logits, teachers)], "unlabeled")
    ensemble = form_ensemble(job, task, teachers)
    keep = _choose(job, task, ensemble)  # (rows,)
    pairs, tally = TeacherAgreement(ensemble), _Tally(ensemble, settings)
    examples = task.rows("unlabeled")
    for index, logits in enumerate(teacher_shards(job.store, teachers)):  # (teachers, rows, labels)
        combined = ensemble.combine(logits)  # (rows, labels)
        pairs.add(logits, combined)
        kept = keep[tally.rows : tally.rows + len(combined)]
        own = list(islice(examples, len(combined)))
        columns = {"id": [example.id for example in own], **tally.add(logits, combined, kept)}
        if task.candidates is not None:
            best = zip(own, combined.argmax(axis=-1), strict=True)
            columns["label"] = [task.candidates.texts(example.fields)[number] for example, number in best]
        write_shard(job.folder / "soft_labels", index, columns, ragged=not task.label_kind.fixed)
        job.progress(tally.rows, len(keep), "rows")
    for _ in examples:  # to the end, where the rows prove to be those of the check
        pass
    if tally.weight == 0:
        place, why = ("soft_labels", "confidence_weights"), "every row has confidence weight 0, so that none counts"
        raise InvalidInput([task.pipeline.problem(place, why, "set it to false")])
    stored, figures = ensemble.to_json(), tally.description()
    for name, effect in pairs.effects().items():
        stored["teachers"][name] |= effect.to_json()
    head = {"labels": stored["labels"], "rows": tally.rows, "data.unlabeled": task.scans["unlabeled"].sha256}
    chosen = {"label_kind": stored["label_kind"], **settings.model_dump(exclude={"folds", "rows"})}
    weights = dict(zip(teachers, ensemble.weights.tolist(), strict=True))
    write_json(job.folder / ENSEMBLE_FILE, {**head, **chosen, **stored, "weights": weights, **figures})
    matrices = {
        name: {teacher: dict(zip(teachers, row.tolist(), strict=True)) for teacher, row in zip(teachers, matrix, strict=True)}
        for name, matrix in (("agreement", pairs.agreement), ("kappa", pairs.kappa))
    }
    write_json(job.folder / AGREEMENT_FILE, matrices)
    _report(job, pairs, tally, settings)
    job.facts.update(rows=tally.rows, mean_entropy=figures["mean_entropy"], mean_agreement=figures["mean_agreement"])


class _Tally:
    """The columns of every row, and their sums."""

    def __init__(self, ensemble: Ensemble, settings: SoftLabelsSpec) -> None:
        self.ensemble, self.settings, self.labels = ensemble, settings, ensemble.labels
        self.rows = self.rows_kept = 0
        self.weight = self.entropy = self.agreement = 0.0
        self.won, self.kept = np.zeros((2, len(self.labels)), np.int64)  # none of candidates

    def add(self, logits: FloatArray, combined: FloatArray, kept: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the columns of some rows, without their ids.

        Args:
            logits: the teachers' raw ones, shape ``(teachers, rows, labels)``; ``combined`` has shape ``(rows, labels)``.
            kept: which rows stage C may learn from, shape ``(rows,)``.
        """
        kind = self.ensemble.kind
        soft = log_softmax(kind.class_logits(combined), self.settings.temperature)  # (rows, questions, answers)
        row_entropy = entropy(soft).mean(axis=-1)
        row_agreement = agreement(self.ensemble.adjust(logits)[~self.ensemble.dropped], combined, kind)
        weighted = self.settings.confidence_weights
        weight = np.where(kept, confidence_weights(combined, kind) if weighted else np.float32(1), np.float32(0))
        answers = kind.choices(combined)  # (rows, questions)
        # (rows, labels), none of candidates
        has = answers == 1 if kind.multi else answers == np.arange(len(self.labels))
        self.rows_kept += int(kept.sum())
        self.rows += len(kept)
        self.won += has.sum(axis=0)
        self.kept += has[kept].sum(axis=0)
        self.weight += float(weight.sum(dtype=np.float64))
        self.entropy += float(row_entropy.sum(dtype=np.float64))
        self.agreement += float(row_agreement.sum(dtype=np.float64))
        named: dict[str, Any] = {}
        if kind.fixed:
            named = {"label": [self.labels[answer] for answer in answers[:, 0]]}
        if kind.multi:
            named = {"labels": [[self.labels[label] for label in np.flatnonzero(row)] for row in has]}
        return {"logits": combined, **named, "entropy": row_entropy, "agreement": row_agreement, "weight": weight}

    def counts(self) -> list[tuple[str, int, int]]:
        """Return every label with its rows before and after the selection of rows."""
        return list(zip(self.labels, self.won.tolist(), self.kept.tolist(), strict=True))

    def description(self) -> dict[str, Any]:
        """Return the figures for ``ensemble.json``."""
        return {
            "mean_entropy": self.entropy / self.rows,
            "mean_agreement": self.agreement / self.rows,
            "label_counts": {label: won for label, won, _ in self.counts()},
            "kept": {label: {"rows": won, "kept": kept, "share": kept / max(won, 1)} for label, won, kept in self.counts()},
        }


def _choose(job: Job, task: Task, ensemble: Ensemble) -> NDArray[np.bool_]:
    """Return which rows to keep, shape ``(rows,)``; a byte per row, and 12 more while some are chosen."""
    settings, rows = task.spec.soft_labels, task.scans["unlabeled"].rows
    if settings.min_probability == 0 and settings.top_share == 1:
        return np.ones(rows, np.bool_)
    winners, probability, known = np.empty(rows, np.uint32), np.empty(rows, np.float64), 0
    for combined in combined_shards(job.store, ensemble):
        here = slice(known, known + len(combined))
        # Candidates are no labels of which each keeps its share.
        winners[here] = combined.argmax(axis=-1) if ensemble.kind.fixed else 0
        probability[here], known = best_probability(combined), here.stop
    keep = choose_rows(winners, probability, min_probability=settings.min_probability, top_share=settings.top_share)
    if not keep.any():
        why = f"no unlabelled row reaches it; the highest probability is {probability.max():.4f}"
        raise InvalidInput([task.pipeline.problem(("soft_labels", "min_probability"), why, "lower it")])
    return keep


def _report(job: Job, pairs: TeacherAgreement, tally: _Tally, settings: SoftLabelsSpec) -> None:
    """Report what was left out, and what looks wrong."""

    def notice(message: str) -> None:
        job.on_event(Notice(job.step, message))

    fixed = tally.ensemble.kind.fixed  # the same number of a candidate is not the same answer
    for teacher, share in pairs.collapsed().items() if fixed and not settings.drop_collapsed else ():
        notice(
            f"teacher {teacher} predicts the same label for {share:.0%} of the rows, the others together do not "
            "(soft_labels.drop_collapsed: true drops it)"
        )
    counts, total = tally.counts(), tally.rows_kept
    if settings.min_probability > 0 or settings.top_share < 1:
        shown = ", ".join(f"{label} {kept / max(won, 1):.0%}" for label, won, kept in counts[:SHOWN_LABELS])
        more = f", … ({ENSEMBLE_FILE} has all {len(counts)})" if len(counts) > SHOWN_LABELS else ""
        by_label = f": {shown}{more}" if counts else ""
        notice(f"{total:,} of {tally.rows:,} rows are kept ({total / tally.rows:.1%}){by_label}")
    for label, won, kept in counts:
        if won == 0:
            notice(
                f"the teachers predict label {label!r} for no unlabelled row; check its label words and what its teachers learn it from"
            )
        elif not tally.ensemble.kind.multi and is_rare(kept, total, len(counts)):
            of = "" if kept == won else f" (of {won:,} before the selection of rows)"
            notice(f"label {label!r} has {kept:,} of {total:,} rows{of}; the student will hardly learn it")
