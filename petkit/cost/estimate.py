"""Estimate of a run before it starts: bytes by formulas, times of finished steps or from a few timed forward passes."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from petkit.config.schema.training import StudentSpec, TeachersSpec
from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.errors import InvalidInput, Problem
from petkit.events import STAGES, Stage
from petkit.formatting import duration, size
from petkit.models.batch import Batch
from petkit.models.loading import scoring_by
from petkit.models.size import ModelSize, model_size
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import tokenised
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.runs.layout import EVALUATION, SOFT_LABELS, STUDENT
from petkit.runs.step import Step
from petkit.runs.store import WORK, RunStore
from petkit.storage.parquet_shards import SHARD_ROWS
from petkit.storage.row_array import HELD_ROWS
from petkit.student.model import untrained_student
from petkit.task.task import Task
from petkit.teachers.models import teacher_models

_CLEARLY = 0.9  # a run is refused below this share of the disk it needs: the estimate may be a little too high
_FLOAT = 4  # bytes
_PER_TRAINED = 3 * _FLOAT  # bytes: a parameter's gradient and AdamW's two moments; in a checkpoint, itself and the moments
_STOPPED_AFTER, _FEWEST_STEPS = 0.3, 8  # of a teacher that stops where it has learnt: 14 to 32 of 100 steps were made
_ADAPTER_SHARE = 0.02  # of the model's parameters: an upper guess, as adapters differ with their options
_TOKENIZER_ENTRY, _ROW = 60, 40  # bytes of files: per token of a tokenizer, per row in addition to its logits
_PROCESS = 550_000_000  # bytes of Python and the libraries once models are loaded


@dataclass(frozen=True)
class Cost:
    """Seconds, bytes of peak memory, and bytes written, of some steps."""

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Disk:
    """Disk space that a run needs, and that is free where its folder is; a run does without ``checkpoints``."""

    written: int
    passing: int
    checkpoints: int
    free: int

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return self.written + self.passing

    def summary(self) -> str:
        """One line for the terminal."""
        line = f"disk: {size(self.written)} to be written"
        line += f", {size(self.passing)} more while it works" if self.passing else ""
        line += f", up to {size(self.checkpoints)} for checkpoints" if self.checkpoints else ""
        line += f"; {size(self.free)} are free"
        if self.free < _CLEARLY * self.needed:
            return f"{line}: too little, the run will not start"
        if self.free < self.needed:
            return f"{line}: perhaps too little"
        return f"{line}: too little for checkpoints" if self.free < self.needed + self.checkpoints else line


@dataclass(frozen=True)
class Estimate:
    """Costs of the steps to do, by stage and in total; ``left_out`` names the steps whose time is not counted."""

    stages: Mapping[Stage, Cost]
    total: Cost
    disk: Disk
    timed: str
    device: str
    left_out: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        lines = [f"{'estimate':12}{'time':>12}{'memory':>12}{'disk':>12}"]
        named = [(f"stage {stage}" if len(stage) == 1 else stage, cost) for stage, cost in self.stages.items()]
        for name, cost in [*named, ("in all", self.total)]:
            lines.append(f"{name:12}{duration(cost.seconds):>12}{size(cost.memory):>12}{size(cost.disk):>12}")
        where = "" if self.device == "cpu" else f", memory is that of {self.device}"
        lines.append(self.disk.summary())
        lines.append(f"A guess: disk to some per cent, memory to a third, time to a factor of two (from {self.timed}){where}.")
        return lines + ([f"Not counted: {', '.join(self.left_out)}."] if self.left_out else [])


@dataclass
class Trained:
    """A model to be trained, the first unlabelled rows as it reads them, and the seconds of a plain training step once measured."""

    settings: TeachersSpec | StudentSpec
    size: ModelSize
    rows: Sequence[Encoded]
    step_seconds: float = 0.0
    copies: int = 1  # how often each row is read in a step

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.size.parameters if self.settings.adapted is None else int(_ADAPTER_SHARE * self.size.parameters)

    @property
    def depth(self) -> float:
        """Share of the layers that are trained; the backward pass, twice a forward one, ends below them."""
        layers, frozen = self.size.layers, self.settings.freeze
        named = {"none": 0, "embeddings": 0, "half": layers // 2}
        return 1 - (named[frozen] if isinstance(frozen, str) else frozen) / max(1, layers)

    def cost(self, loading: float, base: int) -> Cost:
        """Return the cost of a training, which writes the model or its adapter."""
        model, settings, length = self.size, self.settings, max(row.longest for row in self.rows)
        whole = settings.adapted is None or (isinstance(settings, StudentSpec) and settings.adapted.mergeable)
        # Activations kept: Korthikanti et al. (2022), equation 1, in float32 and with attention as a matrix of its own.
        rows = settings.batch_size * self.copies
        kept = self.depth * model.layers * rows * length * (66 * model.hidden + 9 * model.heads * length)
        memory = base + _FLOAT * model.parameters + _PER_TRAINED * self.parameters + int(kept * passes(settings))
        disk = _FLOAT * model.parameters + _TOKENIZER_ENTRY * model.vocabulary if whole else _FLOAT * self.parameters
        step_seconds = self.step_seconds * passes(settings) * (1 + 2 * self.depth) / 3
        steps: float = settings.steps
        if isinstance(settings, TeachersSpec) and settings.stops_below > 0:
            steps = max(min(steps, _FEWEST_STEPS), _STOPPED_AFTER * steps)
        return Cost(loading + steps * step_seconds, memory, disk)


class StepCosts:
    """The costs of a pipeline's steps, from its first unlabelled rows and the sizes of its models."""

    def __init__(self, task: Task, device: Device) -> None:
        self.task, self.device, spec, pattern = task, device, task.spec, task.student_pattern
        self.labels, self.rows = len(task.labels), task.scans["unlabeled"].rows
        self.loading = self.scoring = 0.0  # seconds of the teachers' model, and of it per row, once measured
        texts = [row.fields for row in task.scans["unlabeled"].head]
        encoded = task.pvps[0].encode_texts(texts, task.tokenizer)
        # A discriminator reads a row with each label word.
        judges = scoring_by(spec.model, spec.teachers.scoring) == "replaced_token"
        copies = max(sum(map(len, pvp.words.words)) for pvp in task.pvps) if judges else _most_sequences(encoded)
        self.teacher = Trained(spec.teachers, model_size(spec.model), encoded, copies=copies)
        plain = [pattern.encode(tokens) for tokens in tokenised(texts, pattern, task.student_tokenizer)]
        classes = self.labels if task.label_kind.fixed else 1  # a multiple-choice model gives each candidate one logit
        self.student = Trained(spec.student, model_size(spec.student_model, classes), plain, copies=_most_sequences(plain))

    def of(self, step: str) -> Cost:
        """Return the cost of a step; of the time without a model only that of tokenising a row is counted, with 0.1 ms."""
        task, spec, size, floats = self.task, self.task.spec, self.teacher.size, self.labels * _FLOAT
        base = _PROCESS if self.device.name == "cpu" else 0
        if step == SOFT_LABELS:
            return Cost(self.rows * 1e-4, base + 10 * SHARD_ROWS * floats * len(task.teachers), self.rows * (floats + _ROW))
        if step == STUDENT:
            return self.student.cost(self.loading, base)
        # Scoring needs the weights and the widest layer of a batch.
        memory = base + _FLOAT * (size.parameters + spec.compute.tokens_per_batch * (2 * size.inner + 6 * size.hidden))
        if step == EVALUATION or step.startswith("baselines/"):
            rows = task.scans["test"].rows
            sample = len(task.teacher_test_rows) if step == EVALUATION else rows
            teachers = (len(task.pvps) + sum(teacher.trained for teacher in task.teachers)) * (sample > 0)
            seconds = (teachers + 1) * self.loading + (teachers * sample + rows) * self.scoring
            return Cost(seconds, memory, rows * (floats + _ROW))
        if step.endswith("/logits"):
            return Cost(self.loading + self.rows * self.scoring, memory, self.rows * floats)
        cost = self.teacher.cost(self.loading, base)
        folds = min(spec.soft_labels.folds, len(task.train))
        return replace(cost, seconds=folds * cost.seconds, disk=0) if step.endswith("/folds") else cost

    def disk(self, store: RunStore, todo: Sequence[Step]) -> Disk:
        """Return the disk space that steps need: their files, temporary ones (token ids, soft labels) and checkpoints."""
        numbers = sum(fmean(len(row.ids) for row in model.rows) for model in (self.teacher, self.student))
        numbers += (self.labels + 3) * any(step.stage == "c" for step in todo)
        passing = int(self.rows * numbers * _FLOAT) if self.rows > HELD_ROWS else 0
        # The last checkpoint is removed only when the next is whole; what a killed run left, before anything is written.
        trained = {"a": self.teacher.parameters, "c": self.student.parameters}
        checkpoints = 2 * _PER_TRAINED * max(trained.get(step.stage, 0) * ("/logits" not in step.name) for step in todo)
        left = sum(Path(place, name).lstat().st_size for place, _, files in os.walk(store.folder / WORK) for name in files)
        return Disk(sum(self.of(step.name).disk for step in todo), passing, checkpoints, store.free_bytes() + left)

    def measure(self) -> None:
        """Time some seconds of forward passes, three of which take as long as a training step; torch's random state stays."""
        task, spec, device = self.task, self.task.spec, self.device

        def seconds(scorer: Callable[[Batch], Tensor], model: Trained, tokenizer: PieceTokenizer, count: int) -> float:
            """Score so many rows, again until that takes long enough; the first time warms up, and counts only if it is long."""
            rows = list(islice(cycle(model.rows), count))
            for calls in (1, 2, 4, 8, 16):
                started = time.perf_counter()
                for _ in range(calls):
                    label_logits(scorer, rows, tokenizer, device, spec.compute.tokens_per_batch)
                spent = time.perf_counter() - started
                if spent > (5 if calls == 1 else 1):
                    break
            return spent / calls

        models = teacher_models(spec.model, spec.teachers.adapted, device, task.start_hash("teachers"), spec.teachers.scoring)
        with torch.random.fork_rng(devices=[]):
            started = time.perf_counter()
            with models.untrained(task.pvps[0]) as scorer:
                self.loading = time.perf_counter() - started
                self.scoring = seconds(scorer, self.teacher, task.tokenizer, 64) / 64
                self.teacher.step_seconds = 3 * seconds(scorer, self.teacher, task.tokenizer, spec.teachers.batch_size)
            del scorer  # which would keep the backbone in memory
            models.release()
            student = untrained_student(task, device).to(device.name).eval()
            self.student.step_seconds = 3 * seconds(student, self.student, task.student_tokenizer, spec.student.batch_size)


