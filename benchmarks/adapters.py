"""What each adapter costs and gives, beside full fine-tuning, on public few-shot data.

    PETKIT_BENCH_DATA=/path/to/data python benchmarks/adapters.py --out runs/adapters

Trains teachers and student on 8 labelled rows per label of AG's News and SST-2 with the embedded model, two draws of the
labelled rows (``--splits``), one seed per pattern, everything else as by default, with each kind of adapter in turn
(``--kinds``). Every run is a process of its own, so that its peak memory is its own. Finished runs are kept in ``--out``
and not done again. Prints, per task: accuracy of ensemble and student on the test rows and of the student on development
rows (``benchmarks/ablations.py`` says which these are), the parameters one teacher trains, seconds of the whole run, the
peak memory of the process and the disk that the teachers' models take.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ablations import write_development_rows

import petkit
from petkit.errors import PetkitError
from petkit.predict.row_io import evaluate_file

HERE = Path(__file__).resolve().parents[1]
KINDS = ("none", "lora", "ia3", "p_tuning_v2", "p_tuning_v1", "prompt_tuning")


def main() -> None:
    """Run what is missing and print the tables."""
    options = _options()
    data = os.environ.get("PETKIT_BENCH_DATA")
    if not data or not Path(data).is_dir():
        sys.exit(
            "set PETKIT_BENCH_DATA to the folder that holds ag_news/, sst2/, … (train_k8_s0.jsonl, unlabeled.jsonl, test.jsonl)"
        )
    if options.one is not None:
        task, split, kind = options.one
        _run(Path(data) / task, task, int(split), kind, options.out, options.set)
        return
    for task in options.tasks:
        rows: dict[str, list[dict[str, Any]]] = {}
        for kind in options.kinds:
            for split in options.splits:
                done = options.out / f"{task}-{split}" / f"{kind}.json"
                if not done.is_file() and not options.table:
                    given = [f"--set={entry}" for entry in options.set]
                    command = [sys.executable, __file__, "--out", str(options.out), "--one", task, str(split), kind, *given]
                    subprocess.run(command, check=True)
                if done.is_file():
                    rows.setdefault(kind, []).append(json.loads(done.read_text(encoding="utf-8")))
        _print(task, rows)


def _run(folder: Path, task: str, split: int, kind: str, out: Path, given: list[str]) -> None:
    """Make one run in this process and write down what it took."""
    run = out / f"{task}-{split}" / kind
    shutil.rmtree(run, ignore_errors=True)  # what a killed run left would not be measured
    files = {"train": f"train_k8_s{split}.jsonl", "unlabeled": "unlabeled.jsonl", "test": "test.jsonl"}
    overrides = [f"data.{part}={folder / name}" for part, name in files.items()] + [
        "teachers.seeds=[1]",
        "evaluation.teachers=all",
    ]
    overrides += [f"{section}.adapter={kind}" for section in ("teachers", "student")] + given
    print(f"{task} split {split}: {kind} … ", end="", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        metrics = petkit.run(HERE / "pipelines" / f"{task}.yaml", run, overrides=overrides, force="stale").metrics
    except PetkitError as error:
        sys.exit(str(error))
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = write_development_rows(folder / files["train"], run.with_name("development.jsonl"))
    assert metrics is not None
    models = sorted((run / "stage_a").glob("*/model"))
    facts = json.loads((models[0] / "step.json").read_text(encoding="utf-8"))["facts"]
    found = {
        "ensemble": metrics["ensemble"]["accuracy"],
        "student": metrics["student"]["accuracy"],
        "development": evaluate_file(petkit.Predictor.load(run), str(rows)).accuracy,
        "trained": facts.get("trained_parameters"),
        "share": facts.get("trained_share"),
        "seconds": seconds,
        "peak_mb": peak,
        "disk_mb": sum(path.stat().st_size for model in models for path in model.rglob("*") if path.is_file()) / 1e6,
    }
    run.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")


def _print(task: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    titles = "adapter | ensemble | student | student, dev. | trained per teacher | seconds | peak MB | teachers, MB | runs"
    print(f"\n{task}\n\n| {titles} |\n{'|---' * (titles.count('|') + 1)}|")
    for kind, runs in rows.items():
        accuracies = [_shown([run[name] for run in runs]) for name in ("ensemble", "student", "development")]
        trained = "all" if runs[0]["trained"] is None else f"{runs[0]['trained']:,} ({runs[0]['share']:.2%})"
        sizes = [f"{statistics.mean(run[name] for run in runs):.0f}" for name in ("seconds", "peak_mb")]
        disk = f"{statistics.mean(run['disk_mb'] for run in runs):.1f}"
        print(f"| {kind} | {' | '.join(accuracies)} | {trained} | {' | '.join(sizes)} | {disk} | {len(runs)} |")


def _shown(values: list[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"), help="where runs are kept")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "ag_news"], choices=["sst2", "ag_news", "trec", "sick", "imdb"])
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1], help="draws of the labelled rows")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=[*KINDS, "qlora"])
    parser.add_argument("--set", action="append", default=[], help="a further override, as petkit run takes it")
    parser.add_argument("--table", action="store_true", help="print what is finished; run nothing")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # what the process of one run is called with
    return parser.parse_args()


if __name__ == "__main__":
    main()
