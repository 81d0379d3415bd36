"""Accuracy against time and operations: petkit's configurations and other methods, on public few-shot tasks.

    PETKIT_BENCH_DATA=/path/to/data python benchmarks/fewshot.py                  # runs what is missing, prints the table
    python benchmarks/fewshot.py --table --plot docs/pareto.svg                   # of the results there are

A cell is a task, a number of labelled rows per label, a draw of them, a method, and the rows it is measured on: ``test``, or
``development``, which are the rows of other draws; choices are made on the latter. Each cell is a process of its own with
``--threads`` threads, ``--jobs`` of them at a time; its line is added to ``--results`` when it ends, so that work over several
days goes on from there. Seconds are those from the pipeline file to the evaluated classifier, and can be compared only
between cells of one hour; operations (matrix products, see ``operations.py``) always.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "fewshot.parquet"
TASKS = ("ag_news", "sst2", "trec", "sick", "imdb")
STUDENT_OF_0_1 = ("student.steps=400", "student.learning_rate=5e-5", "soft_labels.rows=6400")
# Configurations of petkit, as overrides of the task's pipeline file; other methods by the name of their baseline.
CONFIGURATIONS: dict[str, list[str]] = {
    "default": [],
    "trainings of 0.1.0": ["verbalizer.descriptions={}", "teachers.stop_loss=0", *STUDENT_OF_0_1],
    "default, no descriptions": ["verbalizer.descriptions={}"],
    "descriptions, no labelled rows": ["data.train=null"],
    "nothing labelled, nothing described": ["data.train=null", "verbalizer.descriptions={}", "soft_labels.calibration=batch"],
    "default, 60 steps": ["teachers.steps=60", "teachers.stop_loss=0"],
    "default, three seeds": ["teachers.seeds=[1,2,3]"],
    "default, iPET": ["generations.count=1", "soft_labels.rows=800"],
    "labelled rows in stage C": ["student.hard_weight=0.2"],
}
ABOUT_DESCRIPTIONS = ("default, no descriptions", "descriptions, no labelled rows")
ENCODED = "setfit, sentence encoder"  # the baseline setfit on the model of --encoder instead of the pipeline's
BASELINES = ("majority", "tfidf", "probe", "supervised", "setfit", ENCODED, "zero_shot")
SCHEMA = pa.schema(
    {
        "task": pa.string(),
        "per_label": pa.int32(),
        "draw": pa.int32(),
        "method": pa.string(),
        "rows": pa.string(),
        "settings": pa.string(),
        "accuracy": pa.float64(),
        "ensemble": pa.float64(),  # accuracy of the teachers together; null for other methods
        "seconds": pa.float64(),
        "operations": pa.float64(),
        "threads": pa.int32(),
        "finished": pa.string(),
    }
)


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    task: str
    per_label: int
    draw: int
    method: str
    rows: str  # test or development
    settings: str = ""  # hash of the settings that the method reads; the encoder of one that has an encoder

    def files(self, data: Path, folder: Path) -> dict[str, Path]:
        """Return the files of the labelled, unlabelled and measured rows; development rows are written into ``folder``."""
        task = data / self.task
        train = task / f"train_k{self.per_label}_s{self.draw}.jsonl"
        measured = task / "test.jsonl"
        if self.rows == "development":
            from ablations import write_development_rows

            measured = write_development_rows(train, folder / "development.jsonl")
        return {"train": train, "unlabeled": task / "unlabeled.jsonl", "test": measured}


def main() -> None:
    """Run what is missing, then print."""
    options = _options()
    if options.cell:
        print(json.dumps(measure(Cell(**json.loads(options.cell)), options.threads, options.encoder)))
        return
    wanted = [
        Cell(task, options.per_label, draw, method, options.rows, settings)
        for task in options.tasks
        for method in options.methods
        if _is_there(task, method)
        for settings in [settings_of(task, method, options.encoder)]
        for draw in options.draws
    ]
    if not options.table:
        missing = [cell for cell in wanted if cell not in _finished(options.results)]
        if not options.encoder and any(cell.method == ENCODED for cell in missing):
            print(f"{ENCODED!r} is left out: --encoder names no folder", file=sys.stderr)
            missing = [cell for cell in missing if cell.method != ENCODED]
        _run(sorted(missing, key=lambda cell: cell.draw), options)
    found = read(options.results)
    encoders = sorted({row["settings"] for row in found if row["method"] == ENCODED})
    if ENCODED in options.methods and not options.encoder and len(encoders) == 1:
        options.encoder = encoders[0]
    shown = [row for row in found if _belongs(row, options)]
    print("\n".join(table(shown, options.methods)))
    if options.plot:
        plot(shown, options.methods, options.plot)


@cache
def settings_of(task: str, method: str, encoder: str) -> str:
    """Return what tells a method's results from those it had with other defaults, or another encoder."""
    if method == ENCODED:
        return "/".join(Path(encoder).resolve().parts[-2:]) if encoder else ""
    from petkit.stages.evaluation import CALIBRATION_ROWS
    from petkit.task.checks import used_rows
    from petkit.task.task import TEACHER_TEST_ROWS

    spec = _spec(task, CONFIGURATIONS.get(method, ()))
    # Only what can change a result, so that a new key changes no hash.
    student = spec.student.for_width(1).fingerprint_settings()
    prompts = [spec.model_dump(mode="json", include={"patterns", "verbalizer"}, exclude_none=True)]
    if method in BASELINES:
        read: list[Any] = {"supervised": [student], "zero_shot": prompts}.get(method, [])
    else:  # what auto stands for counts, too
        used, settings = {"demonstrations", "teachers", "generations", "soft_labels"}, spec.fingerprint_settings()
        meant = [used_rows(spec), spec.teachers.stops_below, TEACHER_TEST_ROWS, CALIBRATION_ROWS, spec.teachers.seeds]
        whole = [spec.label_kind, spec.model, spec.max_length, spec.truncate, spec.keep_patterns]
        read = [prompts, student, meant, whole, {key: settings[key] for key in sorted(used)}]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:12] if read else ""


