"""The count of operations, against products counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from petkit.models.mask_reader import MaskReader
from tests.benchmark import benchmark
from tests.models.masked_rows import load

QUICK = ["teachers.seeds=[1]", "teachers.steps=2", "student.steps=3"]


@pytest.fixture(scope="module")
def operations() -> ModuleType:
    """The benchmark as a module."""
    return benchmark("operations")


@pytest.mark.parametrize("attention", [None, "eager"])
def test_operations_of_a_forward_pass(attention: str | None, operations: ModuleType, model_folder: Callable[[str], Path]) -> None:
    model, _, batch = load(model_folder("bert"), attention)
    rows, length = batch.input_ids.shape
    size, inner, layers = model.config.hidden_size, model.config.intermediate_size, model.config.num_hidden_layers
    whole = rows * length * (4 * size * size + 2 * size * inner)  # query, key, value, output; both of the feed-forward network
    attended = 2 * rows * length * length * size  # scores and weighted values, all heads together
    narrow = rows * length * 2 * size * size + rows * (2 * size * size + 2 * size * inner) + 2 * rows * length * size
    head = rows * (size * size + size * model.config.vocab_size)

    with torch.no_grad(), operations.counter() as counting:
        MaskReader(model).vocabulary_logits(batch)

    assert counting.get_total_flops() == 2 * ((layers - 1) * (whole + attended) + narrow + head)


def test_operations_of_every_stage(operations: ModuleType, pipeline_file: Path, here: Path) -> None:
    found = operations.count(str(pipeline_file), QUICK, str(here / "run"))
    more = operations.count(str(pipeline_file), [*QUICK, "student.steps=6"], str(here / "more"))

    assert found.keys() == {"teachers", "scoring", "soft labels", "student", "evaluation"}
    assert found["soft labels"] == 0 and min(found[name] for name in ("teachers", "scoring", "student", "evaluation")) > 0
    assert more["student"] == pytest.approx(2 * found["student"], rel=0.2)
    assert {name: more[name] for name in found if name != "student"} == {name: found[name] for name in found if name != "student"}
