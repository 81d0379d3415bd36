"""How long one prediction takes, from nothing to the label, next to plain transformers.

    python benchmarks/start_up.py runs/support-tickets --rounds 5

Starts ``petkit predict`` and a script of six lines that does the same with transformers alone, in turn, and prints the median
wall and processor seconds of each. Most of both is the import of torch and transformers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TEXT = "my parcel never came"
PLAIN = """
import sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
with torch.inference_mode():
    print(model.config.id2label[model(**tokenizer(sys.argv[2], return_tensors="pt")).logits.argmax().item()])
"""


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall and processor seconds."""
    started, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - started, used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    commands = {
        "petkit predict": [sys.executable, "-m", "petkit", "predict", str(options.run), TEXT],
        "plain transformers": [sys.executable, "-c", PLAIN, str(options.run / "stage_c" / "model"), TEXT],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    print("| | seconds | processor seconds |\n|---|---|---|")
    for name, rounds in taken.items():
        wall, processor = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"| {name} | {wall:.1f} | {processor:.1f} |")


if __name__ == "__main__":
    main()