def _is_there(task: str, method: str) -> bool:
    """Say whether a task has a configuration: those about descriptions need some."""
    return method not in ABOUT_DESCRIPTIONS or bool(_spec(task).verbalizer.descriptions)


def _spec(task: str, overrides: Sequence[str] = ()) -> Any:
    from petkit.config.loader import load_pipeline

    return load_pipeline(HERE.parent / "pipelines" / f"{task}.yaml", overrides).spec


def _belongs(row: dict[str, Any], options: argparse.Namespace) -> bool:
    """Say whether a result is one of those asked for; those of earlier defaults are kept in the file, and not shown."""
    asked = row["rows"] == options.rows and row["per_label"] == options.per_label and row["method"] in options.methods
    return bool(asked and row["settings"] == settings_of(row["task"], row["method"], options.encoder))


# -- results ---------------------------------------------------------------------------------------


def read(results: Path) -> list[dict[str, Any]]:
    """Return the lines of the results."""
    rows: list[dict[str, Any]] = pq.read_table(results).to_pylist() if results.is_file() else []
    return rows


def _finished(results: Path) -> set[Cell]:
    return {Cell(*(row[key] for key in Cell.__dataclass_fields__)) for row in read(results)}


def _add(results: Path, row: dict[str, Any]) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    part = results.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist([*read(results), row], SCHEMA), part)
    part.replace(results)


def table(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> Iterator[str]:
    """Yield a Markdown table: accuracy per task in per cent, mean over the draws ± deviation; seconds and operations per run."""
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    yield f"| method | {' | '.join(tasks)} | mean | seconds | 10^12 operations |"
    yield "|---" * (len(tasks) + 4) + "|"
    for method in methods:
        of_task = {task: [row for row in rows if row["method"] == method and row["task"] == task] for task in tasks}
        if not any(of_task.values()):
            continue
        cells = [_spread([100 * row["accuracy"] for row in found]) for found in of_task.values()]
        complete = all(of_task.values())
        means = [_mean(found) for found in of_task.values() if found]
        summary = [f"{value:.1f}" for value in map(statistics.mean, zip(*means, strict=True))] if complete else ["–"] * 3
        yield f"| {method} | {' | '.join([*cells, *summary])} |"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f} ({len(values)})" if len(values) > 1 else "")


