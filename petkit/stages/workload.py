"""A pipeline made ready: every file read once, every mistake found, patterns compiled, rows counted and hashed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from petkit.errors import InvalidInput, ModelRefused, Problem, did_you_mean
from petkit.lm.arithmetic import Arithmetic
from petkit.lm.backbone import (
    EMBEDDED,
    check_masked_lm,
    load_config,
    load_masked_lm,
    load_tokenizer,
    longest_input,
    model_fingerprint,
    new_classifier,
)
from petkit.runs.fingerprint import Inputs
from petkit.spec.loader import Pipeline
from petkit.task.examples import Example, ExampleSource, Scan
from petkit.task.pattern import CompiledPattern, FieldKey, Pattern
from petkit.task.pvp import PVP, compile_pvps, task_fields
from petkit.task.token_store import TokenStore
from petkit.task.tokenization import PieceTokenizer


class Workload:
    """Everything the stages share. Building it checks the whole input and writes nothing.

    Raises:
        InvalidInput: all mistakes in configuration, data, patterns and verbalizer, at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.spec = spec = pipeline.spec
        self.labels = spec.labels
        self.fields = task_fields(spec.patterns)
        problems: list[Problem] = []
        self.pvps: list[PVP] = []
        self.max_length = self.student_max_length = spec.max_length
        teacher = self._tokenizer(spec.model, ("model",), problems, needs_mask=True)
        student = self._tokenizer(spec.student_model, ("student", "model"), problems, needs_mask=False)
        if teacher is not None:
            self.tokenizer, self.max_length = teacher
            self.pvps, found = compile_pvps(pipeline, self.tokenizer, self.max_length)
            problems += found
        if student is not None:
            self.student_tokenizer, self.student_max_length = student
            if teacher is not None and spec.student_model == spec.model:
                self.student_tokenizer = self.tokenizer
        self.train: list[Example] = []
        self.scans: dict[str, Scan] = {}
        if self._fields_exist(problems):
            self._read_data(problems)
        if problems:
            raise InvalidInput(problems)
        self._tokens: dict[tuple[str, bool], TokenStore] = {}
        self.scratch: Path | None = None

    # -- what the stages ask for -----------------------------------------------------------------

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
        return CompiledPattern(Pattern.plain(self.fields), self.student_tokenizer, self.student_max_length, self.spec.truncate)

    @property
    def teacher_names(self) -> list[tuple[str, int, int]]:
        """Name, pattern index and seed of every teacher: patterns × seeds."""
        return [
            (f"{pattern.id}-{seed}", index, seed)
            for index, pattern in enumerate(self.spec.patterns)
            for seed in self.spec.teachers.seeds
        ]

    @property
    def reading(self) -> dict[str, object]:
        """How the data's columns are read; recorded so that predictions read new files the same way."""
        return {"columns": self.spec.data.columns, "label_names": self.spec.data.label_names}

    def source(self, part: str) -> ExampleSource:
        """Return ``train``, ``unlabeled`` or ``test`` as a stream of examples."""
        labels = None if part == "unlabeled" else self.labels
        return ExampleSource(getattr(self.spec.data, part), self.spec.data, self.fields, labels)

    def rows(self, part: str) -> Iterator[Example]:
        """Yield the rows of a part of the data; they must be those that were checked and hashed at the start."""
        return self.source(part).unchanged(self.scans[part])

    def tokens(self, part: str, *, student: bool = False) -> TokenStore:
        """Return the token ids of a part of the data, tokenised once per tokenizer for all patterns."""
        shared = self.student_tokenizer is self.tokenizer and self.student_max_length == self.max_length
        key = (part, student and not shared)
        if key not in self._tokens:
            tokenizer = self.student_tokenizer if key[1] else self.tokenizer
            folder = None
            if self.scratch is not None and self.scans[part].rows > 10_000:
                folder = self.scratch / f"{part}-{'student' if key[1] else 'teachers'}"
                folder.mkdir(parents=True, exist_ok=True)
            rows = self.train if part == "train" else self.rows(part)
            limit = self.student_max_length if key[1] else self.max_length
            self._tokens[key] = TokenStore.build(rows, tokenizer, self._keys(key[1], shared), limit, self.spec.truncate, folder)
        return self._tokens[key]

    def common_inputs(self, arithmetic: Arithmetic) -> Inputs:
        """Return the inputs that every trained step depends on.

        Left out because they cannot change a result beyond rounding: compute.device, compute.threads,
        compute.tokens_per_batch, file names, and column names.
        """
        return {
            "labels": list(self.labels),
            "truncate": self.spec.truncate,
            "precision": arithmetic.precision,
        }

    def unlabeled_inputs(self) -> Inputs:
        """Return what logits on the unlabelled set belong to: its rows, and the labels in class order."""
        return {"labels": list(self.labels), "data.unlabeled": self.scans["unlabeled"].sha256}

    # -- checks ----------------------------------------------------------------------------------

    def _tokenizer(
        self, name: str, location: tuple[str, ...], problems: list[Problem], *, needs_mask: bool
    ) -> tuple[PieceTokenizer, int] | None:
        try:
            config = load_config(name)
            if needs_mask:
                check_masked_lm(config, name)
            tokenizer = load_tokenizer(name, needs_mask=needs_mask)
            # A missing head and damaged weights show only when weights meet architecture.
            if needs_mask and name != EMBEDDED:
                load_masked_lm(name)
            elif not needs_mask and name not in (EMBEDDED, self.spec.model):
                new_classifier(name, self.labels)
        except ModelRefused as error:
            if needs_mask or name != self.spec.model:
                problems.append(self.pipeline.problem(location, str(error)))
            return None
        limit = longest_input(config, tokenizer)
        if self.spec.max_length > limit and "max_length" in self.spec.model_fields_set:
            message = f"{self.spec.max_length} tokens are more than {tokenizer.name} can read ({limit})"
            problems.append(self.pipeline.problem(("max_length",), message))
        return tokenizer, min(self.spec.max_length, limit)

    def _fields_exist(self, problems: list[Problem]) -> bool:
        """Check the patterns' fields against the columns of the labelled file."""
        try:
            columns = self.source("train").columns()
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
                fault = "gives the label away" if gives_away else f"unknown field {{{field}}}; the data has: {', '.join(columns)}"
                message = f"pattern {spec.id!r}: {fault}"
                problems.append(self.pipeline.problem(("patterns", index, "text"), message, key=""))
        known = {*self.fields, "label", "id"}
        for field in data.columns:
            if field not in known:
                cure = did_you_mean(field, sorted(known))
                problems.append(self.pipeline.problem(("data", "columns", field), "no pattern uses this field", cure))
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
        if self.scans["train"].problems:
            return
        self.train = list(self.rows("train"))
        counts = Counter(example.label for example in self.train)
        for index, label in enumerate(self.labels):
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
