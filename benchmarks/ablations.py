"""With and without: what each piece of petkit does to accuracy on public few-shot data.

    PETKIT_BENCH_DATA=/path/to/data python benchmarks/ablations.py --out runs/ablations --rows development

Trains on 8 labelled rows per label of AG's News and SST-2 with the embedded model, two draws of the labelled rows
(``--splits``), one seed per pattern, everything else as by default; then again with one thing changed at a time.
Finished runs are kept in ``--out`` and not done again, so the table grows over several calls; ``--pieces`` and
``--tasks`` choose. Prints, per task, the untrained ensemble (batch calibrated), the trained ensemble and the student,
each as the mean over the draws, and the difference of the student's to the first piece.

``--rows development`` measures on the rows of ``train_k*_s*.jsonl`` that the run did not learn from: choosing a setting by
the table is selection, and test rows are not for that. ``--rows test`` measures on the test rows.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import petkit
from petkit.config.loader import load_pipeline
from petkit.errors import PetkitError

HERE = Path(__file__).resolve().parents[1]
# The metrics of finished runs, by the draw of their labelled rows.
Runs: TypeAlias = dict[int, dict[str, Any]]
STUDENT_ACCURACY: Callable[[dict[str, Any]], float] = lambda metrics: metrics["student"]["accuracy"]  # noqa: E731
COLUMNS: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "untrained, calibrated": lambda metrics: metrics.get("zero_shot", {}).get("ensemble", {}).get("batch"),
    "ensemble": lambda metrics: metrics.get("ensemble", {}).get("accuracy"),
    "student": STUDENT_ACCURACY,
}


@dataclass(frozen=True)
class Piece:
    """What is changed, and the piece that has the same teachers, if any: its run is copied, and they are not trained again."""

    overrides: tuple[str, ...] = ()
    teachers: str = ""

    def and_(self, *overrides: str) -> Piece:
        """Return it with more changes."""
        return replace(self, overrides=(*self.overrides, *overrides))


DEFAULT = Piece(teachers="default")
# What changes the teachers alone has a short student, and what changes the student alone the teachers of one of these.
TEACHERS = Piece(("student.steps=80", "student.learning_rate=5e-5", "teachers.stop_loss=0", "soft_labels.rows=1280"))
STUDENT = Piece(("teachers.steps=30", "teachers.stop_loss=0", "soft_labels.rows=1280", "evaluation.teachers=none"), "teachers 30")
PIECES: dict[str, Piece] = {
    "default": Piece(),
    "iPET": Piece(("generations.count=auto",)),
    "auxiliary MLM 1e-4": Piece(("teachers.auxiliary_mlm_weight=1.0e-4",)),
    "auxiliary MLM 0.1": Piece(("teachers.auxiliary_mlm_weight=0.1",)),
    "adapted model": Piece(("model={adapted}",)),
    "batch calibration": DEFAULT.and_("soft_labels.calibration=batch"),
    "contextual calibration": DEFAULT.and_("soft_labels.calibration=contextual"),
    "automatic verbalizer": Piece(("verbalizer={auto: {per_label: 3}}",)),
    "R-Drop": Piece(("teachers.r_drop_weight=1", "teachers.dropout=0.1")),
    "dropout 0.1 alone": Piece(("teachers.dropout=0.1",)),
    "labelled rows in stage C": DEFAULT.and_("student.hard_weight=0.2"),
    "no confidence weights": DEFAULT.and_("soft_labels.confidence_weights=false"),
    "no training, calibrated": Piece(("data.train=null", "verbalizer.descriptions={}", "soft_labels.calibration=batch")),
    # How long teachers and students are trained, from where, and how much of them.
    "teachers 30": TEACHERS.and_("teachers.steps=30"),
    "teachers 30, half": TEACHERS.and_("teachers.steps=30", "teachers.freeze=half"),
    "teachers 30, embeddings": TEACHERS.and_("teachers.steps=30", "teachers.freeze=embeddings"),
    "teachers 40": TEACHERS.and_("teachers.steps=40"),
    "teachers 60": TEACHERS.and_("teachers.steps=60"),
    "teachers 100": TEACHERS.and_("teachers.steps=100"),
    "teachers stop at 0.05": TEACHERS.and_("teachers.steps=100", "teachers.stop_loss=0.05"),
    "teachers stop at 0.05, rate 1e-4, half": TEACHERS.and_(
        "teachers.steps=100", "teachers.stop_loss=0.05", "teachers.learning_rate=1e-4", "teachers.freeze=half"
    ),
    "teachers stop at 0.05, three seeds": TEACHERS.and_(
        "teachers.steps=100", "teachers.stop_loss=0.05", "teachers.seeds=[1,2,3]"
    ),
    "teachers 30, three seeds": TEACHERS.and_("teachers.steps=30", "teachers.seeds=[1,2,3]"),
    "teachers 30, rate 1e-4": TEACHERS.and_("teachers.steps=30", "teachers.learning_rate=1e-4"),
    "teachers 30, rate 1e-4, half": TEACHERS.and_("teachers.steps=30", "teachers.learning_rate=1e-4", "teachers.freeze=half"),
    "teachers 30, rate 1e-4, three seeds": TEACHERS.and_(
        "teachers.steps=30", "teachers.learning_rate=1e-4", "teachers.seeds=[1,2,3]"
    ),
    "teachers 60, rate 1e-4": TEACHERS.and_("teachers.steps=60", "teachers.learning_rate=1e-4"),
    "teachers 30, rate 2e-4": TEACHERS.and_("teachers.steps=30", "teachers.learning_rate=2e-4"),
    **{
        f"student {steps}, rate {rate}": STUDENT.and_(f"student.steps={steps}", f"student.learning_rate={rate}")
        for steps in (60, 80, 100, 150, 400)
        for rate in ("5e-5", "1e-4", "2e-4", "3e-4", "5e-4")
    },
    **{
        f"student 150, rate {rate}, half": STUDENT.and_(
            "student.steps=150", f"student.learning_rate={rate}", "student.freeze=half"
        )
        for rate in ("2e-4", "3e-4", "5e-4")
    },
    "student 80, rate 3e-4, half": STUDENT.and_("student.steps=80", "student.learning_rate=3e-4", "student.freeze=half"),
    "student 80, rate 3e-4, 500 rows": STUDENT.and_("student.steps=80", "student.learning_rate=3e-4", "soft_labels.rows=500"),
}


def main() -> None:
    """Run what is missing and print the table."""
    options = _options()
    data = os.environ.get("PETKIT_BENCH_DATA")
    if not data or not Path(data).is_dir():
        sys.exit(
            "set PETKIT_BENCH_DATA to the folder that holds ag_news/, sst2/, … (train_k8_s0.jsonl, unlabeled.jsonl, test.jsonl)"
        )
    out, results = options.out / options.rows, dict[tuple[str, str], Runs]()
    for split in options.splits:
        for task in options.tasks:
            for piece in options.pieces:
                if not options.table:
                    _run(Path(data) / task, piece, split, out, options.overrides)
                finished = _place(out, task, split, piece) / "evaluation" / "metrics.json"
                if finished.is_file():
                    results.setdefault((task, piece), {})[split] = json.loads(finished.read_text(encoding="utf-8"))
    for task in options.tasks:
        _print(task, {piece: results[task, piece] for piece in options.pieces if (task, piece) in results})


def _place(out: Path, task: str, split: int, piece: str) -> Path:
    return out / f"{task}-{split}" / piece.replace(" ", "-").lower()


def write_development_rows(train: Path, path: Path) -> Path:
    """Write the labelled rows of other draws than the one of ``train``, which are next to it; return the path."""
    learnt = set(train.read_text(encoding="utf-8").splitlines())
    drawn = [line for part in sorted(train.parent.glob("train_k*_s*.jsonl")) for line in part.read_text("utf-8").splitlines()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line for line in dict.fromkeys(drawn) if line not in learnt) + "\n", encoding="utf-8")
    return path


def _run(folder: Path, piece: str, split: int, out: Path, given: list[str]) -> None:
    """Run a piece, after the piece that has its teachers, unless it is finished."""
    task, done = folder.name, _place(out, folder.name, split, piece)
    if (done / "evaluation" / "metrics.json").is_file():
        return
    if (source := PIECES[piece].teachers) and not done.exists():
        _run(folder, source, split, out, given)
        shutil.copytree(_place(out, task, split, source), done)
        shutil.rmtree(done / "evaluation")
    test, train = folder / "test.jsonl", folder / f"train_k8_s{split}.jsonl"
    if out.name == "development":
        test = write_development_rows(train, done.with_name("development.jsonl"))
    overrides = [f"data.train={train}", f"data.unlabeled={folder / 'unlabeled.jsonl'}"]
    overrides += [f"data.test={test}", "teachers.seeds=[1]", "evaluation.teachers=all", *given]
    pipeline, changed = HERE / "pipelines" / f"{task}.yaml", PIECES[piece].overrides
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
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _print(task: str, results: dict[str, Runs]) -> None:
    first = next(iter(results), "")
    print(f"\n{task}\n\n| changed | {' | '.join(COLUMNS)} | student against {first} | draws |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for piece, runs in results.items():
        cells = [
            _shown([value for metrics in runs.values() if (value := column(metrics)) is not None]) for column in COLUMNS.values()
        ]
        # Only draws that both have: another draw moves accuracy by more than most pieces do.
        common = [split for split in runs if split in results[first] and piece != first]
        gains = [STUDENT_ACCURACY(runs[split]) - STUDENT_ACCURACY(results[first][split]) for split in common]
        against = f"{100 * statistics.mean(gains):+.1f}" if gains else "–"
        print(f"| {piece} | {' | '.join(cells)} | {against} | {len(runs)} |")


def _shown(values: list[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}" if values else "–"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="where runs are kept")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "ag_news"], choices=["sst2", "ag_news", "trec", "sick", "imdb"])
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1], help="draws of the labelled rows")
    parser.add_argument("--pieces", nargs="+", default=list(PIECES), choices=list(PIECES), metavar="PIECE")
    parser.add_argument("--rows", default="test", choices=["test", "development"], help="what accuracy is measured on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="for every piece")
    parser.add_argument("--table", action="store_true", help="print what is finished; run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
