"""A student's folder gives petkit's answer under ``transformers.pipeline``, whatever the text, family and batch size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, pipeline

from petkit import Predictor
from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine.device import Device
from petkit.prompts.pattern import share_pair
from petkit.student.model import untrained_student
from petkit.student.training import write_student
from petkit.task.task import Task
from tests.tiny import ARCHITECTURES, CAUSAL
from tests.tiny_task import load, run_task, write_rows, write_task

Folder = Callable[[str], Path]
FLOAT32 = ComputeSpec(device="cpu", precision="float32", threads=1)
SPECIAL = ("[MASK]", "[SEP]", "[CLS]", "[PAD]", "<mask>", "<s>", "</s>", "<pad>", "<|endoftext|>", "<unk>", "[UNK]")
TEXTS = (
    "the game was great",
    "bad",
    "a very good team in the news of the world and it is not bad",
    *(f"it is {name} not bad" for name in SPECIAL),
    *(f"{name}the game{name} {name}" for name in SPECIAL),
    "</s</s>> ＜/s＞ < /s> [MASK",
    "  the game",
    "\tthe game\n",
    "  a very good team  ",
    "the\n\n  game \u00a0 was\u2003great\u3000",
    "\x1cthe game\x85",
    " ".join(["the game was not very good"] * 30) + " yes",
    "no" * 200,
    "ça 日本 😍 \u200b Ünï",
    "(the game), [was] {great}!",
)
PAIRS = tuple(zip(TEXTS, reversed(TEXTS), strict=True)) + tuple(
    (" ".join(["good"] * first), " ".join(["bad"] * second)) for first in (3, 14, 15, 40, 50) for second in (3, 14, 15, 41, 60)
)


def student(task: Path, folder: Path, *overrides: str) -> Path:
    """Write a student with a random, decided head."""
    checked, device = Task.checked(load(task, "compute.device=cpu", *overrides)), Device("cpu", "float32", 1)
    classifier = untrained_student(checked, device)
    for name, weights in classifier.model.named_parameters():
        if name.startswith(("classifier", "score", "head")):
            weights.data *= 30
    write_student(folder, checked, device, classifier)
    return folder


def greatest_difference(folder: Path, rows: Any, batch_size: int) -> float:
    """Return by how much any probability differs between petkit and transformers."""
    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True)
    fields = json.loads((folder / "petkit.json").read_text())["fields"]
    asked = rows if len(fields) == 1 else [{"text": first, "text_pair": second} for first, second in rows]
    own = rows if len(fields) == 1 else [dict(zip(fields, pair, strict=True)) for pair in rows]
    theirs = classify(list(asked), batch_size=batch_size, top_k=None)
    ours = Predictor.load(folder, compute=FLOAT32)(own)
    return max(
        abs(entry["score"] - prediction.probabilities[entry["label"]])
        for entries, prediction in zip(theirs, ours, strict=True)
        for entry in entries
    )


@pytest.fixture(scope="session")
def student_of(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Callable[..., Path]:
    """``student_of(arch, *overrides, fields=…)`` is a student's folder, made once."""

    @cache
    def make(arch: str, *overrides: str, fields: tuple[str, ...] = ("text",)) -> Path:
        place = tmp_path_factory.mktemp("student")
        base = shutil.copytree(model_folder(arch), place / "base")
        config = base / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"padding_side": "left", "truncation_side": "left"}))
        text = " ".join(f"{{{field}}}" for field in fields) + " is {mask}"
        return student(write_task(place / "task", base, fields, {"only": text}), place / "model", *overrides)

    return make


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("arch", [*ARCHITECTURES, *CAUSAL])
def test_every_text_has_the_same_answer(arch: str, batch_size: int, student_of: Callable[..., Path]) -> None:
    assert greatest_difference(student_of(arch), TEXTS, batch_size) < 1e-3


@pytest.mark.parametrize("length", [8, 20, 21])
@pytest.mark.parametrize("side", ["tail", "head"])
@pytest.mark.parametrize("arch", ["bert", "roberta", "deberta-v2", "gpt2"])
def test_long_texts_lose_the_same_end(arch: str, side: str, length: int, student_of: Callable[..., Path]) -> None:
    folder = student_of(arch, f"truncate={side}", f"max_length={length}")

    assert greatest_difference(folder, TEXTS, 4) < 1e-3


