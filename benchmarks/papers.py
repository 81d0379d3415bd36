"""Reproduces a row of the papers' tables: makes a recipe's data files from the original ones, and runs the recipe.

    python benchmarks/papers.py boolq --data FOLDER
    python benchmarks/papers.py ag_news --data FOLDER --rows 100 --ipet

FOLDER has the original data as they are published:

- boolq, cb, copa, multirc, record, rte, wic, wsc: ``FewGLUE/BoolQ/train.jsonl`` and ``unlabeled.jsonl``
  (github.com/timoschick/fewglue), and ``SuperGLUE/BoolQ/val.jsonl`` (super.gluebenchmark.com); CB, COPA, MultiRC, ReCoRD, RTE,
  WiC and WSC alike.
- ag_news, yelp, yahoo: ``train.csv`` and ``test.csv`` of ``ag_news_csv``, ``yelp_review_full_csv`` and ``yahoo_answers_csv``
  (Zhang, Zhao & LeCun 2015).
- mnli: ``multinli_1.0/multinli_1.0_train.jsonl`` and ``multinli_1.0_dev_matched.jsonl``.

The converted files and the run are in ``--out``; a run that was interrupted goes on. The last line has the figures next to those
of the paper. Full runs are made for a graphics card; ``--set`` changes settings, as ``petkit run`` takes them.

The figures of copa, record and wsc are those of the teachers together, since the paper distils nothing there: the student of
these is trained for one step only.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candidate_rows import Row, alternatives, entities, json_rows, referents, right_referents

import petkit

ROOT = Path(__file__).resolve().parents[1]
MNLI = "multinli_1.0/multinli_1.0_{}.jsonl"
UNLABELED_PER_LABEL = 10_000  # PET, section 4
WITHOUT_STUDENT = ("copa", "record", "wsc")  # "It's Not Just Size That Matters" distils nothing there, and trains no iPET


@dataclass(frozen=True)
class Task:
    """A task of the papers.

    Attributes:
        train, test: files in the folder of the original data; the unlabelled rows of FewGLUE are next to its labelled ones.
        rows: reads one of them.
        published: by method, the figures of the paper, in per cent; those of the PET paper also by the number of labelled rows.
    """

    train: str
    test: str
    rows: Callable[[Path], Iterable[Row]]
    published: Mapping[tuple[str, int], str]


def answers(path: Path) -> Iterator[Row]:
    """Yield a row for every answer of MultiRC, whose file has them in the questions of each passage."""
    for line in json_rows(path):
        passage = line["passage"]
        for number, question in enumerate(passage["questions"]):
            for answer in question["answers"]:
                label = {} if "label" not in answer else {"label": answer["label"]}
                texts = {"passage": passage["text"], "question": question["question"], "answer": answer["text"]}
                yield {**texts, "question_id": f"{line['idx']}-{number}", **label}


def sentence_pairs(path: Path) -> Iterator[Row]:
    """Yield the rows of MNLI on whose label the annotators agreed."""
    for row in json_rows(path):
        if row["gold_label"] != "-":
            yield {"premise": row["sentence1"], "hypothesis": row["sentence2"], "label": row["gold_label"]}


def csv_rows(*columns: str) -> Callable[[Path], Iterator[Row]]:
    """Return how to read a file of Zhang et al., whose first column is the class from 1; line breaks are written ``\\n`` there."""

    def read(path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8", newline="") as lines:
            for label, *texts in csv.reader(lines):
                cells = [text.replace("\\n", "\n").replace('\\"', '"') for text in texts]
                yield {**dict(zip(columns, cells, strict=True)), "label": int(label) - 1}

    return read


def news(path: Path) -> Iterator[Row]:
    """Yield the rows of AG's News, headline and body in one text."""
    for row in csv_rows("title", "body")(path):
        yield {"text": f"{row['title']} {row['body']}", "label": row["label"]}


def questions(path: Path) -> Iterator[Row]:
    """Yield the rows of Yahoo that have an answer; title and content of the question are one text, as in the authors' code."""
    for row in csv_rows("title", "content", "best_answer")(path):
        if row["best_answer"].strip():
            title = f"{row['title']} {row['content']}"
            yield {"question_title": title, "best_answer": row["best_answer"], "topic": row["label"]}


def few_glue(name: str, pet: str, ipet: str, rows: Callable[[Path], Iterable[Row]] = json_rows) -> Task:
    """Return a task of "It's Not Just Size That Matters", with the figures of its Table 1, which are of 32 labelled rows."""
    return Task(f"FewGLUE/{name}/train.jsonl", f"SuperGLUE/{name}/val.jsonl", rows, {("PET", 32): pet, ("iPET", 32): ipet})


def of_pet(train: str, test: str, rows: Callable[[Path], Iterable[Row]], pet: str, ipet: str) -> Task:
    """Return a task of the PET paper, with the figures of its Table 1 for 10, 50 and 100 labelled rows."""
    counts = (10, 50, 100)
    published = {("PET", count): figure for count, figure in zip(counts, pet.split(), strict=True)}
    published |= {("iPET", count): figure for count, figure in zip(counts, ipet.split(), strict=True)}
    return Task(train, test, rows, published)


