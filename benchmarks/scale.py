"""How memory and time grow with the unlabelled set: from 10,000 rows to a million.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--steps 200] [--teachers 2] [--folder FOLDER] [--json]

Makes up rows and a tiny model (one layer of 32 units), so that what is measured is petkit and not matrix products, and
runs each stage as a process of its own, as somebody would type it: ``stage-a`` scores every row with every teacher
(patterns untrained: training does not depend on the unlabelled set), ``stage-b`` makes soft labels, ``stage-c`` the
student. Prints seconds, seconds of the processor and peak memory (the system's counts for the process) of each, then
what grew from one number of rows to the next: the ratio of the peaks, and the processor's time for each further row,
which neither start-up nor other programs blur: it is the same where time is linear. The last line is the largest growth
of the peak of stages B and C from the fewest rows to the most, as ``+3.1 %``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

STAGES = ("stage-a", "stage-b", "stage-c")
FLAT = ("stage-b", "stage-c")
WORDS = [
    "the",
    "a",
    "it",
    "was",
    "is",
    "not",
    "very",
    "good",
    "bad",
    "game",
    "team",
    "market",
    "news",
    "question",
    "answer",
    "world",
    "sports",
    "science",
]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "(", ")")
PATTERNS = ("{mask} : {text}", "( {mask} ) {text}", "{text} : {mask}", "{text} ( {mask} )")


@dataclass(frozen=True)
class Measured:
    """One stage on one number of rows; times and peak are those of the whole process, libraries and all."""

    stage: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mib: float


def make_model(folder: Path) -> None:
    """Write the tiny model. Called in a process of its own: a child's peak begins with what its parent holds."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate((*SPECIAL, *WORDS))}, model_max_length=32)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_task(folder: Path, model: Path, rows: int, steps: int, teachers: int) -> Path:
    """Write so many rows of three to nine words, and the pipeline file; return that."""
    folder.mkdir(parents=True)
    source = random.Random(rows)
    with (folder / "unlabeled.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(rows):
            text = " ".join(source.choices(WORDS, k=source.randint(3, 9)))
            stream.write(json.dumps({"id": f"{number}", "text": text}) + "\n")
    pipeline = {
        "task": "scale",
        "data": {"unlabeled": "unlabeled.jsonl"},
        "patterns": [{"id": f"pattern-{index}", "text": text} for index, text in enumerate(PATTERNS[:teachers])],
        "verbalizer": {"labels": {"World": ["world"], "Sports": ["sports"], "Science": ["science"]}},
        "model": str(model),
        "max_length": 32,
        "student": {"steps": steps},
        "soft_labels": {"rows": "all"},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    (folder / "pipeline.yaml").write_text(json.dumps(pipeline), encoding="utf-8")  # JSON is YAML
    return folder / "pipeline.yaml"


def measure(stage: str, pipeline: Path, rows: int) -> Measured:
    """Run a stage in a process of its own."""
    command = [sys.executable, "-m", "petkit", stage, str(pipeline), "--out", str(pipeline.parent / "run"), "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{stage} on {rows:,} rows failed: {' '.join(command)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes
    return Measured(stage, rows, round(seconds, 2), round(usage.ru_utime + usage.ru_stime, 2), round(usage.ru_maxrss / unit, 1))


def growth(found: list[Measured], stage: str) -> list[dict[str, float]]:
    """Return what grew from each number of rows to the next."""
    own = [entry for entry in found if entry.stage == stage]
    return [
        {
            "from": less.rows,
            "to": more.rows,
            "peak": more.peak_mib / less.peak_mib,
            "cpu_microseconds_per_further_row": 1e6 * (more.cpu_seconds - less.cpu_seconds) / (more.rows - less.rows),
        }
        for less, more in pairwise(own)
    ]


def peak_growth(found: list[Measured], stages: tuple[str, ...]) -> float:
    """Return the largest growth of a stage's peak from the fewest rows to the most, as a share."""
    peaks = [[entry.peak_mib for entry in found if entry.stage == stage] for stage in stages]
    return max(own[-1] / own[0] - 1 for own in peaks)


def main() -> None:
    """Measure every stage on every number of rows and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="unlabelled rows, from few to many"
    )
    parser.add_argument("--steps", type=int, default=200, help="training steps of the student")
    parser.add_argument("--teachers", type=int, default=2, choices=range(1, len(PATTERNS) + 1))
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON before the last line")
    parser.add_argument("--make-model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make_model:
        make_model(options.make_model)
        return
    folder = Path(tempfile.mkdtemp(prefix="petkit-scale-", dir=options.folder))
    try:
        subprocess.run([sys.executable, __file__, "--make-model", folder / "model"], check=True, stdout=subprocess.DEVNULL)
        found: list[Measured] = []
        if not options.json:
            print(f"{'rows':>10}  {'stage':8}{'seconds':>10}{'processor':>10}{'peak MiB':>10}{'rows/s':>10}")
        for rows in options.rows:
            pipeline = make_task(folder / str(rows), folder / "model", rows, options.steps, options.teachers)
            for stage in STAGES:
                found.append(measure(stage, pipeline, rows))
                if not options.json:
                    one = found[-1]
                    print(
                        f"{rows:10,}  {stage:8}{one.seconds:10.1f}{one.cpu_seconds:10.1f}{one.peak_mib:10.1f}{rows / one.seconds:10.0f}",
                        flush=True,
                    )
            shutil.rmtree(pipeline.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    grown = {stage: growth(found, stage) for stage in STAGES}
    if options.json:
        print(json.dumps({"measured": [asdict(entry) for entry in found], "growth": grown}, indent=2))
    else:
        for stage, steps in grown.items():
            for step in steps:
                print(
                    f"{stage}: from {step['from']:,.0f} to {step['to']:,.0f} rows the peak grows {step['peak']:.3f}-fold, "
                    f"and each further row takes the processor {step['cpu_microseconds_per_further_row']:.0f} µs"
                )
    print(f"{peak_growth(found, FLAT):+.1%}".replace("%", " %"))


if __name__ == "__main__":
    main()
