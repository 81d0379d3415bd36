"""``petkit init``: a project to fill in, from label names or from a file of rows, or an example of the library."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import TypeAlias

import yaml

from petkit import limits
from petkit.config import library
from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.data.cells import is_missing
from petkit.data.labels import LabelReader, NotLabels, alike
from petkit.data.records import Record, delimiter_note, read_records
from petkit.errors import BeyondLimit, InvalidInput, Problem, did_you_mean, listed, shown_path
from petkit.formatting import counted
from petkit.models.loading import EMBEDDED, load_tokenizer
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.atomic import follow_umask, sync_tree
from petkit.storage.fault_points import crash_point

Parts: TypeAlias = dict[str, list[dict[str, str]]]  # train, unlabeled and test, row by row
MAX_TRAIN_PER_LABEL = 50
_SEARCHED_ROWS, _SEARCHED_TEXTS = 8, 1_000  # of a label, and unlabelled ones, where words are looked for
_TEXT_COLUMNS = ("text", "sentence", "message", "content", "body", "review", "question", "title")
_LABEL_COLUMNS = ("label", "category", "class", "target", "topic", "intent", "sentiment")
_ONE_LABEL = "init starts tasks of one label per row; write label_kind: multi into a pipeline"
_SIGNED_NUMBER = re.compile(r"[+-]\d+")  # the word for -1 is not 1
# Words that no text is about; a label called by one of them alone keeps it.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """a about above after again against all am an and any are as at be because been before being below between both but by can
    could did do does doing down during each few for from further get had has have having he her here hers him his how i if in
    into is it its itself just me more most my no nor not of off on once only or other our out over own same she should so some
    such than that the their them then there these they this those through to too under until up very was we were what when
    where which while who whom why will with would you your""",
    )
)

PIPELINE = """\
# What this is: the pipeline of {task}.
# How to run:   petkit validate {folder}/pipeline.yaml
#               petkit run {folder}/pipeline.yaml
# Change first: data/train.jsonl (8 or more examples per label), data/unlabeled.jsonl (hundreds of rows),
#               then the words in verbalizer.yaml and the patterns in patterns.yaml.
task: {task}
data:
  train: data/train.jsonl
  unlabeled: data/unlabeled.jsonl
{test}patterns: patterns.yaml
verbalizer: verbalizer.yaml
model: embedded            # or a model folder, or a hub name such as roberta-base
teachers:
  seeds: [1]               # one teacher per pattern and seed; [1, 2] makes twice as many
"""

PATTERNS = """\
# What this is: questions that a language model answers with one word; {{text}} is the row, {{mask}} the answer.
# How to run:   petkit validate {folder}/pipeline.yaml shows each one on a real row.
# Change first: write them as your texts would be written; three to five that differ are better than one.
patterns:
  - id: colon
    text: "{{mask}}: {{text}}"
  - id: about
    text: "{{text}} This is about {{mask}}."
  - id: category
    text: "[ Category: {{mask}} ] {{text}}"
