"""Checks of a pipeline against its data, patterns and label words; each returns the problems it finds."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from petkit import limits
from petkit.config.caps import too_many_teachers
from petkit.config.loader import Pipeline
from petkit.config.rules import in_prior, unknown_labels
from petkit.config.schema.pipeline import PipelineSpec
from petkit.data.candidates import Candidates
from petkit.data.descriptions import described_rows
from petkit.data.examples import Example, ExampleSource, Scan
from petkit.data.label_set import labels_in
from petkit.errors import InvalidInput, Problem, did_you_mean, listed, split_hint
from petkit.formatting import counted, hidden_difference
from petkit.prompts.pvp import PVP, task_fields
from petkit.task.teacher_list import generation_count, list_teachers, others

# Key of the rows made from verbalizer.descriptions among the scans; not a key of the section data.
DESCRIPTIONS = "descriptions"
# Enough rows to estimate lengths, speed and disk.
KEPT_ROWS = 256
# Enough of them to know what each label's share is.
FEWEST_ROWS = 500
# How often a student reads each row: measured, more rows read once each made no better student (docs/defaults.md).
PASSES = 3


def find_labels(pipeline: Pipeline) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the labels: of the verbalizer, of ``data.label_names``, or of the labelled rows; none where they are unknown."""
    data = pipeline.spec.data
    if pipeline.spec.verbalizer.candidates is not None:
        return (), []
    if pipeline.spec.labels or data.label_names is not None:
        return pipeline.spec.labels or data.label_names or (), []
    try:
        return labels_in(str(data.train), data, ordinal=pipeline.spec.label_kind == "ordinal"), []
    except InvalidInput as error:
        # Problems of the file as a whole are reported when its rows are read.
        return (), [problem for problem in error.problems if problem.key]


def refuse_candidates(pipeline: Pipeline, does: str) -> None:
    """Refuse a task without fixed labels where something ``does`` what needs them."""
    if pipeline.spec.verbalizer.candidates is not None:
        message = f"each row has answers of its own, and this command {does}"
        raise InvalidInput([pipeline.problem(("verbalizer", "candidates"), message, "petkit zero-shot compares the patterns")])


def source_of(spec: PipelineSpec, fields: Sequence[str], labels: Sequence[str], part: str) -> ExampleSource:
    """Return ``train``, ``unlabeled`` or ``test`` as a stream of examples."""
    candidates = Candidates.of(spec.verbalizer.candidates)
    known = None if part == "unlabeled" else (labels or None) if candidates is None else ()
    most = limits.LABELLED_ROWS if part == "train" else None  # they are kept in memory
    group = spec.data.group if part == "test" else None
    return ExampleSource(
        getattr(spec.data, part), spec.data, fields, known, spec.label_kind, most, group=group, candidates=candidates
    )


def unequal_words(pvps: Sequence[PVP]) -> list[str]:
    """Return a note where probabilities of words of different lengths are compared as they are: longer words lose."""
    for pvp in pvps:
        words = sorted((word for label in pvp.words.words for word in label), key=lambda word: len(word.token_ids))
        if words and pvp.verbalizer.decoding == "max_first" and len(words[0].token_ids) < len(words[-1].token_ids):
            named = (f"{word.written!r} has {counted(len(word.token_ids), 'token')}" for word in (words[0], words[-1]))
            message = "multiplies the probabilities of a word's tokens, so that longer words score lower"
            return [f"verbalizer.decoding: max_first {message}: {', '.join(named)} (use words of one length, or parallel)"]
    return []


