"""What bad input costs: accuracy with wrong labels, bad patterns, few rows and rare labels, on public few-shot tasks.

    PETKIT_BENCH_DATA=/path/to/data python benchmarks/robustness.py --threads 1 --jobs 2

Everything else is as by default: 8 labelled rows per label, one seed per pattern, the embedded model. Accuracy is that on
development rows, the labelled rows of other draws (see ``fewshot.py``). A finished run's line is added to ``--results``, and not
made again: delete the file after a change of defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeAlias

import fewshot
import yaml

Rows: TypeAlias = list[dict[str, Any]]
TASKS = [task for task in fewshot.TASKS if task != "sick"]  # whose rows are pairs, which the bad patterns are not about
RESULTS = fewshot.HERE / "results" / "robustness.jsonl"
# Patterns that a hurried person might write: the mask has nothing to do with the label.
BAD_PATTERNS = [{"id": "weather", "text": "It was a {mask} day. {text}"}, {"id": "end", "text": "{text} and the {mask}"}]


def per_label(rows: Rows, counts: Sequence[int]) -> Rows:
    """Return the first rows of each label, as many as ``counts`` says in turn for the labels in order."""
    groups: dict[str, Rows] = defaultdict(list)
    for row in rows:
        groups[row["label"]].append(row)
    return [row for number, label in enumerate(sorted(groups)) for row in groups[label][: counts[number % len(counts)]]]


def with_wrong_labels(rows: Rows, share: float) -> Rows:
    """Return the rows, ``share`` of them with another label, drawn at random."""
    draw, labels = random.Random(0), sorted({row["label"] for row in rows})
    wrong = set(draw.sample(range(len(rows)), round(share * len(rows))))
    others = {label: [other for other in labels if other != label] for label in labels}
    return [{**row, "label": draw.choice(others[row["label"]])} if number in wrong else row for number, row in enumerate(rows)]


# What is done to the labelled and the unlabelled rows.
CONDITIONS: dict[str, Callable[[Rows, Rows], tuple[Rows, Rows]]] = {
    "as they are": lambda train, unlabeled: (train, unlabeled),
    "two bad patterns more": lambda train, unlabeled: (train, unlabeled),
    "one label in eight wrong": lambda train, unlabeled: (with_wrong_labels(train, 1 / 8), unlabeled),
    "one label in five wrong": lambda train, unlabeled: (with_wrong_labels(train, 1 / 5), unlabeled),
    "every second label rare, 2 rows to 8": lambda train, unlabeled: (per_label(train, [8, 2]), unlabeled),
    "4 rows per label": lambda train, unlabeled: (per_label(train, [4]), unlabeled),
    "2 rows per label": lambda train, unlabeled: (per_label(train, [2]), unlabeled),
    "100 unlabelled rows": lambda train, unlabeled: (train, unlabeled[:100]),
}


def main() -> None:
    """Run what is missing, then print."""
    options = _options()
    if options.cell:
        task, draw, condition = json.loads(options.cell)
        print(json.dumps(measure(task, draw, condition, options.threads)))
        return
    done = {(row["task"], row["draw"], row["condition"]): row for row in _read(options.results)}
    wanted = [(task, draw, name) for draw in options.draws for name in options.conditions for task in options.tasks]
    with ThreadPoolExecutor(options.jobs) as pool:
        for work in as_completed([pool.submit(_in_a_process, cell, options) for cell in wanted if cell not in done]):
            if (row := work.result()) is None:
                continue
            done[row["task"], row["draw"], row["condition"]] = row
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, file=sys.stderr, flush=True)
    print(f"| rows and patterns | {' | '.join(f'{task}: ensemble, student' for task in options.tasks)} |")
    print("|---" * (len(options.tasks) + 1) + "|")
    for name in options.conditions:
        cells = [[done[task, draw, name] for draw in options.draws if (task, draw, name) in done] for task in options.tasks]
        shown = [", ".join(_mean([row[of] for row in rows]) for of in ("ensemble", "student")) for rows in cells]
        print(f"| {name} | {' | '.join(shown)} |")


def measure(task: str, draw: int, condition: str, threads: int) -> dict[str, Any]:
    """Train and measure under one condition."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = fewshot.data_folder()
        files = fewshot.Cell(task, 8, draw, "default", "development").files(data, folder)
        changed = CONDITIONS[condition](_read(files["train"]), _read(files["unlabeled"]))
        for part, rows in zip(("train", "unlabeled"), changed, strict=True):
            files[part] = folder / f"{part}.jsonl"
            files[part].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        overrides = [f"data.{part}={path}" for part, path in files.items()]
        overrides += [f"compute.threads={threads}", "compute.precision=float32"]
        pipeline = fewshot.HERE.parent / "pipelines" / f"{task}.yaml"
        if condition == "two bad patterns more":
            overrides.append(f"patterns={_with_bad_patterns(pipeline, folder)}")
        accuracies = fewshot.run_petkit(pipeline, overrides, folder / "run")
    shown = {"student": accuracies["accuracy"], "ensemble": accuracies["ensemble"]}
    return {"task": task, "draw": draw, "condition": condition, **shown}


def _with_bad_patterns(pipeline: Path, folder: Path) -> Path:
    own = pipeline.parent / yaml.safe_load(pipeline.read_text(encoding="utf-8"))["patterns"]
    patterns = yaml.safe_load(own.read_text(encoding="utf-8"))["patterns"]
    path = folder / "patterns.yaml"
    path.write_text(yaml.safe_dump({"patterns": [*patterns, *BAD_PATTERNS]}), encoding="utf-8")
    return path


def _in_a_process(cell: tuple[str, int, str], options: argparse.Namespace) -> dict[str, Any] | None:
    command = [sys.executable, __file__, "--cell", json.dumps(cell), "--threads", str(options.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{cell} failed", file=sys.stderr, flush=True)
        return None
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _mean(shares: Sequence[float]) -> str:
    return f"{100 * sum(shares) / len(shares):.1f}" if shares else "–"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tasks", nargs="+", default=["trec", "sst2"], choices=TASKS)
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS), metavar="CONDITION")
    parser.add_argument("--draws", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