"""

VERBALIZER = """\
# What this is: the words that stand for each label in the slot of a pattern; a label may have several.
# How to run:   petkit validate {folder}/pipeline.yaml says which words the model does not know.
# Change first: pick words that the label's texts would really be called by. With few labelled rows, or none, also make up some
#               texts per label, as different as real ones are; teachers learn from them too. Next to the key labels:
#               descriptions: {{a label: [a text, another text], another label: [a text]}}
"""


@dataclass(frozen=True)
class Scaffold:
    """The files of a new project, and notes on what to look at."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def create_project(folder: Path, labels: Sequence[str], source: str | None) -> Scaffold:
    """Write pipeline, patterns, verbalizer and data files into a new (or empty) folder.

    The rows of ``source``, which also names the labels where none are given, are sorted into labelled, unlabelled and test rows;
    without a source there are placeholders.
    """
    _refuse_filled(folder)
    notes: list[str] = []
    if source is None:
        _refuse_labels(labels)
        parts: Parts = {
            "train": [{"text": f"Replace this by a text whose label is {label}.", "label": label} for label in labels],
            "unlabeled": [{"text": f"Replace this by one of your texts, number {number}."} for number in range(1, 9)],
        }
        notes.append("data/*.jsonl contain placeholders: replace them by your own rows")
    else:
        parts, labels = _sort_rows(source, labels, notes)
    guesses, missing = _words_of_names(labels, load_tokenizer(EMBEDDED))
    found = _words_in_rows(labels, parts, guesses) if missing and source is not None else {}
    notes += [
        f"verbalizer.yaml: choose a word for label {label!r}; {why}" for label, why in missing.items() if label not in found
    ]
    notes += [f"labels {one!r} and {other!r} differ only in case or blanks; are they one?" for one, other in alike(labels)]
    if guessed := [label for label, words in guesses.items() if words and [label.lower()] != words]:
        notes.append(f"verbalizer.yaml: words of {listed(guessed)} are guesses from the names; choose better ones")
    if found:
        notes.append(f"verbalizer.yaml: words of {listed(list(found))} are guesses from the labelled rows; choose better ones")
    words = _verbalizer(guesses, found)
    shown = shown_path(folder)
    task = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")[:64] or "task"
    test = "  test: data/test.jsonl\n" if parts.get("test") else ""
    files = {
        "pipeline.yaml": PIPELINE.format(folder=shown, task=task, test=test),
        "patterns.yaml": PATTERNS.format(folder=shown),
        "verbalizer.yaml": VERBALIZER.format(folder=shown) + words,
    }
    for part in (part for part, rows in parts.items() if rows):
        files[f"data/{part}.jsonl"] = _json_lines(parts[part])
    _write(folder, files)
    return Scaffold(folder, tuple(files), tuple(notes))


def create_example(folder: Path, name: str) -> Scaffold:
    """Write an example of the library into a new (or empty) folder; the commands in its comments name this folder."""
    known = library.files("examples")
    if name not in known:
        raise InvalidInput([Problem.of_option("--example", f"unknown {name!r}", did_you_mean(name, list(known)))])
    _refuse_filled(folder)
    source = known[name].parent
    files = {}
    for path in sorted([*source.glob("*.yaml"), *source.glob("data/*")]):
        content = path.read_text(encoding="utf-8").replace(f"examples/{name}/", f"{shown_path(folder)}/")
        files[path.relative_to(source).as_posix()] = content
    _write(folder, files)
    return Scaffold(folder, tuple(files), ())


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput([Problem.of_file(folder, "already exists and is not empty", "choose a new folder")])


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        _write_all(folder, files)
    except OSError as error:
        why = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidInput([Problem.of_file(folder, f"cannot be written: {why}", "choose another folder")]) from None


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files aside and give them their place at once; into a folder that exists, the pipeline's file last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder if folder.is_dir() else folder.parent, prefix=f".{folder.name}."))
    try:
        (aside / "data").mkdir()
        for name, content in files.items():
            crash_point("project: before write")
            (aside / name).write_text(content, encoding="utf-8")
        follow_umask(aside)
        sync_tree(aside)
        crash_point("project: before rename")
        if not folder.is_dir():
            os.replace(aside, folder)
            return
        for path in sorted(aside.iterdir(), key=lambda path: path.name == "pipeline.yaml"):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_labels(labels: Sequence[str]) -> None:
    if len(labels) > limits.LABELS or any(len(label) > limits.KEY_CHARACTERS for label in labels):
        message = f"at most {limits.LABELS:,} labels of {limits.KEY_CHARACTERS} characters"
        raise BeyondLimit([Problem.of_option("--labels", message, "is it the column of labels?")])
    if len(labels) < 2 or not all(labels) or len(set(labels)) != len(labels):
        hint = "--labels complaint,praise,question"
        raise InvalidInput([Problem.of_option("--labels", "give two or more different labels", hint)])