def room_for(task: Task, store: RunStore, device: Device, todo: Sequence[Step]) -> Disk:
    """Return the disk space that the steps to do need, and what is free; refuse what is clearly too little."""
    if not todo:
        return Disk(0, 0, 0, store.free_bytes())
    disk = StepCosts(task, device).disk(store, todo)
    if disk.free < _CLEARLY * disk.needed:
        needs = f"{size(disk.written)}" + (f", and about {size(disk.passing)} more while it works" if disk.passing else "")
        message = f"too little disk: the run writes about {needs}; {size(disk.free)} are free"
        hint = "free some, choose another --out, or use fewer teachers.seeds; teachers.adapter: lora writes far less"
        raise InvalidInput([Problem.of_file(store.shown, message, hint)])
    return disk


def estimate(task: Task, store: RunStore, device: Device, steps: Sequence[Step], todo: Sequence[Step]) -> Estimate | None:
    """Return the costs of the steps to do, of all ``steps``; finished ones give the time of others of their kind."""
    if not todo:
        return None
    model, recorded, timed = StepCosts(task, device), defaultdict[tuple[str, str], list[float]](list), "finished steps"
    kinds = {step.name: (step.stage, step.name.rpartition("/")[2]) for step in steps}
    for step in steps:
        took = store.facts(step.name).get("seconds")
        # What it was made from may have changed since: that takes the same time.
        unchanged = store.status(step.name, step.all_inputs(store), unknown=step.needs).state == "finished"
        if unchanged and isinstance(took, int | float):
            recorded[kinds[step.name]].append(took)
    seconds = {step.name: fmean(recorded[kinds[step.name]]) for step in todo if kinds[step.name] in recorded}
    left_out = tuple(step.name for step in todo if step.name not in seconds and step.name.startswith("baselines/"))
    if len(seconds) + len(left_out) < len(todo):
        timed = f"{timed} and a short measurement" if seconds else "a short measurement"
        model.measure()
    seconds |= dict.fromkeys(left_out, 0.0)
    costs = [(step.stage, replace(cost := model.of(step.name), seconds=seconds.get(step.name, cost.seconds))) for step in todo]
    stages = {stage: _together(own) for stage in STAGES if (own := [cost for of, cost in costs if of == stage])}
    return Estimate(stages, _together(stages.values()), model.disk(store, todo), timed, device.name, left_out)


def _most_sequences(rows: Sequence[Encoded]) -> int:
    """Return how many sequences any of these rows is read as."""
    return max(len(row.sequences) for row in rows)


def passes(settings: TeachersSpec | StudentSpec) -> float:
    """Number of times the rows of a step go through the trained model; a forward pass of another is a third of one."""
    both = 1 + (settings.r_drop_weight > 0) + (settings.contrastive.weight > 0 and settings.contrastive.partners == "masked_view")
    if isinstance(settings, StudentSpec):
        gold = settings.gold_batch_size / settings.batch_size if settings.hard_weight else 0
        return both + gold + (settings.consistency_weight > 0) + (1 / 3 if settings.feature_weight else 0)
    masked = settings.unlabeled_batch_size / settings.batch_size if settings.auxiliary_mlm_weight else 0
    return both + masked + (settings.consistency.kind != "none") + (settings.label_conditioning_weight > 0)


def _together(costs: Collection[Cost]) -> Cost:
    return Cost(sum(cost.seconds for cost in costs), max(cost.memory for cost in costs), sum(cost.disk for cost in costs))
