"""What label words of several tokens cost, next to words of one token, in the same process and the same run.

    python benchmarks/multi_token.py [--rows 1000] [--repeats 5] [--threads 2] [--json]

Scores AG's News rows with the embedded model, the first pattern of ``pipelines/ag_news.yaml``, and three verbalizers
in turn, so that a drifting machine meets all: words of one token, of 1 and 2 tokens, and of 1, 2 and 3. Each length is
another copy of the row, with as many masks, for the model to read; so two lengths cost about twice as much as one,
three lengths three times as much, and the vocabulary's normaliser a little more.

With PETKIT_BENCH_DATA the rows are AG's News rows, else texts of the same length. The last line is the ratio of the
median times, words of 1 and 2 tokens to words of 1, as ``2.1x``; it should stay below 2.5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from throughput import MAX_LENGTH, VERBALIZER, news_texts

from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import ComputeSpec, PatternSpec, VerbalizerSpec
from petkit.engine.device import Device, choose_device, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.models.label_scorer import LabelScorer
from petkit.models.label_scorers import MultiTokenScorer, WordScorer
from petkit.models.loading import EMBEDDED, load_masked_lm, load_tokenizer
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import compile_pvp

PIPELINE = Path(__file__).parent.parent / "pipelines" / "ag_news.yaml"


def longer(*endings: str) -> VerbalizerSpec:
    """Return the verbalizer with further words for each label: its first one and an ending."""
    labels = {label: (*words, *(f"{words[0]} {ending}" for ending in endings)) for label, words in VERBALIZER.labels.items()}
    return VerbalizerSpec(labels=labels, multi_token=True)


VERBALIZERS = {
    "1 token": VERBALIZER,
    "1 and 2 tokens": longer("news"),
    "1, 2 and 3 tokens": longer("news", "news report"),
}
PLAIN, TARGET = "1 token", "1 and 2 tokens"


@dataclass
class Arm:
    """One verbalizer: its reader, its rows, and the seconds of every repeat."""

    scorer: LabelScorer
    rows: list[Encoded]
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of the repeat in the middle."""
        return statistics.median(self.seconds)


def make_arm(pattern: PatternSpec, verbalizer: VerbalizerSpec, texts: list[str], device: Device) -> Arm:
    """Compile the pattern with the verbalizer's words, tokenise the rows and load a model of its own."""
    tokenizer = load_tokenizer(EMBEDDED)
    pvp, wrong = compile_pvp(pattern, verbalizer, tokenizer, MAX_LENGTH, "tail")
    assert not wrong
    (name,) = pvp.pattern.pattern.fields
    model = load_masked_lm(EMBEDDED)
    words = pvp.words.token_ids
    scorer = MultiTokenScorer(model, words, verbalizer.decoding) if verbalizer.multi_token else WordScorer(model, words)
    prepare_for_inference(scorer, device)
    return Arm(scorer, pvp.encode_texts([{name: text} for text in texts], tokenizer))


def main() -> None:
    """Time all verbalizers in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000, help="rows to score")
    parser.add_argument("--repeats", type=int, default=5, help="times that each verbalizer scores them")
    parser.add_argument("--threads", type=int, help="processor threads; default: all")
    parser.add_argument("--json", action="store_true", help="print figures as JSON before the last line")
    options = parser.parse_args()
    compute = ComputeSpec(device="cpu", threads=options.threads)
    device, tokenizer = choose_device(compute), load_tokenizer(EMBEDDED)
    torch.set_num_threads(device.threads)
    pattern, texts = load_pipeline(PIPELINE).spec.patterns[0], news_texts(options.rows)
    arms = {name: make_arm(pattern, verbalizer, texts, device) for name, verbalizer in VERBALIZERS.items()}
    for repeat in range(-1, options.repeats):  # the first one makes torch's kernels
        for arm in arms.values():
            start = time.perf_counter()
            label_logits(arm.scorer, arm.rows, tokenizer, device, compute.tokens_per_batch)
            if repeat >= 0:
                arm.seconds.append(time.perf_counter() - start)
    plain = arms[PLAIN].median
    figures = {
        name: {"seconds": arm.median, "rows/s": len(texts) / arm.median, "ratio": arm.median / plain}
        for name, arm in arms.items()
    }
    if options.json:
        print(json.dumps({**figures, "arithmetic": device.record()}, indent=2))
    else:
        print(f"{len(texts)} rows, pattern {pattern.id}, median of {options.repeats}, {device}")
        print(f"{'words of':24}{'seconds':>10}{'rows/s':>10}{'ratio':>9}")
        for name, row in figures.items():
            print(f"{name:24}{row['seconds']:10.2f}{row['rows/s']:10.0f}{row['ratio']:8.2f}x")
    print(f"{figures[TARGET]['ratio']:.2f}x")


if __name__ == "__main__":
    main()