def scan_data(pipeline: Pipeline, labels: Sequence[str]) -> tuple[dict[str, Scan], list[Problem]]:
    """Read every part of the data once; where patterns name unknown fields, only these are reported."""
    spec, fields = pipeline.spec, task_fields(pipeline.spec.patterns)
    scans: dict[str, Scan] = {}
    problems: list[Problem] = []
    for part in ("train", "unlabeled", "test"):
        if getattr(spec.data, part) is None:
            continue
        scans[part] = scan = source_of(spec, fields, labels, part).scan(limits.LABELLED_ROWS if part == "train" else KEPT_ROWS)
        if len(scans) == 1:
            unknown, unused = _field_problems(pipeline, scan.columns)
            if unknown:
                return {}, unknown + unused
            problems += unused
        problems += scan_problems(pipeline, part, scan)
    if "unlabeled" in scans:
        scans["unlabeled"] = scans["unlabeled"].drawn(used_rows(spec))
    if spec.verbalizer.descriptions and labels:
        described, wrong = described_rows(spec.verbalizer.descriptions, fields, labels, multi=spec.label_kind == "multi")
        scans[DESCRIPTIONS] = described
        problems += [pipeline.problem(("verbalizer", "descriptions", *place), *said) for place, *said in wrong]
    return scans, problems


def sample_notes(spec: PipelineSpec, scan: Scan) -> list[str]:
    """Return a note where the teachers label a sample of the unlabelled rows."""
    if scan.sample is None:
        return []
    count = f"the teachers label {scan.rows:,} of its {scan.sample.of:,} rows"
    hint = "soft_labels.rows: all labels every row; petkit predict labels any file with the student"
    return [f"{source_of(spec, (), (), 'unlabeled').shown}: {count} ({hint})"]


def used_rows(spec: PipelineSpec) -> int:
    """Return how many unlabelled rows the teachers label: with ``auto``, so many that the student reads each three times.

    Further generations choose among all rows, whatever their number.
    """
    wanted, student = spec.soft_labels.rows, spec.student
    if wanted == "all" or (wanted == "auto" and spec.generations.count != 0):
        return sys.maxsize
    enough = math.ceil(student.steps * student.batch_size / (PASSES * spec.soft_labels.top_share))
    return max(FEWEST_ROWS, enough) if wanted == "auto" else wanted


def scan_problems(pipeline: Pipeline, part: str, scan: Scan) -> list[Problem]:
    """Return the problems of a part of the data; a missing file is reported where the pipeline names it."""
    return [
        pipeline.problem(("data", part), f"{problem.file}: no such file")
        if problem.line is None and problem.message == "no such file"
        else problem
        for problem in scan.problems
    ]


def _field_problems(pipeline: Pipeline, columns: Sequence[str]) -> tuple[list[Problem], list[Problem]]:
    """Return what is wrong with the patterns' fields, and with ``data.columns``, against the columns of the data."""
    spec, data = pipeline.spec, pipeline.spec.data
    if not columns:
        return [], []
    usable = listed([column for column in dict.fromkeys(columns) if column != data.column("label")])
    unknown = []
    for index, pattern in enumerate(spec.patterns):
        for field in pattern.fields:
            column = data.column(field)
            if column == data.column("label"):
                message, hint = f"{{{field}}} gives the label away", "leave it out"
            elif column not in columns:
                message = f"unknown field {{{field}}}; the data has: {usable}"
                alike = any(hidden_difference(column, name) for name in columns)
                hint = did_you_mean(column, columns) if alike else f"or map it: data.columns: {{{field}: its column}}"
            else:
                continue
            if field == "soft":
                hint = "trained tokens are written with their number: {soft:3}"
            unknown.append(pipeline.problem(("patterns", index, "text"), f"pattern {pattern.id!r}: {message}", hint, key=""))
    candidates = Candidates.of(spec.verbalizer.candidates)
    unknown += [
        pipeline.problem(("verbalizer", "candidates"), f"column {column!r} gives the label away", "leave it out")
        if column == data.column("label")
        else pipeline.problem(("verbalizer", "candidates"), f"the data has no column {column!r}", did_you_mean(column, columns))
        for column in map(data.column, candidates.columns if candidates else ())
        if column not in columns or column == data.column("label")
    ]
    known = {*task_fields(spec.patterns), "label", "id", *(candidates.columns if candidates else ())}
    unused = [
        pipeline.problem(("data", "columns", field), "no pattern uses this field", did_you_mean(field, sorted(known)))
        for field in data.columns
        if field not in known
    ]
    return unknown, unused


