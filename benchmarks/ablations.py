"""With and without: what each piece of petkit does to accuracy on public few-shot data.

    PETKIT_BENCH_DATA=/path/to/data python benchmarks/ablations.py --out runs/ablations

Trains on 8 labelled rows per label of AG's News and SST-2 with the embedded model, two draws of the labelled rows
(``--splits``), one seed per pattern, everything else as by default; then again with one thing changed at a time.
Finished runs are kept in ``--out`` and not done again, so the table grows over several calls; ``--pieces`` and
``--tasks`` choose. Prints, per task, the untrained ensemble (batch calibrated), the trained ensemble and the student,
each as the mean over the draws, and the difference of the student's to the default.

Every run is measured twice: on the test rows, and on development rows, which are those of ``train_k32_s*.jsonl`` that
the run did not learn from. Changing a default after reading the table is selection; that is what the development rows
are for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import petkit
from petkit.config.loader import load_pipeline
from petkit.errors import PetkitError
from petkit.predict.row_io import evaluate_file

HERE = Path(__file__).resolve().parents[1]
# The metrics of finished runs, by the draw of their labelled rows.
Runs: TypeAlias = dict[int, dict[str, Any]]
COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "untrained, calibrated, test": lambda metrics: metrics["zero_shot"]["ensemble"]["batch"],
    "ensemble, dev.": lambda metrics: metrics["development"]["ensemble"],
    "student, dev.": lambda metrics: metrics["development"]["student"],
    "ensemble, test": lambda metrics: metrics["ensemble"]["accuracy"],
    "student, test": lambda metrics: metrics["student"]["accuracy"],
}
# What is changed, and whether the teachers stay the same: then the default run's are copied and not trained again.
PIECES: dict[str, tuple[list[str], bool]] = {
    "default": ([], False),
    "iPET": (["generations.count=auto"], False),
    "auxiliary MLM 1e-4": (["teachers.auxiliary_mlm_weight=1.0e-4"], False),
    "auxiliary MLM 0.1": (["teachers.auxiliary_mlm_weight=0.1"], False),
    "adapted model": (["model={adapted}"], False),
    "batch calibration": (["soft_labels.calibration=batch"], True),
    "contextual calibration": (["soft_labels.calibration=contextual"], True),
    "automatic verbalizer": (["verbalizer={auto: {per_label: 3}}"], False),
    "R-Drop": (["teachers.r_drop_weight=1", "teachers.dropout=0.1"], False),
    "dropout 0.1 alone": (["teachers.dropout=0.1"], False),
    "no labelled rows in stage C": (["student.hard_weight=0"], True),
    "no confidence weights": (["soft_labels.confidence_weights=false"], True),
    "no training, calibrated": (["data.train=null", "soft_labels.calibration=batch"], False),
}


def main() -> None:
    """Run what is missing and print the table."""
    options = _options()
    data = os.environ.get("PETKIT_BENCH_DATA")
    if not data or not Path(data).is_dir():
        sys.exit(
            "set PETKIT_BENCH_DATA to the folder that holds ag_news/, sst2/, … (train_k8_s0.jsonl, unlabeled.jsonl, test.jsonl)"
        )
    results: dict[tuple[str, str], Runs] = {}
    for split in options.splits:
        for task in options.tasks:
            for piece in options.pieces:
                metrics = _metrics(Path(data) / task, task, piece, split, options.out, run=not options.table)
                if metrics is not None:
                    results.setdefault((task, piece), {})[split] = metrics
    for task in options.tasks:
        _print(task, {piece: results[task, piece] for piece in options.pieces if (task, piece) in results})


def _metrics(folder: Path, task: str, piece: str, split: int, out: Path, *, run: bool) -> dict[str, Any] | None:
    changed, same_teachers = PIECES[piece]
    done = out / f"{task}-{split}" / piece.replace(" ", "-").lower()
    finished = done / "evaluation" / "metrics.json"
    if not finished.is_file():
        if not run:
            return None
        default = out / f"{task}-{split}" / "default"
        if same_teachers and (default / "evaluation").is_dir() and not done.exists():
            shutil.copytree(default, done)
        _run(folder, task, split, done, changed)
    loaded: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
    loaded["development"] = _on_development_rows(folder, split, done)
    return loaded


def _on_development_rows(folder: Path, split: int, done: Path) -> dict[str, float]:
    """Return the accuracies of a finished run's ensemble and student on rows nothing was learnt from and no test knows."""
    measured = done.with_suffix(".development.json")
    if not measured.is_file():
        rows = write_development_rows(folder, split, done.with_name("development.jsonl"))
        predictors = {"ensemble": petkit.Predictor.load(done, teachers=True), "student": petkit.Predictor.load(done)}
        accuracies = {name: evaluate_file(predictor, str(rows)).accuracy for name, predictor in predictors.items()}
        measured.write_text(json.dumps(accuracies), encoding="utf-8")
    accuracy: dict[str, float] = json.loads(measured.read_text(encoding="utf-8"))
    return accuracy


