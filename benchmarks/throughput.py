"""How fast petkit's teachers are, next to the plain way, in the same process and the same run.

    python benchmarks/throughput.py [--rows 512] [--steps 6] [--json]

Both arms do the same work: train every teacher for a few steps on the labelled rows, then score every
unlabelled row with every teacher. The plain way is what the usual tools do: float32, every row padded to
``max_length``, logits of the whole vocabulary at every position, every text tokenised again for every
teacher. The arms take turns, so that a drifting machine meets both.

Texts have the length of AG's News rows (with PETKIT_BENCH_DATA, they are AG's News rows). The last line is
the ratio of the end-to-end times, plain / petkit, as ``12.3x``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from petkit.commands.doctor import matmul_seconds
from petkit.config.schema.pipeline import ComputeSpec, PatternSpec, VerbalizerSpec
from petkit.config.schema.training import TeachersSpec
from petkit.data.examples import Example
from petkit.engine.device import Device, choose_device, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.engine.sampling import training_batches
from petkit.engine.training_loop import fit, seed_everything, set_dropout
from petkit.losses import cross_entropy
from petkit.models.batch import collate
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import EMBEDDED, load_masked_lm, load_tokenizer
from petkit.prompts.pattern import CompiledPattern, Pattern
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.prompts.verbalizer import find_label_words

MAX_LENGTH = 256
PATTERNS = ("{mask}: {text}", "{mask} News: {text}", "[ Category: {mask} ] {text}", "{text} ( {mask} )")
VERBALIZER = VerbalizerSpec(
    labels={"World": ("world",), "Sports": ("sports",), "Business": ("business",), "Sci/Tech": ("technology", "science")}
)


@dataclass
class Timing:
    """Seconds of one arm, by kind of work."""

    training: float = 0.0
    inference: float = 0.0
    tokens: int = 0

    @property
    def total(self) -> float:
        """All seconds."""
        return self.training + self.inference


@dataclass(frozen=True)
class Task:
    """The work both arms do."""

    texts: list[str]
    few_texts: list[str]
    few_labels: torch.Tensor
    tokenizer: PieceTokenizer
    patterns: list[CompiledPattern]
    words: list[tuple[tuple[tuple[int, ...], ...], ...]]
    settings: TeachersSpec
    device: Device


def news_texts(rows: int) -> list[str]:
    """Return texts of AG's News length: the data set itself if it is there, else words of the vocabulary."""
    folder = os.environ.get("PETKIT_BENCH_DATA")
    path = Path(folder) / "ag_news" / "unlabeled.jsonl" if folder else None
    if path is not None and path.is_file():
        with path.open(encoding="utf-8") as stream:
            return [json.loads(line)["text"] for line, _ in zip(stream, range(rows), strict=False)]
    source = random.Random(0)
    words = [word for word in load_tokenizer(EMBEDDED).hf.get_vocab() if word.isalpha() and len(word) > 2]
    words.sort()
    # AG's News in tokens of this model: half of the rows have 41 to 57, 1 % above 113; nearly lognormal.
    lengths = [min(229, max(12, round(source.lognormvariate(3.88, 0.29)))) for _ in range(rows)]
    return [" ".join(source.choices(words, k=length)) for length in lengths]


def petkit_way(task: Task, teacher: int, store: TokenStore, few: TokenStore, timing: Timing) -> np.ndarray:
    """Train and use one teacher as petkit does."""
    pattern, tokenizer = task.patterns[teacher], task.tokenizer
    start = time.perf_counter()
    rows = [pattern.encode(tokens) for tokens in few]
    seed_everything(1)
    scorer = WordScorer(load_masked_lm(EMBEDDED, task.device.training_attention), task.words[teacher])
    order = training_batches([len(row.ids) for row in rows], task.settings.batch_size, task.settings.steps, 1)
    fit(
        scorer,
        order,
        lambda model, batch: cross_entropy(model(collate([rows[index] for index in batch], tokenizer)), task.few_labels[batch]),
        task.settings,
        task.device,
    )
    middle = time.perf_counter()
    prepare_for_inference(scorer, task.device)
    unlabeled = [pattern.encode(tokens) for tokens in store]
    logits = label_logits(scorer, unlabeled, tokenizer, task.device, ComputeSpec().tokens_per_batch)
    timing.training += middle - start
    timing.inference += time.perf_counter() - middle
    timing.tokens += sum(len(row.ids) for row in unlabeled)
    return logits


