"""Make this folder again: run from an empty folder, with the old commit of petkit installed or on PYTHONPATH (see README.md)."""

from __future__ import annotations

import json
import string
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, BertTokenizer

WORDS = """
the of in it is was this and very good great bad terrible yes no maybe world sports business science news category football
market game team question answer
"""
PIPELINE = """\
task: older
data: {train: train.jsonl, unlabeled: unlabeled.jsonl, test: test.jsonl}
patterns: patterns.yaml
model: model
max_length: 32
compute: {device: cpu, precision: float32, threads: 1}
"""
FILES = {
    "pipeline.yaml": PIPELINE
    + """\
keep_patterns: 2
verbalizer: {auto: {per_label: 2, candidates: 20}}
teachers: {seeds: [1], steps: 3, batch_size: 4}
generations: {count: 2, scale: 2}
soft_labels: {weighting: out_of_fold, teacher_temperature: out_of_fold, folds: 2, calibration: contextual}
student: {steps: 3, batch_size: 4}
baselines: [majority, tfidf, zero_shot, supervised]
adapt: {steps: 2, batch_size: 2}
pretrain_prompt: {steps: 2, batch_size: 2, tokens: 2, objective: both}
""",
    "adapters.yaml": PIPELINE
    + """\
verbalizer: {kind: soft, labels: {World: [world], Sports: [sports, football]}}
teachers: {seeds: [1], steps: 3, batch_size: 4, adapter: {kind: prompt_tuning, start: prompt/prompt}}
soft_labels: {weighting: train_accuracy, calibration: batch, prior: train, top_share: 0.9}
student: {steps: 3, batch_size: 4, adapter: {kind: lora, rank: 1}, keep_adapter: true, feature_weight: 0.5}
""",
    "patterns.yaml": """\
patterns:
  - {id: colon, text: "{mask}: {text}"}
  - {id: brackets, text: "[ category: {mask} ] {text}"}
  - {id: question, text: "{text} question: {mask}?"}
""",
}
LABELLED = (
    ("the news of the world", "World"),
    ("business is bad", "World"),
    ("the market was good and the news bad", "World"),
    ("science of the world", "World"),
    ("a great game of football", "Sports"),
    ("the team was good", "Sports"),
    ("football is a terrible game", "Sports"),
    ("this was the game of the team", "Sports"),
)
UNLABELED = (
    "the market. it was bad.",
    "a very good game. the team was great. it was a game.",
    "the science of business. yes.",
    "no question. an answer.",
    "this question is very bad",
    "the answer is no",
    "a great team in the world. football is great.",
    "news in this world. a market and a world.",
    "sports and football",
    "business and science in the news",
    "the game was bad. very bad.",
    "terrible news. the team is not good.",
)


def make_model(folder: Path) -> None:
    """Save a random BERT of one layer of 16 units."""
    characters = string.ascii_lowercase + string.digits + ".,:;!?()[]{}<>/'\"-_"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{mark}" for mark in characters if mark.isalnum())]
    vocabulary = {token: index for index, token in enumerate([*entries, *WORDS.split()])}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=64)
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), max_position_embeddings=64, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, initializer_range=0.2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def petkit(*arguments: str) -> None:
    """Run a command of petkit."""
    subprocess.run([sys.executable, "-m", "petkit", *arguments], check=True)


def main() -> None:
    """Write the data, make the runs, and record what they predict."""
    make_model(Path("model"))
    rows = {
        "train.jsonl": [{"text": text, "label": label} for text, label in LABELLED],
        "unlabeled.jsonl": [{"text": text} for text in UNLABELED],
        "test.jsonl": [{"text": f"{text} not", "label": label} for text, label in LABELLED],
    }
    contents = FILES | {name: "".join(json.dumps(row) + "\n" for row in table) for name, table in rows.items()}
    for name, content in contents.items():
        Path(name).write_text(content)
    petkit("run", "pipeline.yaml", "--out", "run")
    petkit("adapt", "pipeline.yaml", "--out", "adapted")
    petkit("pretrain-prompt", "pipeline.yaml", "--out", "prompt")
    petkit("run", "adapters.yaml", "--out", "adapters")
    for run, which in (("run", "student"), ("run", "teachers"), ("adapters", "student")):
        output = f"predicted-{run}-{which}.jsonl"
        petkit("predict", run, "--input", "unlabeled.jsonl", "--output", output, "--with", which, "--offline")


if __name__ == "__main__":
    main()