TASKS = {
    "ag_news": of_pet("ag_news_csv/train.csv", "ag_news_csv/test.csv", news, "87.5 86.3 88.3", "89.3 88.4 89.6"),
    "yelp": of_pet(
        "yelp_review_full_csv/train.csv", "yelp_review_full_csv/test.csv", csv_rows("text"), "52.9 60.0 61.9", "57.6 60.7 62.9"
    ),
    "yahoo": of_pet("yahoo_answers_csv/train.csv", "yahoo_answers_csv/test.csv", questions, "63.8 66.2 69.2", "70.7 69.7 71.2"),
    "mnli": of_pet(MNLI.format("train"), MNLI.format("dev_matched"), sentence_pairs, "41.8 63.9 74.7", "43.2 67.4 78.4"),
    "boolq": few_glue("BoolQ", "79.4", "80.6"),
    "cb": few_glue("CB", "85.1 / 59.4", "92.9 / 92.4"),
    "copa": few_glue("COPA", "95.0", "95.0", alternatives),
    "multirc": few_glue("MultiRC", "37.9 / 77.3", "33.0 / 74.0", answers),
    "record": few_glue("ReCoRD", "86.0 / 86.5", "86.0 / 86.5", entities),
    "rte": few_glue("RTE", "69.8", "74.0"),
    "wic": few_glue("WiC", "52.4", "52.2"),
    "wsc": few_glue("WSC", "80.1", "80.1", referents),
}


def convert(name: str, source: Path, folder: Path, count: int) -> dict[str, Path]:
    """Write the recipe's data files and return them by their key.

    Of a task of the PET paper, the first rows of each label become the labelled ones, ``count`` in all, spread over the labels as
    evenly as they go, and the next 10,000 of each the unlabelled ones.
    """
    task = TASKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    files = {key: folder / f"{key}.jsonl" for key in ("train", "unlabeled", "test")}
    write(files["test"], task.rows(source / task.test))
    if task.train.startswith("FewGLUE"):
        write(files["train"], task.rows(source / task.train))
        write(files["unlabeled"], task.rows((source / task.train).with_name("unlabeled.jsonl")))
        return files
    label = "topic" if name == "yahoo" else "label"
    labels = sorted({row[label] for row in task.rows(source / task.train)})
    wanted = {own: count // len(labels) + (number < count % len(labels)) for number, own in enumerate(labels)}
    seen: Counter[Any] = Counter()
    parts: dict[str, list[Row]] = {"train": [], "unlabeled": []}
    for row in task.rows(source / task.train):
        place = seen[row[label]] - wanted[row[label]]
        seen[row[label]] += 1
        if place < UNLABELED_PER_LABEL:
            parts["train" if place < 0 else "unlabeled"].append(row)
    for part, rows in parts.items():
        write(files[part], rows)
    return files


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def settings(name: str, files: Mapping[str, Path]) -> list[str]:
    """Return what a recipe is run with: its data files, and next to no training of a student that no figure is of."""
    # Rows of WSC do not say which candidate is right, so that this script judges the answers (see figures).
    data = [f"data.{key}={path.resolve()}" for key, path in files.items() if (name, key) != ("wsc", "test")]
    return data + ["student.steps=1", "student.batch_size=1"] * (name in WITHOUT_STUDENT)


def figures(result: petkit.RunResult, name: str, test: Path) -> str:
    """Return the figures that the papers give of a task, in per cent: accuracy, with macro-F1 (CB), or exact match and F1."""
    if name == "wsc":
        rows = list(json_rows(test))
        predictor = petkit.Predictor.load(result.folder, teachers=True)
        shares = [right_referents(rows, [prediction.label for prediction in predictor.stream(rows)])]
    else:
        assert result.metrics is not None  # there is a test set
        measured = result.metrics["ensemble" if name in WITHOUT_STUDENT else "student"]
        shares = [measured["accuracy"]]
        if name == "multirc":
            shares = [measured["grouped"]["exact_match"], measured["labels"]["True"]["f1"] or 0.0]
        elif name in ("cb", "record"):
            shares.append(measured["macro_f1" if name == "cb" else "answer_f1"])
    return " / ".join(f"{100 * share:.1f}" for share in shares)


def main() -> None:
    """Convert, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the original data")
    parser.add_argument("--rows", type=int, choices=(10, 50, 100), help="labelled rows; default: 10, and FewGLUE's 32")
    parser.add_argument("--ipet", action="store_true", help="further generations of teachers")
    parser.add_argument("--out", type=Path, default=Path("runs/papers"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    of_few_glue = TASKS[options.task].train.startswith("FewGLUE")
    if of_few_glue and options.rows:
        parser.error("--rows: FewGLUE has 32 labelled rows")
    if options.ipet and options.task in WITHOUT_STUDENT:
        parser.error(f"--ipet: the paper trains no further generations for {options.task}, and its two figures are the same")
    rows, method = 32 if of_few_glue else options.rows or 10, "iPET" if options.ipet else "PET"
    folder = options.out / f"{options.task}-{rows}"
    try:
        files = convert(options.task, options.data, folder / "data", rows)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: no such file (--help says which are needed)")
    overrides = settings(options.task, files) + ["generations.count=auto"] * options.ipet + options.set
    result = petkit.run(ROOT / "pipelines" / "paper" / f"{options.task}.yaml", folder / method.lower(), overrides=overrides)
    own, published = figures(result, options.task, files["test"]), TASKS[options.task].published[method, rows]
    print(f"{options.task}, {method}, {rows} labelled rows: {own} (paper: {published})")


if __name__ == "__main__":
    main()