def plain_way(task: Task, teacher: int, timing: Timing) -> np.ndarray:
    """Train and use one teacher as the usual tools do."""
    pattern, hf = task.patterns[teacher].pattern, task.tokenizer.hf
    columns = [[word[0] for word in label] for label in task.words[teacher]]

    def encode(texts: list[str]) -> dict[str, torch.Tensor]:
        rendered = [pattern.render({"text": text}, hf.mask_token)[0] for text in texts]
        return dict(hf(rendered, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"))

    def label_scores(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model(**inputs).logits  # (batch, length, vocabulary)
        at_mask = logits[inputs["input_ids"] == task.tokenizer.mask_id]  # (batch, vocabulary)
        return torch.stack([at_mask[:, words].mean(dim=1) for words in columns], dim=1)

    start = time.perf_counter()
    seed_everything(1)
    model = load_masked_lm(EMBEDDED).train()
    set_dropout(model, task.settings.dropout)
    encoded = encode(task.few_texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.settings.learning_rate, weight_decay=task.settings.weight_decay)
    for batch in training_batches([1] * len(task.few_texts), task.settings.batch_size, task.settings.steps, 1):
        loss = cross_entropy(
            label_scores(model, {name: values[batch] for name, values in encoded.items()}), task.few_labels[batch]
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), task.settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    middle = time.perf_counter()
    model.eval()
    encoded = encode(task.texts)
    blocks = []
    with torch.no_grad():
        for begin in range(0, len(task.texts), 32):
            batch_inputs = {name: values[begin : begin + 32] for name, values in encoded.items()}
            blocks.append(label_scores(model, batch_inputs).numpy())
    timing.training += middle - start
    timing.inference += time.perf_counter() - middle
    timing.tokens += int(encoded["attention_mask"].sum())
    return np.concatenate(blocks)


def body_flops_per_token() -> float:
    """Return the multiply-adds of the embedded model's layers per token, times two (attention over positions left out)."""
    config = load_masked_lm(EMBEDDED).config
    per_layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return 2.0 * config.num_hidden_layers * per_layer


def make_task(rows: int, steps: int, teachers: int) -> Task:
    """Compile the patterns and draw the rows."""
    tokenizer = load_tokenizer(EMBEDDED)
    patterns, words = [], []
    for index, text in enumerate(PATTERNS[:teachers]):
        pattern = CompiledPattern(Pattern.from_spec(PatternSpec(id=f"p{index}", text=text)), tokenizer, MAX_LENGTH, "tail")
        assert pattern.mask_context is not None
        found, _ = find_label_words(VERBALIZER, tokenizer, pattern.mask_context)
        patterns.append(pattern)
        words.append(found.token_ids)
    texts = news_texts(rows + 32)
    few, texts = texts[:32], texts[32:]
    labels = torch.arange(32) % len(VERBALIZER.labels)
    settings = TeachersSpec(steps=steps)
    return Task(texts, few, labels, tokenizer, patterns, words, settings, choose_device(ComputeSpec(device="cpu")))


def main() -> None:
    """Time both ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=512, help="unlabelled rows per teacher")
    parser.add_argument("--steps", type=int, default=6, help="training steps per teacher")
    parser.add_argument("--teachers", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--json", action="store_true", help="print figures as JSON before the last line")
    options = parser.parse_args()
    task = make_task(options.rows, options.steps, options.teachers)
    key = task.patterns[0].keys
    ours, plain = Timing(), Timing()
    start = time.perf_counter()
    examples = [Example(str(index), {"text": text}, None, index) for index, text in enumerate(task.texts)]
    few_examples = [Example(str(index), {"text": text}, None, index) for index, text in enumerate(task.few_texts)]
    store = TokenStore.build(examples, task.tokenizer, key, MAX_LENGTH, "tail")
    few = TokenStore.build(few_examples, task.tokenizer, key, MAX_LENGTH, "tail")
    ours.inference += time.perf_counter() - start
    for teacher in range(options.teachers):
        petkit_way(task, teacher, store, few, ours)
        plain_way(task, teacher, plain)
    trained = options.teachers * options.steps * task.settings.batch_size
    scored = options.teachers * len(task.texts)
    peak = 2 * 1024 * 384 * 1536 / matmul_seconds(torch.bfloat16 if task.device.precision == "bfloat16" else torch.float32) / 1e9
    achieved = body_flops_per_token() * ours.tokens / ours.inference / 1e9
    figures = {
        name: {
            "training rows/s": trained / timing.training,
            "inference rows/s": scored / timing.inference,
            "inference tokens/s": timing.tokens / timing.inference,
            "seconds": timing.total,
        }
        for name, timing in (("petkit", ours), ("plain", plain))
    }
    if options.json:
        print(json.dumps({**figures, "arithmetic": task.device.record(), "ratio": plain.total / ours.total}, indent=2))
    else:
        print(
            f"{options.teachers} teachers, {options.steps} steps, {len(task.texts)} rows, max_length {MAX_LENGTH}, {task.device}"
        )
        print(f"{'':24}{'petkit':>12}{'plain':>12}{'ratio':>9}")
        for figure in figures["petkit"]:
            one, other = figures["petkit"][figure], figures["plain"][figure]
            ratio = other / one if figure == "seconds" else one / other
            print(f"{figure:24}{one:12.1f}{other:12.1f}{ratio:8.1f}x")
        print(
            f"inference reaches {achieved:.0f} of {peak:.0f} GFLOP/s, {achieved / peak:.0%} of this machine's {task.device.precision} matrix products"
        )
        print(
            f"peak memory of the process (both ways): {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB",
            file=sys.stderr,
        )
    print(f"{plain.total / ours.total:.1f}x")


if __name__ == "__main__":
    main()