def labelled_row_problems(pipeline: Pipeline, labels: Sequence[str], train: Sequence[Example]) -> list[Problem]:
    """Return the labels that have too few labelled rows for what is configured."""
    spec, shown = pipeline.spec, source_of(pipeline.spec, (), labels, "train").shown
    problems: list[Problem] = []
    if spec.soft_labels.out_of_fold and len(train) == 1:
        key = "weighting" if spec.soft_labels.weighting == "out_of_fold" else "teacher_temperature"
        message = "out_of_fold needs two labelled rows, and there is one"
        problems.append(pipeline.problem(("soft_labels", key), message, "add an example"))
    if spec.verbalizer.candidates is not None:
        return problems + [
            Problem.of_file(shown, "several candidates are right", "keep one of them in a labelled row", line=example.line)
            for example in train
            if example.several
        ]
    counts = Counter(label for example in train for label in example.labels)
    for index, label in enumerate(labels):
        if spec.verbalizer.auto is not None and counts[index] == 1:
            message = f"label {label!r} has one row in {shown}; label words cannot be found on it"
            problems.append(pipeline.problem(("verbalizer", "auto"), message, "add an example or name the words"))
        if not counts[index]:
            message, hint = f"label {label!r} has no row in {shown}", "add examples or remove the label"
            problems.append(pipeline.problem(("verbalizer", "labels", label), message, hint, key=""))
    return problems


def label_problems(pipeline: Pipeline, labels: Sequence[str]) -> list[Problem]:
    """Check the settings that depend on the labels where these were read from the data."""
    auto = pipeline.spec.verbalizer.auto
    if auto is None or not labels:
        return []
    spec, where = pipeline.spec, "a label of data.train"
    wrong = [(("soft_labels", *place), message) for place, message in in_prior(spec.soft_labels.prior, labels, where)]
    for name, section in (("teachers", spec.teachers), ("student", spec.student)):
        unknown = unknown_labels(section.class_weights, labels, where)
        wrong += [((name, "class_weights", *place), message) for place, message in unknown]
    needed = len(labels) * auto.per_label
    if auto.candidates < needed:
        message = f"{auto.candidates} candidates are too few: {len(labels)} labels of {auto.per_label} words need {needed}"
        wrong.insert(0, (("verbalizer", "auto", "candidates"), message))
    return [pipeline.problem(place, *split_hint(message)) for place, message in wrong]


def teacher_problems(pipeline: Pipeline, labels: int, scans: Mapping[str, Scan], train_rows: int) -> list[Problem]:
    """Return why a generation of teachers would have no other teacher, or no rows, to learn from."""
    spec, described = pipeline.spec, DESCRIPTIONS in scans
    kept = spec.patterns if spec.keep_patterns == "all" else spec.patterns[: spec.keep_patterns]
    trained = 1 + generation_count(spec.generations, train_rows, labels)
    too_many = too_many_teachers(len(kept), len(spec.teachers.seeds), trained)
    if too_many:
        return [pipeline.problem(("generations", "count"), too_many)]
    generations = list_teachers(kept, spec.teachers.seeds, spec.generations, train_rows, labels, described=described)
    if len(generations) > 1 and not train_rows and scans["unlabeled"].rows < labels:
        message = f"{scans['unlabeled'].rows} rows cannot teach {labels} labels"
        few = (("data", "unlabeled"), message, "add unlabelled rows")
        return [
            pipeline.problem(*few) if scans["unlabeled"].sample is None else pipeline.problem(("soft_labels", "rows"), message)
        ]
    for before, generation in pairwise(generations):
        if any(not others(teacher, before) for teacher in generation):
            message = "each teacher learns from others, and there is no other"
            alone = "add a pattern: without labelled rows seeds do not differ"
            hint = "add a pattern or a seed" if train_rows or described else alone
            return [pipeline.problem(("generations", "count"), message, hint)]
    return []