@pytest.mark.parametrize("length", [20, 21])
@pytest.mark.parametrize("side", ["tail", "head"])
@pytest.mark.parametrize("arch", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_pairs_share_a_row_alike(arch: str, side: str, length: int, student_of: Callable[..., Path]) -> None:
    folder = student_of(arch, f"truncate={side}", f"max_length={length}", fields=("text", "other"))

    assert greatest_difference(folder, PAIRS, 4) < 1e-3


@pytest.mark.parametrize("kind", ["ordinal", "multi"])
@pytest.mark.parametrize(("arch", "fields"), [("bert", ("text", "other")), ("roberta", ("text",)), ("gpt2", ("text",))])
def test_every_kind_of_label_has_the_same_answer(
    arch: str, fields: tuple[str, ...], kind: str, student_of: Callable[..., Path]
) -> None:
    folder = student_of(arch, f"label_kind={kind}", fields=fields)

    assert greatest_difference(folder, TEXTS if len(fields) == 1 else PAIRS, 4) < 1e-3


LINES = (
    ("the game was great", "bad", "no"),
    ("it is not bad", "a very good team (the world)", "yes!"),
    ("</s>", "ça 日本 😍", "[MASK] good"),
)


@pytest.mark.parametrize(
    ("arch", "number"), [("gpt2", 2), ("qwen2", 2), ("gpt2", 3), ("bert", 3), ("roberta", 3), ("xlm-roberta", 3)]
)
def test_fields_other_than_a_pair_are_lines_of_one_text(arch: str, number: int, student_of: Callable[..., Path]) -> None:
    names = ("text", "other", "third")[:number]
    folder = student_of(arch, fields=names)
    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True)

    ours = Predictor.load(folder, compute=FLOAT32)([dict(zip(names, row, strict=False)) for row in LINES])
    for row, prediction in zip(LINES, ours, strict=True):
        for entry in classify("\n".join(row[:number]), top_k=None):
            assert entry["score"] == pytest.approx(prediction.probabilities[entry["label"]], abs=1e-3)


@pytest.mark.parametrize("room", range(0, 12, 2))
def test_a_pair_is_shortened_as_tokenizers_do(room: int, model_folder: Folder) -> None:
    hf = AutoTokenizer.from_pretrained(model_folder("bert"))
    for first in range(1, 13):
        for second in range(1, 13):
            whole = hf(" ".join(["good"] * first), " ".join(["bad"] * second), truncation=True, max_length=room + 3)
            good, bad = hf.convert_tokens_to_ids(["good", "bad"])
            kept = whole["input_ids"].count(good), whole["input_ids"].count(bad)
            assert share_pair(first, second, room) == kept


@pytest.fixture
def finished_on_odd_rows(here: Path, model_folder: Folder) -> Path:
    """A run on a byte-level model whose test rows have white space around them, and special tokens in them."""
    pipeline_file = write_task(here / "task", model_folder("roberta"))
    odd = ("  the game ", "</s> team", "\tnews of the world\n")
    write_rows(pipeline_file.parent / "test.jsonl", [{"text": text, "label": "Sports", "id": text} for text in odd])
    quick = ("teachers.seeds=[1]", "teachers.steps=1", "student.steps=3", "student.learning_rate=0.05")
    return run_task(pipeline_file, here / "run", *quick).folder


def test_the_run_its_model_folder_and_its_evaluation_agree(finished_on_odd_rows: Path) -> None:
    run = finished_on_odd_rows
    texts = [json.loads(line)["text"] for line in (run.parent / "task" / "test.jsonl").read_text().splitlines()]
    answers = [[entry.probabilities for entry in Predictor.load(folder)(texts)] for folder in (run, run / "stage_c" / "model")]
    assert answers[0] == answers[1]
    measured = recorded(run)
    for found, expected in zip(answers[0], measured, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def recorded(run: Path) -> list[Mapping[str, float]]:
    """Return the student's probabilities that the evaluation wrote."""
    import pyarrow.parquet as pq

    labels = json.loads((run / "stage_c" / "model" / "petkit.json").read_text())["labels"]
    (shard,) = sorted((run / "evaluation" / "predictions").glob("*.parquet"))
    return [dict(zip(labels, row, strict=True)) for row in pq.read_table(shard)["probabilities"].to_pylist()]


def test_a_folder_of_an_earlier_version_answers_as_it_did(student_of: Callable[..., Path], here: Path) -> None:
    folder = shutil.copytree(student_of("roberta"), here / "model")
    record = json.loads((folder / "petkit.json").read_text())
    for key in ("verbatim", "precision"):
        del record[key]
    (folder / "petkit.json").write_text(json.dumps(record))
    predictor = Predictor.load(folder, compute=FLOAT32)
    assert torch.equal(*(torch.from_numpy(predictor.logits([text])) for text in ("  the game", "the game")))