def _sort_rows(source: str, labels: Sequence[str], notes: list[str]) -> tuple[Parts, list[str]]:
    """Split a file: rows with a label are labelled rows (the surplus is the test set), the others are unlabelled."""
    problem = partial(Problem.of_file, shown_path(source))
    records = list(_rows(source, up_to_the_cap=not labels))
    wrong = [problem(record.error, record.hint, line=record.line) for record in records if record.error]
    if wrong or not records:
        raise InvalidInput(wrong or [problem("the file contains no rows")])
    columns = list(dict.fromkeys(str(name) for record in records for name in record.values))
    text, label = _column(columns, _TEXT_COLUMNS, source, "text"), _column(columns, _LABEL_COLUMNS, source, "label")
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    unlabeled: list[dict[str, str]] = []
    without_text = 0
    for record in records:
        content = record.values.get(text)
        if is_missing(content) or (isinstance(content, str) and not content.strip()):
            without_text += 1
            continue
        try:
            if not isinstance(content, str):
                raise NotLabels(f"must be text, not {content!r:.60}")
            named = _label(record.values.get(label), labels)
        except NotLabels as mistake:
            hint = _ONE_LABEL if "label_kind" in mistake.hint else mistake.hint
            key = label if isinstance(content, str) else text
            wrong.append(problem(mistake.message, hint, line=record.line, key=key))
            continue
        if named is None:
            unlabeled.append({"text": content})
        else:
            by_label[named].append({"text": content, "label": named})
    if wrong:
        raise InvalidInput(wrong)
    if not labels and len(by_label) < 2:
        raise InvalidInput(
            [problem(f"contains rows of {len(by_label)} label{'s' * (not by_label)}; a classifier needs at least two", key=label)]
        )
    chosen = list(labels) or sorted(by_label)
    _refuse_labels(chosen)
    if missing := [name for name in chosen if name not in by_label]:
        hints = {name: did_you_mean(name, sorted(by_label)) for name in missing}
        raise InvalidInput([problem(f"has no row with label {name!r}", hint, key=label) for name, hint in hints.items()])
    train = [row for name in chosen for row in by_label[name][:MAX_TRAIN_PER_LABEL]]
    test = [row for name in chosen for row in by_label[name][MAX_TRAIN_PER_LABEL:]]
    notes += filter(None, [delimiter_note(source)])
    notes.append(f"{len(train)} labelled, {len(unlabeled)} unlabelled and {len(test)} test rows from {shown_path(source)}")
    if without_text:
        notes.append(f"left out: {counted(without_text, 'row')} without a text")
    if left := {name: len(rows) for name, rows in by_label.items() if name not in chosen}:
        notes.append(f"{sum(left.values())} rows with other labels were left out: {listed(list(left))}")
    if not unlabeled:
        unlabeled = [{"text": row["text"]} for row in train]
        without = "no row was without a label: data/unlabeled.jsonl contains the labelled texts"
        notes.append(f"{without}; add unlabelled ones, they are what PET learns from")
    return {"train": train, "unlabeled": unlabeled, "test": test}, chosen


def _rows(source: str, *, up_to_the_cap: bool) -> Iterator[Record]:
    """Yield the rows of a file with the values of their texts and labels, perhaps up to the first label that is one too many."""
    reader, named = LabelReader(None), set[str]()
    for record in read_records(source):
        columns = {str(column).lower(): column for column in reversed(list(record.values))}
        used = {columns[name] for name in (*_TEXT_COLUMNS, *_LABEL_COLUMNS) if name in columns}
        yield replace(record, values={column: value if column in used else None for column, value in record.values.items()})
        label = next((columns[name] for name in _LABEL_COLUMNS if name in columns), "")
        with suppress(NotLabels):  # reported with the other rows
            named.update(reader.read(record.values.get(label)) or ())
        if up_to_the_cap and len(named) > limits.LABELS:
            return


