"""A checked pipeline: labels, compiled patterns, scanned data and the list of teachers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import PipelineSpec, VerbalizerSpec
from petkit.data.candidates import Candidates
from petkit.data.drawing import drawn_numbers
from petkit.data.examples import Example, ExampleSource, Scan, targets_of
from petkit.data.groups import drawn_groups
from petkit.data.labels import alike
from petkit.engine.device import Device
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput
from petkit.events import Notice, OnEvent, ignore
from petkit.models.loading import model_fingerprint
from petkit.prompts.choices import ChoicePattern
from petkit.prompts.pattern import CompiledPattern, FieldKey, Pattern
from petkit.prompts.pvp import PVP, compile_pvps, task_fields, with_demonstrations
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.runs.fingerprint import Inputs
from petkit.runs.signals import stop_if_requested
from petkit.storage.row_array import HELD_ROWS
from petkit.task import checks
from petkit.task.checks import DESCRIPTIONS
from petkit.task.model_checks import backbones_of, four_bit_problems, teacher_setting_problems, with_learning_rate
from petkit.task.start_prompt import with_starts
from petkit.task.teacher_list import Teacher, list_teachers

# The accuracy of a teacher is then known to about three hundredths.
TEACHER_TEST_ROWS = 250


@dataclass(frozen=True)
class Task:
    """What all stages share; build it with :meth:`checked`.

    Attributes:
        pipeline: with the folders and sizes of the prompts that training starts from.
        start_inputs: per section (teachers, student) the fingerprint of that prompt.
        labels: in class order; where rows have candidates of their own, the numbers of as many as any row has.
        fields: those of all patterns, kept when some are dropped: the hashes of the data depend on them.
        pvps: the compiled patterns with their label words.
        max_length: tokens of a row, for the teachers' model.
        scans: part of the data → rows, hash and the first examples.
        scratch: folder for the arrays of large parts; None keeps everything in memory.
        stores: the tokenised parts of the data, shared with narrowed copies.
        on_event: receives what a tokenizer does not know, once a part of the data is tokenised.
    """

    pipeline: Pipeline
    start_inputs: Mapping[str, Inputs]
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    pvps: Sequence[PVP]
    tokenizer: PieceTokenizer
    max_length: int
    student_tokenizer: PieceTokenizer
    student_max_length: int
    scans: Mapping[str, Scan]
    scratch: Path | None = None
    stores: dict[str, TokenStore] = field(default_factory=dict)
    on_event: OnEvent = ignore

    @classmethod
    def checked(cls, pipeline: Pipeline) -> Task:
        """Check configuration, models, patterns, verbalizer and data, and build the task, or refuse it with all problems."""
        pipeline, start_inputs, problems = with_starts(pipeline)
        problems += four_bit_problems(pipeline)
        labels, found = checks.find_labels(pipeline)
        teacher, student, of_models = backbones_of(pipeline, labels)
        problems += found + of_models
        pvps: list[PVP] = []
        if teacher is not None:
            pvps, found = compile_pvps(pipeline, *teacher)
            problems += found + teacher_setting_problems(pipeline, teacher[0], pvps)
        problems += checks.label_problems(pipeline, labels)
        scans, found = checks.scan_data(pipeline, labels)
        problems += found
        train = scans["train"].head if "train" in scans else ()
        if "train" in scans and not scans["train"].problems:
            problems += checks.labelled_row_problems(pipeline, labels, train)
        problems += [] if problems else checks.teacher_problems(pipeline, len(labels), scans, len(train))
        if problems or teacher is None or student is None:
            raise InvalidInput(problems)
        pipeline = with_learning_rate(pipeline)
        if (candidates := Candidates.of(pipeline.spec.verbalizer.candidates)) is not None:
            names = candidates.fields(max(scan.candidates for scan in scans.values()))
            labels = tuple(map(str, range(len(names))))
            pvps = [pvp.for_candidates(names, teacher[0]) for pvp in pvps]
        task = cls(pipeline, start_inputs, task_fields(pipeline.spec.patterns), labels, pvps, *teacher, *student, scans)
        return task._with_demonstrations()

    def narrowed(self, patterns: Sequence[str], verbalizers: Mapping[str, VerbalizerSpec] | None) -> Task:
        """Return the task with some patterns only, and with the label words that were found for them."""
        chosen = tuple(entry for entry in self.spec.patterns if entry.id in patterns)
        pipeline = replace(self.pipeline, spec=self.spec.model_copy(update={"patterns": chosen}))
        pvps, problems = compile_pvps(pipeline, self.tokenizer, self.max_length, verbalizers)
        if problems:
            raise InvalidInput(problems)
        return replace(self, pipeline=pipeline, pvps=pvps)._with_demonstrations()

    def _with_demonstrations(self) -> Task:
        words_missing = any(len(pvp.words.words) < len(self.labels) for pvp in self.pvps)
        if self.spec.demonstrations.per_label == 0 or words_missing:
            return self
        rows, labels = list(self.tokens("train")), self.targets().tolist()
        pvps = [with_demonstrations(pvp, self.spec.demonstrations, self.tokenizer, rows, labels) for pvp in self.pvps]
        return replace(self, pvps=pvps)

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline's specification."""
        return self.pipeline.spec

    @property
    def train(self) -> Sequence[Example]:
        """The labelled rows."""
        return self.scans["train"].head if "train" in self.scans else ()

    @property
    def described(self) -> Sequence[Example]:
        """The rows made up for the labels, on which teachers train too."""
        return self.scans[DESCRIPTIONS].head if DESCRIPTIONS in self.scans else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about labels, their words and the files of rows, short of a mistake."""
        labels = self.spec.labels
        same = [f"labels {one!r} and {other!r} differ only in case or blanks" for one, other in alike(labels)]
        return (*same, *checks.unequal_words(self.pvps), *(note for scan in self.scans.values() for note in scan.notes))

    @cached_property
    def generations(self) -> Sequence[Sequence[Teacher]]:
        """The teachers of every generation."""
        spec = self.spec
        seeds, rows, described = spec.teachers.seeds, len(self.train), bool(self.described)
        return list_teachers(spec.patterns, seeds, spec.generations, rows, len(self.labels), described=described)

    @property
    def teachers(self) -> Sequence[Teacher]:
        """The teachers that label the unlabelled set: those of the last generation."""
        return self.generations[-1]

    @property
    def teacher_test_rows(self) -> NDArray[np.int64]:
        """The numbers of the test rows that teachers are evaluated on, rising; the same ones each time."""
        rows, wanted = self.scans["test"].rows, self.spec.evaluation.teachers
        if wanted == "none":
            return np.zeros(0, np.int64)
        if wanted == "all" or rows <= TEACHER_TEST_ROWS:
            return np.arange(rows)
        groups = self.scans["test"].groups
        return drawn_numbers(rows, TEACHER_TEST_ROWS) if groups is None else drawn_groups(groups, TEACHER_TEST_ROWS)

    @property
    def hard_weight(self) -> float:
        """The weight of the loss on labelled rows in stage C; 0 without them."""
        return self.spec.student.hard_weight if self.train else 0.0

    @property
    def label_kind(self) -> LabelKind:
        """How a row's labels and label logits are read."""
        return LabelKind(self.spec.label_kind) if self.candidates is None else LabelKind.CANDIDATES

    @property
    def candidates(self) -> Candidates | None:
        """Where rows have candidates of their own; None: all rows have the same labels."""
        return Candidates.of(self.spec.verbalizer.candidates)

    @property
    def fixed_labels(self) -> tuple[str, ...]:
        """The labels that all rows have; none where they have candidates, however many those are."""
        return self.labels if self.label_kind.fixed else ()

    @property
    def reading(self) -> dict[str, object]:
        """How the data's columns are read; recorded so that predictions read new files the same way."""
        data = self.spec.data
        more: dict[str, object] = {} if data.empty is None else {"empty": data.empty}
        more |= {} if self.candidates is None else {"candidates": self.spec.verbalizer.candidates}
        return {"columns": data.columns, "label_names": data.label_names, "label_separator": data.label_separator, **more}

    @cached_property
    def model_hash(self) -> str:
        """Hash of the teachers' backbone."""
        return model_fingerprint(self.spec.model)

    @cached_property
    def student_model_hash(self) -> str:
        """Hash of the student's backbone."""
        return model_fingerprint(self.spec.student_model)

    @cached_property
    def student_pattern(self) -> CompiledPattern:
        """The maskless pattern a student reads."""
        if self.candidates is not None:
            names = self.candidates.fields(len(self.labels))
            return ChoicePattern(self.fields, names, self.student_tokenizer, self.student_max_length, self.spec.truncate)
        plain = Pattern.plain(self.fields, pairs=self.student_tokenizer.distinguishes_pairs)
        return CompiledPattern(plain, self.student_tokenizer, self.student_max_length, self.spec.truncate, verbatim=True)

    def start_hash(self, section: str) -> str | None:
        """Return the hash of the prompt that the adapter of ``teachers`` or ``student`` starts from."""
        start = self.start_inputs[section].get(f"{section}.adapter.start")
        return None if start is None else str(start)

    def second_pattern(self, pattern: int) -> int:
        """Return the index of the pattern that consistency compares with: the next one of another text, if there is one."""
        patterns, count = self.spec.patterns, len(self.pvps)
        following = [(pattern + step) % count for step in range(1, count)]
        return next((other for other in following if patterns[other].text != patterns[pattern].text), following[0])

    def common_inputs(self, device: Device) -> Inputs:
        """Return the inputs that every trained step depends on.

        Left out because they cannot change a result beyond rounding: compute.device, compute.threads,
        compute.tokens_per_batch, file names, and column names.
        """
        return {
            "labels": list(self.fixed_labels),
            "label_kind": self.label_kind.value,
            "truncate": self.spec.truncate,
            "precision": device.precision,
        }

    def unlabeled_inputs(self) -> Inputs:
        """Return the inputs of logits on the unlabelled set: its rows, and the labels in class order."""
        return {"labels": list(self.fixed_labels), **self.unlabeled_rows()}

    def unlabeled_rows(self) -> Inputs:
        """Return the hash of the unlabelled rows and, where they are a sample, their number, which explains another hash."""
        scan = self.scans["unlabeled"]
        drawn = {} if scan.sample is None else {"soft_labels.rows": scan.rows}
        return {"data.unlabeled": scan.sha256, **drawn}

    def source(self, part: str) -> ExampleSource:
        """Return ``train``, ``unlabeled`` or ``test`` as a stream of examples."""
        return checks.source_of(self.spec, self.fields, self.labels, part)

    def shown(self, part: str) -> str:
        """Return how messages call a part of the data."""
        return f"verbalizer.{part}" if part == DESCRIPTIONS else self.source(part).shown

    def targets(self, *, described: bool = False) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return the labels of the labelled rows: class indices ``(rows,)``, or 0 and 1 ``(rows, labels)`` (multi).

        Args:
            described: also those of the rows made up for the labels, after the others.
        """
        rows = [*self.train, *(self.described if described else ())]
        if self.label_kind.multi:
            return targets_of(rows, len(self.labels))
        return np.array([example.label for example in rows], np.int64)

    def rows(self, part: str) -> Iterator[Example]:
        """Yield the rows of a part of the data; they must be those that were checked and hashed at the start."""
        return self._rows(part, self.scans[part])

    def _rows(self, part: str, scan: Scan) -> Iterator[Example]:
        for example in self.source(part).unchanged(scan):
            stop_if_requested()  # millions of rows take minutes to read and tokenise
            yield example

    def sampled_tokens(self, part: str, most: int) -> list[dict[FieldKey, IntArray]]:
        """Return the token ids of the rows of a part of the data, of ``most`` drawn at random where it has more."""
        store = self.tokens(part, most=most)
        return store.take(np.arange(store.rows) if store.rows <= most else drawn_numbers(store.rows, most))

    def tokens(self, part: str, *, student: bool = False, most: int | None = None) -> TokenStore:
        """Return the token ids of a part of the data, tokenised once per tokenizer for all patterns.

        Args:
            most: how many of the rows are needed, drawn at random; where all are tokenised already, the store has all.
        """
        shared = self.student_tokenizer is self.tokenizer and self.student_max_length == self.max_length
        apart = student and not shared
        keys = [] if apart else [key for pvp in self.pvps for key in pvp.keys]
        keys += self.student_pattern.keys if apart or shared else []
        name = f"{part}-{'student' if apart else 'teachers'}"
        scan = self.scans[part]
        if most is not None and name not in self.stores and scan.rows > most:
            name, scan = f"{name}-{most}", scan.drawn(most)
        if name not in self.stores:
            tokenizer = self.student_tokenizer if apart else self.tokenizer
            self.stores[name] = store = TokenStore.build(
                scan.head if part in ("train", DESCRIPTIONS) else self._rows(part, scan),
                tokenizer,
                list(dict.fromkeys(keys)),
                self.student_max_length if apart else self.max_length,
                self.spec.truncate,
                self.scratch_of(part, name),
            )
            if store.legibility and (remark := store.legibility.remark(self.shown(part), tokenizer.name)):
                self.on_event(Notice("data", remark))
        return self.stores[name]

    def scratch_of(self, part: str, name: str) -> Path | None:
        """Return a folder for an array with one entry per row of a part of the data; None where it fits in memory."""
        return self.scratch / name if self.scratch is not None and self.scans[part].rows > HELD_ROWS else None
