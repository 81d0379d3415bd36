"""``petkit init``: a project to fill in, from label names or from a file of rows."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import yaml

from petkit import limits
from petkit.data.records import read_records
from petkit.errors import BeyondLimit, InvalidInput, Problem, did_you_mean, listed, shown_path
from petkit.models.loading import EMBEDDED, load_tokenizer
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.atomic import sync_tree
from petkit.storage.fault_points import crash_point

Parts: TypeAlias = dict[str, list[dict[str, str]]]  # train, unlabeled and test, row by row
MAX_TRAIN_PER_LABEL = 50
_TEXT_COLUMNS = ("text", "sentence", "message", "content", "body", "review", "question", "title")
_LABEL_COLUMNS = ("label", "category", "class", "target", "topic", "intent", "sentiment")

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
  seeds: [1, 2]            # one teacher per pattern and seed
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
# Change first: pick words that the label's texts would really be called by.
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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput([Problem.of_file(folder, "already exists and is not empty", "choose a new folder")])
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
    labels_and_words = {"labels": _first_words(labels, load_tokenizer(EMBEDDED), notes)}
    words = yaml.safe_dump(labels_and_words, sort_keys=False, allow_unicode=True, default_flow_style=None)
    shown = shown_path(folder)
    task = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")[:64] or "task"
    test = "  test: data/test.jsonl\n" if parts.get("test") else ""
    files = {
        "pipeline.yaml": PIPELINE.format(folder=shown, task=task, test=test),
        "patterns.yaml": PATTERNS.format(folder=shown),
        "verbalizer.yaml": VERBALIZER.format(folder=shown) + words,
    }
    for part in (part for part, rows in parts.items() if rows):
        files[f"data/{part}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in parts[part])
    try:
        _write_all(folder, files)
    except OSError as error:
        why = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidInput([Problem.of_file(shown, f"cannot be written: {why}", "choose another folder")]) from None
    return Scaffold(folder, tuple(files), tuple(notes))


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files aside and give them their place at once; into a folder that exists, the pipeline's file last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder if folder.is_dir() else folder.parent, prefix=f".{folder.name}."))
    try:
        (aside / "data").mkdir()
        for name, content in files.items():
            crash_point("project: before write")
            (aside / name).write_text(content, encoding="utf-8")
        sync_tree(aside)
        aside.chmod(0o755)
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
    records = list(read_records(source))
    broken = [problem(record.error, line=record.line) for record in records if record.error]
    if broken or not records:
        raise InvalidInput(broken or [problem("the file contains no rows")])
    columns = [str(name) for name in records[0].values]
    text, label = _column(columns, _TEXT_COLUMNS, source, "text"), _column(columns, _LABEL_COLUMNS, source, "label")
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    unlabeled: list[dict[str, str]] = []
    for record in records:
        content, named = record.values.get(text), record.values.get(label)
        if isinstance(named, list):
            message = "contains a list of labels; init starts tasks of one label per row"
            raise InvalidInput([problem(message, "write label_kind: multi into a pipeline", line=record.line, key=label)])
        if not isinstance(content, str) or not content.strip():
            continue
        if named in (None, ""):
            unlabeled.append({"text": content})
        else:
            by_label[str(named)].append({"text": content, "label": str(named)})
    if not labels and len(by_label) < 2:
        raise InvalidInput([problem(f"contains rows of {len(by_label)} label; a classifier needs at least two", key=label)])
    chosen = list(labels) or sorted(by_label)
    _refuse_labels(chosen)
    if missing := [name for name in chosen if name not in by_label]:
        hints = {name: did_you_mean(name, sorted(by_label)) for name in missing}
        raise InvalidInput([problem(f"has no row with label {name!r}", hint, key=label) for name, hint in hints.items()])
    train = [row for name in chosen for row in by_label[name][:MAX_TRAIN_PER_LABEL]]
    test = [row for name in chosen for row in by_label[name][MAX_TRAIN_PER_LABEL:]]
    notes.append(f"{len(train)} labelled, {len(unlabeled)} unlabelled and {len(test)} test rows from {shown_path(source)}")
    if left := {name: len(rows) for name, rows in by_label.items() if name not in chosen}:
        notes.append(f"{sum(left.values())} rows with other labels were left out: {listed(list(left))}")
    if not unlabeled:
        unlabeled = [{"text": row["text"]} for row in train]
        without = "no row was without a label: data/unlabeled.jsonl contains the labelled texts"
        notes.append(f"{without}; add unlabelled ones, they are what PET learns from")
    return {"train": train, "unlabeled": unlabeled, "test": test}, chosen


def _column(columns: Sequence[str], known: Sequence[str], source: str, role: str) -> str:
    found = next((column for name in known for column in columns if column.lower() == name), None)
    if found is None:
        message = f"cannot determine which column is the {role}; it has: {listed(columns)}"
        raise InvalidInput([Problem.of_file(shown_path(source), message, f"name it {role!r}", line=1)])
    return found


def _first_words(labels: Sequence[str], tokenizer: PieceTokenizer, notes: list[str]) -> dict[str, list[str]]:
    """Choose a first label word for each label: the parts of its name that are single tokens and not taken."""
    taken: set[int] = set()
    words: dict[str, list[str]] = {}
    for label in labels:
        parts = [part.lower() for part in re.findall(r"[^\W_]+", label)]
        usable = []
        for part in parts:
            ids = tokenizer.word_tokens(part, " ")
            if len(ids) == 1 and ids[0] != tokenizer.unknown_id and ids[0] not in taken:
                taken.add(ids[0])
                usable.append(part)
        if not usable:
            why = "its name is not a single word of the embedded model"
            notes.append(f"verbalizer.yaml: choose a word for label {label!r}; {why}")
        elif len(parts) > 1:
            notes.append(f"verbalizer.yaml: label {label!r} has the words {', '.join(usable)} for now; choose better ones")
        words[label] = usable or [label]
    return words