def _label(value: object, labels: Sequence[str]) -> str | None:
    """Return the label of a cell as a run will read it: one of ``labels`` if it can be; None where it has none."""
    try:
        found = LabelReader(labels or None).read(value)
    except NotLabels as mistake:
        if mistake.unknown is None:
            raise
        found = LabelReader(None).read(value)
    return found[0] if found else None


def _column(columns: Sequence[str], known: Sequence[str], source: str, role: str) -> str:
    found = next((column for name in known for column in columns if column.lower() == name), None)
    if found is None:
        message = f"cannot determine which column is the {role}; it has: {listed(columns)}"
        raise InvalidInput([Problem.of_file(shown_path(source), message, f"name it {role!r}", line=1)])
    return found


def _words_of_names(labels: Sequence[str], tokenizer: PieceTokenizer) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the content words of each label's name that are single tokens and not those of another label, and why some have none."""
    owner: dict[int, str] = {}
    guesses: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for label in labels:
        parts = [] if _SIGNED_NUMBER.fullmatch(label) else [part.lower() for part in re.findall(r"[^\W_]+", label)]
        guesses[label] = []
        taken = ""
        for part in dict.fromkeys(part for part in parts if len(parts) == 1 or part not in _FUNCTION_WORDS):
            ids = tokenizer.word_tokens(part, " ")
            if len(ids) != 1 or ids[0] == tokenizer.unknown_id:
                continue
            if owner.setdefault(ids[0], label) == label:
                guesses[label].append(part)
            else:
                taken = f"{part!r} is taken by label {owner[ids[0]]!r}"
        if not guesses[label]:
            missing[label] = taken or "its name is not a single word of the embedded model"
    return guesses, missing


def _words_in_rows(labels: Sequence[str], parts: Parts, guesses: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return words for the labels without a guess, found on some labelled rows as ``petkit search-verbalizer`` finds them."""
    from petkit.commands.search_verbalizer import search_verbalizer

    by_label = {label: [row for row in parts["train"] if row["label"] == label][:_SEARCHED_ROWS] for label in labels}
    taken = {word for words in guesses.values() for word in words}
    with tempfile.TemporaryDirectory() as folder, suppress(InvalidInput):  # too few rows or words: they are left to choose
        files = {"train": [row for rows in by_label.values() for row in rows], "unlabeled": parts["unlabeled"][:_SEARCHED_TEXTS]}
        for part, rows in files.items():
            (Path(folder) / part).with_suffix(".jsonl").write_text(_json_lines(rows), encoding="utf-8")
        spec = PipelineSpec.model_validate(
            {
                "task": "init",
                "data": {part: f"{folder}/{part}.jsonl" for part in files},
                "patterns": tuple(yaml.safe_load(PATTERNS.format(folder=""))["patterns"]),
                "verbalizer": {"labels": dict.fromkeys(labels, ()), "auto": {"scope": "joint", "per_label": 2}},
            }
        )
        found = search_verbalizer(Pipeline.from_spec(spec)).words
        usable = {label: [word for word, score in found[label].items() if score > 0 and word not in taken] for label in labels}
        return {label: words for label, words in usable.items() if words and not guesses[label]}
    return {}


def _verbalizer(guesses: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str]]) -> str:
    """Return the labels with their words as YAML; what was guessed is marked, and each label without a word."""
    lines = ["labels:\n"]
    for label, named in guesses.items():
        words = list(named or found.get(label, ()))
        text = yaml.safe_dump({label: words or [label]}, allow_unicode=True, default_flow_style=None, width=float("inf"))
        guess = "a guess from the name" if named else "a guess from the labelled rows" if words else "choose a word"
        lines.append(f"{indent(text.rstrip(), '  ')}  # {guess}\n")
    return "".join(lines)


def _json_lines(rows: Sequence[Mapping[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
