"""Fine-tuning one teacher (PET, sections 3.1 to 3.4), and the inputs of its steps: all that can change weights or logits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.engine.sampling import StepRows, drawn_batches, rows_per_step, smaller_batches, step_rows, training_batches
from petkit.engine.training_loop import fit, seed_everything
from petkit.ensemble import FloatArray
from petkit.events import Notice
from petkit.models.adapters.attach import trained_part
from petkit.models.batch import IndexArray
from petkit.models.freezing import freeze_lower
from petkit.models.label_scorer import LabelScorer
from petkit.prompts.pattern import Encoded
from petkit.runs.fingerprint import (
    Inputs,
    answering_inputs,
    demonstration_inputs,
    flat,
    label_words,
    model_inputs,
    verbalizer_inputs,
)
from petkit.runs.layout import TEACHER_FILE, teacher_logits
from petkit.runs.step import Job
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import read_matrix, write_shard
from petkit.storage.ragged import ABSENT, widened
from petkit.task.checks import DESCRIPTIONS
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.ipet import draw_rows, mean_probabilities, wanted_counts
from petkit.teachers.models import TeacherModels, scorer_of
from petkit.teachers.objective import TeacherObjective, TrainingRows


def teacher_random(teacher: Teacher) -> np.random.Generator:
    """Return randomness that belongs to a teacher alone, so that adding another changes nothing."""
    return np.random.default_rng([teacher.seed, teacher.generation, zlib.crc32(teacher.name.encode())])


def scoring_inputs(task: Task, device: Device, teacher: Teacher) -> Inputs:
    """Return the inputs of trained and untrained teachers alike: the model, the pattern and its label words."""
    spec, pvp = task.spec, task.pvps[teacher.pattern]
    return {
        "step.version": 2,
        **task.common_inputs(device),
        **model_inputs(task.model_hash, task.max_length),
        "pattern": list(spec.patterns[teacher.pattern].segments),
        "verbalizer": label_words(pvp.verbalizer.labels),
        **verbalizer_inputs(pvp.verbalizer),
        **demonstration_inputs(spec.demonstrations),
        **answering_inputs(spec.teachers.scoring),
        # Untrained, the other adapters leave the model as it is.
        **({"four_bit": True} if spec.teachers.adapter.kind == "qlora" else {}),
    }


def training_inputs(task: Task, device: Device, teacher: Teacher, labellers: Sequence[Teacher]) -> Inputs:
    """Return the inputs of a trained teacher, whose unlabelled rows are labelled by ``labellers``."""
    generations = task.spec.generations.model_dump(exclude={"count"})
    needs_text = labellers or task.spec.teachers.auxiliary_mlm_weight
    return {
        **scoring_inputs(task, device, teacher),
        # 3: other units are dropped in the last layer.
        "step.version": 3 if task.spec.teachers.drops_units else 2,
        **_second_pattern_inputs(task, teacher),
        "data.train": task.scans["train"].sha256 if task.train else None,
        **({"verbalizer.descriptions": task.scans[DESCRIPTIONS].sha256} if task.described else {}),
        "teachers.seed": teacher.seed,
        **flat("teachers", task.spec.teachers.fingerprint_settings()),
        **task.start_inputs["teachers"],
        **({**flat("generations", generations), "generation": teacher.generation} if labellers else {}),
        **(task.unlabeled_rows() if needs_text else {}),
    }


def _second_pattern_inputs(task: Task, teacher: Teacher) -> Inputs:
    """Return the pattern that consistency compares with, and its label words."""
    if task.spec.teachers.consistency.kind != "second_pattern":
        return {}
    second = task.second_pattern(teacher.pattern)
    verbalizer = task.pvps[second].verbalizer
    own = verbalizer_inputs(verbalizer) if task.spec.patterns[second].verbalizer is not None else {}
    return {
        "second pattern": list(task.spec.patterns[second].segments),
        "second pattern's verbalizer": label_words(verbalizer.labels),
        **{f"second pattern's {name}": value for name, value in own.items()},
    }


class TeacherTraining:
    """The work of a teacher's steps that train, on rows of given labels and on unlabelled ones that its ``labellers`` label."""

    def __init__(
        self, task: Task, device: Device, models: TeacherModels, teacher: Teacher, labellers: Sequence[Teacher] = ()
    ) -> None:
        self.task, self.device, self.models = task, device, models
        self.teacher, self.labellers = teacher, labellers
        self.settings, self.pvp = task.spec.teachers, task.pvps[teacher.pattern]
        self._pseudo_labelled: IndexArray = np.zeros(0, np.int64)  # unlabelled rows that other teachers labelled

    def train(self, job: Job) -> None:
        """Train on all rows and write the model."""
        rows, targets = self._rows(job)
        gold = rows[: len(self.task.train)]
        untrained = 0.0
        if self.settings.adapted is not None:  # its first predictions are not those of the model alone
            with self.models.untrained(self.pvp) as scorer:
                untrained = self._accuracy(scorer, gold)
        seed_everything(self.teacher.seed)
        with self.models.new(self.pvp, normalised=self.settings.scores_vocabulary) as scorer:
            if self.settings.adapted is None:
                untrained = self._accuracy(scorer, gold)
            losses = self._fit(scorer, rows, targets, job)
            trained = self._accuracy(scorer, gold)
            if gold:
                job.facts.update(untrained_accuracy=untrained, trained_accuracy=trained)
            job.facts.update(trained_part(scorer) if self.settings.adapted else {})
            job.facts.update(rows=len(targets), **self._smaller_batches(len(targets)), steps=len(losses))
            job.facts.update(first_loss=losses[0], last_loss=losses[-1])
            self.models.save(scorer, job.folder)
        if self.settings.adapted is None:
            self.task.tokenizer.hf.save_pretrained(job.folder)
        accuracies = {"untrained_accuracy": untrained, "trained_accuracy": trained}
        write_json(job.folder / TEACHER_FILE, {**describe(self.task, self.teacher), **accuracies})

    def score_folds(self, job: Job) -> None:
        """Train without each fold of the labelled rows in turn, and write the label logits of the held-out rows."""
        rows, targets = self._rows(job)
        held_out, parts = self._folds(), job.parts()
        job.facts.update(self._smaller_batches(len(targets) - max(map(len, held_out))))
        fold_logits = list(parts.load())
        for number, fold in list(enumerate(held_out))[len(fold_logits) :]:
            kept = np.setdiff1d(np.arange(len(targets)), fold)  # labelled rows come first; others stay in every fold
            seed_everything(self.teacher.seed)
            with self.models.new(self.pvp, normalised=self.settings.scores_vocabulary) as scorer:
                self._fit(scorer, rows, targets, job, kept, number, len(held_out))
                fold_logits.append(self._logits(scorer, [rows[index] for index in fold]))
            parts.save(number, fold_logits[-1])
        logits = np.full((len(self.task.train), len(self.task.labels)), ABSENT, np.float32)
        for fold, own in zip(held_out, fold_logits, strict=True):
            logits[fold] = widened(own, logits.shape[1])
        write_shard(job.folder, 0, {"logits": logits}, ragged=not self.task.label_kind.fixed)

    # -- rows ------------------------------------------------------------------------------------

    def _rows(self, job: Job) -> tuple[list[Encoded], NDArray[Any]]:
        """Return the labelled rows, those made up for the labels, then those that other teachers labelled, and all targets."""
        known, targets = self._encoded_known(self.teacher.pattern), self.task.targets(described=True)
        if not self.labellers:
            return known, targets
        settings = self.task.spec.generations
        counts = np.bincount(self.task.targets(), minlength=len(self.task.labels)).tolist()
        logits = (read_matrix(job.store.path(teacher_logits(other.name)), "logits") for other in self.labellers)
        probabilities = mean_probabilities(logits)  # (rows, labels)
        wanted = wanted_counts(counts, settings.scale, self.teacher.generation, settings.per_label_from_zero, len(probabilities))
        from_zero = not any(counts) and not self.labellers[0].trained
        drawn = draw_rows(probabilities, wanted, self.task.labels, teacher_random(self.teacher), most_likely=from_zero)
        if drawn.shortages:
            job.on_event(Notice(job.step, f"fewer unlabelled rows than wanted: {', '.join(drawn.shortages)}"))
        self._pseudo_labelled = drawn.rows
        return known + self._encoded_unlabeled(drawn.rows, self.teacher.pattern), np.concatenate([targets, drawn.labels])

    def _encoded_known(self, pattern: int) -> list[Encoded]:
        """Return the rows whose labels are given: the labelled ones, then those made up for the labels."""
        pvp, rows = self.task.pvps[pattern], self.task.tokens("train") if self.task.train else ()
        described = self.task.tokens(DESCRIPTIONS) if self.task.described else ()
        labelled = [pvp.encode(tokens, own=number) for number, tokens in enumerate(rows)]
        return labelled + [pvp.encode(tokens) for tokens in described]

    def _encoded_unlabeled(self, numbers: IndexArray, pattern: int) -> list[Encoded]:
        store, pvp = self.task.tokens("unlabeled"), self.task.pvps[pattern]
        return [pvp.encode(tokens) for tokens in store.take(numbers)]

    def _folds(self) -> list[IndexArray]:
        """Return the held-out labelled rows of each fold, stratified where each row has one label."""
        from sklearn.model_selection import KFold, StratifiedKFold

        targets = self.task.targets()
        folds = min(self.task.spec.soft_labels.folds, len(targets))
        kind: Any = KFold
        if targets.ndim == 1 and (least := int(np.bincount(targets).min())) >= 2:
            kind, folds = StratifiedKFold, min(folds, least)
        split = kind(folds, shuffle=True, random_state=self.teacher.seed)
        return [held_out for _, held_out in split.split(np.zeros(len(targets)), targets)]

    # -- model -----------------------------------------------------------------------------------

    def _fit(
        self,
        scorer: LabelScorer,
        rows: list[Encoded],
        targets: NDArray[Any],
        job: Job,
        kept: IndexArray | None = None,
        number: int = 0,
        count: int = 1,
    ) -> list[float]:
        """Train on all rows, or in the ``number``-th of ``count`` folds on those that are ``kept``; return the losses."""
        settings, done, total = self.settings, number * self.settings.steps, count * self.settings.steps
        freeze_lower(scorer.reader.model, settings.freeze)
        second, second_rows = self._second(scorer)
        if kept is not None:
            rows, targets = [rows[index] for index in kept], targets[kept]
            second_rows = [second_rows[index] for index in kept] if second_rows else []
        needs_text = settings.auxiliary_mlm_weight > 0
        unlabeled = partial(self._encoded_unlabeled, pattern=self.teacher.pattern) if needs_text else None
        data = TrainingRows(rows, torch.from_numpy(targets), second_rows, unlabeled)
        objective = TeacherObjective(settings, self.pvp, data, self.task.labels, self.task.tokenizer, self.device, second)
        a_pass = -(-len(rows) // rows_per_step(len(rows), settings.batch_size))  # steps until every row was seen
        return fit(
            scorer,
            self._step_rows(rows, needs_text),
            objective,
            settings.in_training,
            self.device,
            lambda step, loss: job.trained(done + step, total, loss),
            seed=self.teacher.seed,
            checkpoints=job.checkpoints(None if kept is None else number),
            new=list(scorer.own_parameters().values()),
            new_learning_rate=settings.new_learning_rate,
            finished=lambda losses: len(losses) >= a_pass and settings.learnt(losses),
        )

    def _second(self, scorer: LabelScorer) -> tuple[LabelScorer | None, list[Encoded]]:
        """Return a scorer of the next pattern with the same model, and the training rows under that pattern."""
        if self.settings.consistency.kind != "second_pattern":
            return None, []
        index = self.task.second_pattern(self.teacher.pattern)
        rows = self._encoded_known(index) + self._encoded_unlabeled(self._pseudo_labelled, index)
        pvp = self.task.pvps[index]
        if pvp.verbalizer.kind != "words":
            return scorer, rows  # label vectors score every pattern
        second = scorer_of(scorer.reader, pvp, normalised=self.settings.scores_vocabulary)
        return second.to(self.device.name).train(), rows

    def _step_rows(self, rows: Sequence[Encoded], needs_text: bool) -> Iterator[StepRows]:
        settings, seed = self.settings, self.teacher.seed
        labelled = training_batches([len(row.ids) for row in rows], settings.batch_size, settings.steps, seed)
        if not needs_text:
            return step_rows(labelled, None, seed)
        store = self.task.tokens("unlabeled")
        lengths = partial(store.row_lengths, self.pvp.pattern.keys)
        texts = drawn_batches(store.rows, lengths, settings.unlabeled_batch_size, settings.steps, seed + 1)
        return step_rows(labelled, texts, seed)

    def _smaller_batches(self, rows: int) -> dict[str, int]:
        settings, sizes = self.settings, {"batch_size": (rows, self.settings.batch_size)}
        if settings.auxiliary_mlm_weight > 0:
            sizes["unlabeled_batch_size"] = (self.task.scans["unlabeled"].rows, settings.unlabeled_batch_size)
        return smaller_batches(**sizes)

    def _logits(self, scorer: LabelScorer, rows: list[Encoded]) -> FloatArray:
        scorer.eval()
        return label_logits(scorer, rows, self.task.tokenizer, self.device, self.task.spec.compute.tokens_per_batch)

    def _accuracy(self, scorer: LabelScorer, rows: list[Encoded]) -> float:
        """Return the accuracy on the labelled rows (multi: of all yes-or-no decisions); 0 without any."""
        if not rows:
            return 0.0
        logits, targets = self._logits(scorer, rows), self.task.targets()
        right = (logits > 0) == (targets > 0) if targets.ndim == 2 else logits.argmax(axis=1) == targets
        return float(right.mean())


def describe(task: Task, teacher: Teacher) -> dict[str, Any]:
    """Return the settings with which a predictor scores rows as the teacher was trained to."""
    spec, pvp = task.spec, task.pvps[teacher.pattern]
    shown = pvp.demonstrations
    return {
        # A teacher's folder contains a model only where it has one of its own.
        **({} if teacher.trained and spec.teachers.adapted is None else {"model": spec.model}),
        **({} if spec.teachers.scoring == "auto" else {"scoring": spec.teachers.scoring}),
        "adapter": spec.teachers.adapter.model_dump(mode="json", exclude={"start"}),
        "pattern": spec.patterns[teacher.pattern].model_dump(mode="json", exclude={"verbalizer"}),
        "verbalizer": pvp.verbalizer.model_dump(mode="json", exclude={"descriptions"}),
        "demonstrations": None
        if shown is None
        else {"per_label": shown.per_label, "filled": [[ids.tolist() for ids in examples] for examples in shown.filled]},
        "fields": task.fields,
        "max_length": task.max_length,
        "truncate": spec.truncate,
        "seed": teacher.seed,
        "generation": teacher.generation,
    }