def write_development_rows(folder: Path, split: int, path: Path) -> Path:
    """Write the labelled rows of other draws that a draw's run did not learn from; return the path."""
    learnt = set((folder / f"train_k8_s{split}.jsonl").read_text(encoding="utf-8").splitlines())
    drawn = [line for part in sorted(folder.glob("train_k32_s*.jsonl")) for line in part.read_text("utf-8").splitlines()]
    path.write_text("\n".join(line for line in dict.fromkeys(drawn) if line not in learnt) + "\n", encoding="utf-8")
    return path


def _run(folder: Path, task: str, split: int, done: Path, changed: list[str]) -> None:
    files = {"train": f"train_k8_s{split}.jsonl", "unlabeled": "unlabeled.jsonl", "test": "test.jsonl"}
    overrides = [f"data.{part}={folder / name}" for part, name in files.items()] + [
        "teachers.seeds=[1]",
        "evaluation.teachers=all",
    ]
    pipeline = HERE / "pipelines" / f"{task}.yaml"
    adapted = done.parents[1] / f"{task}-adapted"
    if any("{adapted}" in change for change in changed) and not (adapted / "model").is_dir():
        from petkit.pretraining.adapt import adapt

        adapt(load_pipeline(pipeline, overrides), adapted)
    overrides += [change.replace("{adapted}", str(adapted / "model")) for change in changed]
    started = time.perf_counter()
    print(f"{task} split {split}: {done.name} … ", end="", file=sys.stderr, flush=True)
    try:
        petkit.run(pipeline, done, overrides=overrides, force="stale")
    except PetkitError as error:
        sys.exit(str(error))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


def _print(task: str, results: dict[str, Runs]) -> None:
    print(f"\n{task}\n\n| changed | {' | '.join(COLUMNS)} | student against default: dev., test | runs |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    default = results.get("default", {})
    for piece, runs in results.items():
        cells = [_shown([column(metrics) for metrics in runs.values()]) for column in COLUMNS.values()]
        # Only draws that both have: another draw moves accuracy by more than most pieces do.
        common = [split for split in runs if split in default and piece != "default"]
        against = [
            f"{100 * statistics.mean(student(runs[split]) - student(default[split]) for split in common):+.1f}"
            for student in (COLUMNS["student, dev."], COLUMNS["student, test"])
            if common
        ]
        print(f"| {piece} | {' | '.join(cells)} | {', '.join(against)} | {len(runs)} |")


def _shown(values: list[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="where runs are kept")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "ag_news"], choices=["sst2", "ag_news", "trec", "sick", "imdb"])
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1], help="draws of the labelled rows")
    parser.add_argument("--pieces", nargs="+", default=list(PIECES), choices=list(PIECES))
    parser.add_argument("--table", action="store_true", help="print what is finished; run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
