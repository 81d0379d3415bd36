"""A pipeline made ready: every file read once, every mistake found, patterns compiled, rows counted and hashed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petkit import limits
from petkit.config.caps import too_many_teachers
from petkit.config.loader import Pipeline
from petkit.config.rules import in_prior
from petkit.config.schema import VerbalizerSpec
from petkit.data.examples import Example, ExampleSource, Scan, targets_of
from petkit.engine.device import Device
from petkit.errors import InvalidInput, Problem, did_you_mean, listed
from petkit.models.loading import model_fingerprint
from petkit.prompts.pattern import CompiledPattern, FieldKey, Pattern
from petkit.prompts.pvp import PVP, compile_pvps, task_fields, with_demonstrations
from petkit.prompts.token_store import TokenStore
from petkit.runs.fingerprint import Inputs
from petkit.runs.signals import stop_if_requested
from petkit.storage.row_array import HELD_ROWS
from petkit.task.causal_rules import refused_of
from petkit.task.label_discovery import labels_in
from petkit.task.model_checks import backbone_of, without_four_bits
from petkit.task.start_prompt import with_starts
from petkit.task.teacher_list import Teacher, generation_count, list_teachers, others


class Task:
    """Everything the stages share. Building it checks the whole input and writes nothing.

    Raises:
        InvalidInput: all mistakes in configuration, data, patterns and verbalizer, at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        pipeline, self.start_inputs, problems = with_starts(pipeline)
        self.pipeline = pipeline
        self.spec = spec = pipeline.spec
        self.fields = task_fields(spec.patterns)
        problems += without_four_bits(pipeline)
        self.labels = spec.labels or self._labels_of_train(problems)
        self.pvps: list[PVP] = []
        self.max_length = self.student_max_length = spec.max_length
        teacher = backbone_of("teachers", pipeline, self.labels, problems)
        found: list[Problem] = []
        student = backbone_of("student", pipeline, self.labels, found)
        if teacher is not None or spec.student_model != spec.model:  # one line for one model
            problems += found
        if teacher is not None:
            self.tokenizer, self.max_length = teacher
            self.pvps, found = compile_pvps(pipeline, self.tokenizer, self.max_length)
            problems += found + refused_of(pipeline, self.tokenizer) + self._unanswerable()
        if spec.verbalizer.auto is not None and self.labels:  # where labels are written down, the file's own check knows them
            wrong = in_prior(spec.soft_labels.prior, self.labels)
            auto, needed = spec.verbalizer.auto, len(self.labels) * spec.verbalizer.auto.per_label
            if auto.candidates < needed:
                message = (
                    f"{auto.candidates} candidates are too few: {len(self.labels)} labels of {auto.per_label} words need {needed}"
                )
                problems.append(pipeline.problem(("verbalizer", "auto", "candidates"), message))
            problems += [pipeline.problem(("soft_labels", *place), message) for place, message in wrong]
        if student is not None:
            self.student_tokenizer, self.student_max_length = student
            if teacher is not None and spec.student_model == spec.model:
                self.student_tokenizer = self.tokenizer
            contrastive = spec.student.contrastive
            hides = spec.student.consistency_weight or (contrastive.weight and contrastive.partners == "masked_view")
            if hides and self.student_tokenizer.hf.mask_token_id is None:
                message = f"hides tokens behind a mask, and {self.student_tokenizer.name} has none"
                problems.append(pipeline.problem(("student", "consistency_weight"), message))
        self.train: list[Example] = []
        self.scans: dict[str, Scan] = {}
        if self._fields_exist(problems):
            self._read_data(problems)
        problems += [] if problems else self._too_few_teachers()
        if problems:
            raise InvalidInput(problems)
        self.generations = list_teachers(spec.patterns, spec.teachers.seeds, spec.generations, len(self.train), len(self.labels))
        self._tokens: dict[tuple[str, bool], TokenStore] = {}
        self.scratch: Path | None = None
        self._demonstrate()

    # -- what the stages ask for -----------------------------------------------------------------

    @cached_property
    def model_hash(self) -> str:
        """Hash of the teachers' backbone."""
        return model_fingerprint(self.spec.model)

    @cached_property
    def student_model_hash(self) -> str:
        """Hash of the student's backbone."""
        same = self.spec.student_model == self.spec.model  # gigabytes need not be read twice
        return self.model_hash if same else model_fingerprint(self.spec.student_model)

    @cached_property
    def student_pattern(self) -> CompiledPattern:
        """The maskless pattern a student reads."""
        plain = Pattern.plain(self.fields, pairs=self.student_tokenizer.distinguishes_pairs)
        return CompiledPattern(plain, self.student_tokenizer, self.student_max_length, self.spec.truncate)

    def start_hash(self, section: str) -> str | None:
        """Return the hash of the prompt that the adapter of ``teachers`` or ``student`` starts from, as it was checked."""
        found = self.start_inputs[section].get(f"{section}.adapter.start")
        return None if found is None else str(found)

    @property
    def teachers(self) -> list[Teacher]:
        """The teachers that label the unlabelled set: those of the last generation."""
        return self.generations[-1]

    def second_pattern(self, pattern: int) -> int:
        """Return the index of the pattern that consistency compares with: the next one."""
        return (pattern + 1) % len(self.pvps)

    @property
    def hard_weight(self) -> float:
        """The share of the gold-label loss in stage C; without labelled rows there is none."""
        return self.spec.student.hard_weight if self.train else 0.0

    @property
    def reading(self) -> dict[str, object]:
        """How the data's columns are read; recorded so that predictions read new files the same way."""
        data = self.spec.data
        return {"columns": data.columns, "label_names": data.label_names, "label_separator": data.label_separator}

    def source(self, part: str) -> ExampleSource:
        """Return ``train``, ``unlabeled`` or ``test`` as a stream of examples."""
        labels = None if part == "unlabeled" else self.labels or None
        most = limits.LABELLED_ROWS if part == "train" else None  # they are held in memory
        return ExampleSource(getattr(self.spec.data, part), self.spec.data, self.fields, labels, self.spec.label_kind, most)

    def targets(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return the labels of the few-shot examples: class indices ``(rows,)``, or ``(rows, labels)`` of 0 and 1 (multi)."""
        if self.spec.label_kind == "multi":
            return targets_of(self.train, len(self.labels))
        return np.array([example.label for example in self.train], np.int64)

    def rows(self, part: str) -> Iterator[Example]:
        """Yield the rows of a part of the data; they must be those that were checked and hashed at the start."""
        for example in self.source(part).unchanged(self.scans[part]):
            stop_if_requested()  # millions of rows take minutes to read and tokenise
            yield example

    def tokens(self, part: str, *, student: bool = False) -> TokenStore:
        """Return the token ids of a part of the data, tokenised once per tokenizer for all patterns."""
        shared = self.student_tokenizer is self.tokenizer and self.student_max_length == self.max_length
        key = (part, student and not shared)
        if key not in self._tokens:
            tokenizer = self.student_tokenizer if key[1] else self.tokenizer
            folder = self.scratch_of(part, f"{part}-{'student' if key[1] else 'teachers'}")
            rows = self.train if part == "train" else self.rows(part)
            limit = self.student_max_length if key[1] else self.max_length
            self._tokens[key] = TokenStore.build(rows, tokenizer, self._keys(key[1], shared), limit, self.spec.truncate, folder)
        return self._tokens[key]

    def scratch_of(self, part: str, name: str) -> Path | None:
        """Return a folder for what there is of each row of a part of the data; None where the rows are few enough to hold it."""
        return self.scratch / name if self.scratch is not None and self.scans[part].rows > HELD_ROWS else None

    def common_inputs(self, device: Device) -> Inputs:
        """Return the inputs that every trained step depends on.

        Left out because they cannot change a result beyond rounding: compute.device, compute.threads,
        compute.tokens_per_batch, file names, and column names.
        """
        return {
            "labels": list(self.labels),
            "label_kind": self.spec.label_kind,
            "truncate": self.spec.truncate,
            "precision": device.precision,
        }

    def unlabeled_inputs(self) -> Inputs:
        """Return what logits on the unlabelled set belong to: its rows, and the labels in class order."""
        return {"labels": list(self.labels), "data.unlabeled": self.scans["unlabeled"].sha256}

    def narrowed(self, patterns: Sequence[str], verbalizers: Mapping[str, VerbalizerSpec] | None) -> Task:
        """Return the workload of some patterns only, with the label words that were found for them."""
        spec = self.spec.model_copy(update={"patterns": tuple(entry for entry in self.spec.patterns if entry.id in patterns)})
        narrow = copy(self)
        narrow.pipeline = replace(self.pipeline, spec=spec)
        narrow.spec = spec
        narrow.pvps, problems = compile_pvps(narrow.pipeline, self.tokenizer, self.max_length, verbalizers)
        if problems:
            raise InvalidInput(problems)
        narrow.generations = list_teachers(
            spec.patterns, spec.teachers.seeds, spec.generations, len(self.train), len(self.labels)
        )
        narrow._demonstrate()
        return narrow

    # -- checks ----------------------------------------------------------------------------------

    def _labels_of_train(self, problems: list[Problem]) -> tuple[str, ...]:
        """Return the labels of the few-shot examples, where the verbalizer names none; none where they cannot be told."""
        if self.spec.data.label_names is not None:
            return self.spec.data.label_names
        try:
            return labels_in(str(self.spec.data.train), self.spec.data, ordinal=self.spec.label_kind == "ordinal")
        except InvalidInput as error:
            # What is wrong with the file as a whole is told when its rows are read.
            problems += [problem for problem in error.problems if problem.key]
            return ()

    def _unanswerable(self) -> list[Problem]:
        """Say where the pattern file asks for what the verbalizer or the other patterns cannot give."""
        spec = self.spec
        found: list[Problem] = []
        soft = [index for index, pvp in enumerate(self.pvps) if pvp.pattern.soft_tokens]
        if spec.teachers.consistency.kind == "second_pattern" and soft:
            message = f"second_pattern shares one model between patterns, and pattern {self.pvps[soft[0]].id!r} has soft tokens"
            found.append(self.pipeline.problem(("teachers", "consistency", "kind"), message, "use word_masking"))
        if spec.teachers.consistency.kind == "second_pattern" and spec.keep_patterns == 1:
            message = "second_pattern needs two patterns, and keep_patterns leaves one"
            found.append(self.pipeline.problem(("teachers", "consistency", "kind"), message))
        if spec.verbalizer.kind != "words" and spec.teachers.loss in ("decoupled_label", "next_token"):
            message = f"{spec.teachers.loss} needs words, and verbalizer.kind is {spec.verbalizer.kind}"
            found.append(self.pipeline.problem(("teachers", "loss"), message))
        return found

    def _too_few_teachers(self) -> list[Problem]:
        """Say where a later generation would have nobody else, or nothing, to learn from."""
        spec, rows = self.spec, len(self.train)
        kept = spec.patterns if spec.keep_patterns == "all" else spec.patterns[: spec.keep_patterns]
        trained = 1 + generation_count(spec.generations, rows, len(self.labels))
        told = too_many_teachers(len(kept), len(spec.teachers.seeds), trained)
        if told:
            return [self.pipeline.problem(("generations", "count"), told)]
        generations = list_teachers(kept, spec.teachers.seeds, spec.generations, rows, len(self.labels))
        if len(generations) > 1 and not rows and self.scans["unlabeled"].rows < len(self.labels):
            message = f"{self.scans['unlabeled'].rows} rows cannot teach {len(self.labels)} labels"
            return [self.pipeline.problem(("data", "unlabeled"), message, "add unlabelled rows")]
        for before, generation in pairwise(generations):
            if any(not others(teacher, before) for teacher in generation):
                message = "each teacher learns from others, and there is no other"
                hint = "add a pattern or a seed" if rows else "add a pattern: without labelled rows seeds do not differ"
                return [self.pipeline.problem(("generations", "count"), message, hint)]
        return []

    def _demonstrate(self) -> None:
        """Give the PVPs their demonstrations."""
        to_be_found = any(len(pvp.words.words) < len(self.labels) for pvp in self.pvps)
        if self.spec.demonstrations.per_label == 0 or to_be_found:
            return
        rows = list(self.tokens("train"))
        labels = [int(label) for label in self.targets()]
        self.pvps = [with_demonstrations(pvp, self.spec.demonstrations, self.tokenizer, rows, labels) for pvp in self.pvps]

    def _fields_exist(self, problems: list[Problem]) -> bool:
        """Check the patterns' fields against the columns of the labelled file."""
        try:
            columns = dict.fromkeys(self.source("unlabeled" if self.spec.data.train is None else "train").columns())
        except InvalidInput:
            return True  # reading the data reports it
        data = self.spec.data
        if not columns:
            return True
        sound = True
        for index, spec in enumerate(self.spec.patterns):
            for field in Pattern.from_spec(spec).fields:
                gives_away = data.column(field) == data.column("label")
                if data.column(field) in columns and not gives_away:
                    continue
                sound = False
                usable = listed([column for column in columns if column != data.column("label")])
                fault = (
                    f"{{{field}}} gives the label away" if gives_away else f"unknown field {{{field}}}; the data has: {usable}"
                )
                hint = "leave it out" if gives_away else f"or map it: data.columns: {{{field}: its column}}"
                if field == "soft":
                    hint = "trained tokens are written with their number: {soft:3}"
                problems.append(self.pipeline.problem(("patterns", index, "text"), f"pattern {spec.id!r}: {fault}", hint, key=""))
        known = {*self.fields, "label", "id"}
        for field in data.columns:
            if field not in known:
                hint = did_you_mean(field, sorted(known))
                problems.append(self.pipeline.problem(("data", "columns", field), "no pattern uses this field", hint))
        return sound

    def _read_data(self, problems: list[Problem]) -> None:
        parts = [part for part in ("train", "unlabeled", "test") if getattr(self.spec.data, part) is not None]
        for part in parts:
            scan = self.source(part).scan()
            self.scans[part] = scan
            for found in scan.problems:
                # A file that is not there is a mistake in the pipeline: say where it is named.
                named = found.line is None and found.message == "no such file"
                problems.append(self.pipeline.problem(("data", part), f"{found.file}: no such file") if named else found)
        if "train" not in self.scans or self.scans["train"].problems:
            return
        self.train = list(self.rows("train"))
        if self.spec.soft_labels.out_of_fold and len(self.train) == 1:
            key = "weighting" if self.spec.soft_labels.weighting == "out_of_fold" else "teacher_temperature"
            message = "out_of_fold needs two labelled rows, and there is one"
            problems.append(self.pipeline.problem(("soft_labels", key), message, "add an example"))
        counts = Counter(label for example in self.train for label in example.labels)
        for index, label in enumerate(self.labels):
            if self.spec.verbalizer.auto is not None and counts[index] == 1:
                message = f"label {label!r} has one row in {self.source('train').shown}; label words cannot be found on it"
                problems.append(self.pipeline.problem(("verbalizer", "auto"), message, "add an example or name the words"))
            if not counts[index]:
                message = f"label {label!r} has no row in {self.source('train').shown}"
                problems.append(
                    self.pipeline.problem(("verbalizer", "labels", label), message, "add examples or remove the label", key="")
                )

    def _keys(self, student_only: bool, shared: bool) -> Sequence[FieldKey]:
        keys = [] if student_only else [key for pvp in self.pvps for key in pvp.pattern.keys]
        if student_only or shared:
            keys += self.student_pattern.keys
        return list(dict.fromkeys(keys))
