"""Label logits of many rows: in the order of the rows, and finite or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.config.schema.adapter import AnyAdapter, DeepPrefixSpec, LoraSpec, PromptTuningSpec
from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits, NotFinite, label_logits
from petkit.models.adapters.attach import attach
from petkit.models.batch import Batch
from petkit.models.loading import new_classifier
from petkit.prompts.pattern import Encoded
from tests.tiny import pieces

DEVICE = Device("cpu", "float32", 1)
ROWS = [Encoded(np.arange(4, 4 + length, dtype=np.int32), length, -1, 1) for length in (3, 20, 9)]


def lengths_of(batch: Batch) -> Tensor:
    return batch.attention_mask.sum(dim=1, keepdim=True).float()  # (batch, 1)


def test_answers_come_in_the_order_of_the_rows() -> None:
    done: list[int] = []

    logits = label_logits(lengths_of, ROWS, pieces("wordpiece"), DEVICE, 32, done.append)

    assert logits.tolist() == [[3.0], [20.0], [9.0]]
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (PromptTuningSpec(kind="prompt_tuning", tokens=24), 4),
        (DeepPrefixSpec(kind="p_tuning_v2", tokens=24), 4),
        (LoraSpec(kind="lora"), 16),
    ],
)
def test_virtual_tokens_are_in_the_budget(spec: AnyAdapter, rows: int, model_folder: Callable[[str], Path]) -> None:
    model, head = new_classifier(str(model_folder("bert")), ("no", "yes"))
    classifier = ClassifierLogits(model, attach(model, spec, head=head)).eval()
    short, done = [ROWS[0]] * 20, list[int]()
    logits = label_logits(classifier, short, pieces("wordpiece"), DEVICE, 128, done.append)

    assert max(done) == rows and sum(done) == 20
    at_once = label_logits(classifier, short, pieces("wordpiece"), DEVICE, 4096)
    np.testing.assert_allclose(logits, at_once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("corrupted", [torch.nan, torch.inf, -torch.inf])
def test_answers_that_are_no_numbers_are_refused(corrupted: float) -> None:
    with pytest.raises(
        NotFinite, match=r"^the model produced NaN or infinite logits: its weights are too large \(if they were trained here"
    ) as raised:
        label_logits(lambda batch: lengths_of(batch) + corrupted, ROWS, pieces("wordpiece"), DEVICE, 4096)

    assert raised.value.exit_code == 1
