"""The example's messages are a fair problem: whole, different from each other, and more than word counting can do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from petkit.baselines.tfidf import tfidf_logits

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "support-tickets"


def rows(part: str) -> list[dict[str, str]]:
    text = (EXAMPLE / "data" / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("part", "per_label"), [("train", 8), ("test", 30)])
def test_labels_are_balanced(part: str, per_label: int) -> None:
    assert set(Counter(row["label"] for row in rows(part)).values()) == {per_label}


def test_unlabelled_rows_are_many_and_unlabelled() -> None:
    unlabeled = rows("unlabeled")

    assert len(unlabeled) >= 400
    assert all("label" not in row for row in unlabeled)


def test_no_message_stands_twice() -> None:
    texts = [" ".join(row["text"].lower().split()) for part in ("train", "unlabeled", "test") for row in rows(part)]

    assert len(set(texts)) == len(texts)


def test_word_counting_is_not_enough() -> None:
    train, test = rows("train"), rows("test")
    labels = sorted({row["label"] for row in train})
    targets = np.eye(len(labels), dtype=np.float32)[[labels.index(row["label"]) for row in train]]
    logits, _ = tfidf_logits([row["text"] for row in train], targets, [row["text"] for row in test])

    assert 0.2 < np.mean([labels[best] == row["label"] for best, row in zip(logits.argmax(axis=1), test, strict=True)]) < 0.75