def _mean(rows: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the mean accuracy in per cent, seconds and 10^12 operations."""
    scale = {"accuracy": 100.0, "seconds": 1.0, "operations": 1e-12}
    accuracy, seconds, operations = (factor * statistics.mean(row[key] for row in rows) for key, factor in scale.items())
    return accuracy, seconds, operations


def plot(rows: Sequence[dict[str, Any]], methods: Sequence[str], path: Path) -> None:
    """Draw mean accuracy over the tasks against seconds and against operations; methods that lack a task are left out."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "petkit"  # the same file for the same results
    tasks = sorted({row["task"] for row in rows})
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for method in methods:
        found = [[row for row in rows if row["method"] == method and row["task"] == task] for task in tasks]
        if not all(found):
            continue
        accuracy, seconds, operations = (statistics.mean(values) for values in zip(*map(_mean, found), strict=True))
        for axis, cost in zip(axes, (seconds, operations), strict=True):
            axis.plot(max(cost, 1e-2), accuracy, "o" if method in BASELINES else "s")
            axis.annotate(method, (max(cost, 1e-2), accuracy), textcoords="offset points", xytext=(5, 4), fontsize=8)
    for axis, name in zip(axes, ("seconds", "10^12 operations"), strict=True):
        axis.set(xscale="log", xlabel=name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"accuracy in %, mean of {', '.join(tasks)}")
    figure.savefig(path, metadata={"Date": None})


# -- cells -----------------------------------------------------------------------------------------


def _run(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    data_folder()
    with ThreadPoolExecutor(options.jobs) as pool:
        for work in as_completed([pool.submit(_in_a_process, cell, options) for cell in cells]):
            if row := work.result():
                _add(options.results, row)
                print(*(row[key] for key in ("task", "draw", "method", "accuracy", "seconds")), file=sys.stderr, flush=True)


def _in_a_process(cell: Cell, options: argparse.Namespace) -> dict[str, Any] | None:
    command = [sys.executable, __file__, "--cell", json.dumps(asdict(cell)), "--threads", str(options.threads)]
    command += ["--encoder", options.encoder]
    threads = {"OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{cell} failed: {why}", file=sys.stderr, flush=True)
        return None
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(cell: Cell, threads: int, encoder: str = "") -> dict[str, Any]:
    """Train and measure; return the line of the results."""
    from operations import counter

    pipeline = HERE.parent / "pipelines" / f"{cell.task}.yaml"
    with tempfile.TemporaryDirectory() as name, counter() as counting:
        folder = Path(name)
        overrides = [f"data.{part}={path}" for part, path in cell.files(data_folder(), folder).items()]
        overrides += [f"compute.threads={threads}", "compute.precision=float32"]
        started = time.perf_counter()
        if cell.method in BASELINES:
            accuracies = {"accuracy": _baseline(cell.method, pipeline, overrides, folder / "run", encoder)}
        else:
            accuracies = run_petkit(pipeline, [*overrides, *CONFIGURATIONS[cell.method]], folder / "run")
        seconds = time.perf_counter() - started
    facts = {"seconds": seconds, "operations": float(counting.get_total_flops()), "threads": threads}
    return {**asdict(cell), "ensemble": None, **accuracies, **facts, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def run_petkit(pipeline: Path, overrides: Sequence[str], folder: Path) -> dict[str, float | None]:
    """Run a pipeline; return the ``accuracy`` of its student and that of its ``ensemble``."""
    import petkit

    metrics = petkit.run(pipeline, folder, overrides=overrides).metrics or {}
    ensemble = metrics.get("ensemble")
    return {"accuracy": metrics["student"]["accuracy"], "ensemble": ensemble and ensemble["accuracy"]}


def _baseline(name: str, pipeline: Path, overrides: Sequence[str], folder: Path, encoder: str) -> float:
    """Run one baseline alone, without teachers and student; return its accuracy.

    Args:
        encoder: the folder of the sentence encoder, where the method has one.
    """
    from petkit.baselines.setfit import setfit_answer
    from petkit.config.loader import load_pipeline
    from petkit.engine.training_loop import own_random_numbers
    from petkit.events import ignore
    from petkit.runs.layout import BASELINE_FILE
    from petkit.runs.step import at_work, carry_out
    from petkit.runs.store import RunStore
    from petkit.stages import baselines
    from petkit.stages.pipeline import device_of
    from petkit.task.task import Task

    store = RunStore(folder)
    task = Task.checked(load_pipeline(pipeline, [*overrides, *([] if name == ENCODED else [f"baselines=[{name}]"])]))
    device = device_of(task, store)
    with at_work(store, "run", ignore) as report, device.in_use(), own_random_numbers(device):
        if name == ENCODED:
            logits, _ = setfit_answer(Path(encoder), task, device)
            gold = [example.label for example in task.rows("test")]
            return float((logits.argmax(axis=1) == gold).mean())
        (step,) = baselines.steps(task, device)
        carry_out(step.name, "new", step.all_inputs(store), step.work, store, 300.0, report)
    accuracy: float = store.read(step.name, BASELINE_FILE)["metrics"]["accuracy"]
    return accuracy


def data_folder() -> Path:
    """Return the folder of the few-shot tasks, which PETKIT_BENCH_DATA names."""
    given = os.environ.get("PETKIT_BENCH_DATA", "")
    for folder in (Path(given), Path(given) / "data"):
        if given and (folder / "ag_news").is_dir():
            return folder
    sys.exit("set PETKIT_BENCH_DATA to the folder that holds ag_news/, sst2/, … (train_k8_s0.jsonl, unlabeled.jsonl, test.jsonl)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*CONFIGURATIONS, *BASELINES]
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tasks", nargs="+", default=["ag_news", "sst2", "trec"], choices=TASKS)
    parser.add_argument("--methods", nargs="+", default=every, choices=every, metavar="METHOD")
    parser.add_argument("--draws", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--per-label", type=int, default=8, choices=[8, 32])
    parser.add_argument("--rows", default="test", choices=["test", "development"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--encoder", default="", metavar="FOLDER", help=f"the model of {ENCODED!r}, such as all-MiniLM-L6-v2")
    parser.add_argument("--table", action="store_true", help="print what is finished; run nothing")
    parser.add_argument("--plot", type=Path, help="write mean accuracy against seconds and operations, as SVG")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
