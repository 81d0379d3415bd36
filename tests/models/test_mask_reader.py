"""The mask reader on every architecture: the full forward pass's numbers at the positions asked for, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from petkit.models.batch import Batch
from petkit.models.mask_reader import MaskReader
from tests.models.masked_rows import EVERY, NO_PROJECTION, load
from tests.tiny import ARCHITECTURES

Folder = Callable[[str], Path]
WIDTH = 24  # as the rows are padded; no other dimension of the tiny models
# Any positions: several of a row, none of another, one twice, padding.
ROWS = torch.tensor([0, 2, 0, 2, 0, 2])
COLUMNS = torch.tensor([7, 11, 0, 11, 21, 20])
every_architecture = pytest.mark.parametrize("arch", EVERY)
every_projection = pytest.mark.parametrize("arch", ARCHITECTURES)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@every_architecture
@pytest.mark.parametrize("attention", [None, "eager"])
def test_logits_at_any_positions_equal_the_full_forward(arch: str, attention: str | None, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch), attention)
    with torch.no_grad():
        expected = model(**batch.model_inputs).logits
        reader = MaskReader(model)
        found = reader.read(batch, ROWS, COLUMNS)
        at_masks = reader.vocabulary_logits(batch)
    close(found, expected[ROWS, COLUMNS])
    close(at_masks, expected[torch.arange(3), batch.mask_positions])
    assert found.shape == (6, model.config.vocab_size) and at_masks.dtype == torch.float32
    assert expected.std() > 1e-3  # the comparison says something


@every_architecture
def test_features_are_the_encoders_rows(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    with torch.no_grad():
        hidden = model.base_model(**batch.model_inputs)[0]
        reader = MaskReader(model)
        assert reader.features is None
        reader.read(batch, ROWS, COLUMNS)
        close(reader.features, hidden[ROWS, COLUMNS])
        reader.vocabulary_logits(batch)
        close(reader.features, hidden[torch.arange(3), batch.mask_positions])


@every_projection
def test_an_answer_takes_the_place_of_the_projection(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    reader, tokens = MaskReader(model), torch.tensor([7, 3, 7])
    seen: list[Tensor] = []

    def answer(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return reader.columns(hidden, tokens)

    with torch.no_grad():
        logits = reader.read(batch, ROWS, COLUMNS)
        close(reader.read(batch, ROWS, COLUMNS, answer), logits[:, tokens])
        close(reader.full(seen[0])[:, 0], logits)
        assert torch.equal(reader.read(batch, ROWS, COLUMNS), logits)  # asked without an answer, it is itself again
    assert seen[0].shape == (6, 1, reader.projection.in_features)


@every_architecture
def test_gradients_equal_the_full_forward(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    weights = torch.randn(6, model.config.vocab_size, generator=torch.Generator().manual_seed(1))

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        (logits * weights).sum().backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients(model(**batch.model_inputs).logits[ROWS, COLUMNS])
    found = gradients(MaskReader(model).read(batch, ROWS, COLUMNS))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm().item() <= 1e-5 * gradient.norm().item() + 1e-6, name


class Shapes(TorchDispatchMode):
    """Records the shape of every tensor that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.seen |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        return result

    def per_position(self, vocabulary: int) -> list[tuple[int, ...]]:
        """The tensors with a vocabulary beside a length dimension."""
        return [shape for shape in self.seen if vocabulary in shape and {WIDTH, 3 * WIDTH} & set(shape)]


@every_architecture
def test_no_other_position_meets_the_vocabulary(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    vocabulary = model.config.vocab_size
    with Shapes() as plain:
        model(**batch.model_inputs).logits.sum().backward()
    assert plain.per_position(vocabulary)
    reader = MaskReader(model)
    with Shapes() as read:
        reader.vocabulary_logits(batch).sum().backward()
    assert not read.per_position(vocabulary)
    if arch == NO_PROJECTION:
        return
    with Shapes() as columns:
        reader.read(
            batch, torch.arange(3), batch.mask_positions, lambda hidden: reader.columns(hidden, torch.tensor([5, 6]))
        ).sum().backward()
    assert not [shape for shape in columns.seen if shape in ((3, vocabulary), (3, 1, vocabulary))]  # columns only


@every_architecture
def test_while_nothing_is_asked_the_model_is_itself(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        MaskReader(model).vocabulary_logits(batch)
        close(model(**batch.model_inputs).logits, before)


@every_architecture
def test_detach_gives_the_plain_model_back(arch: str, masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm(arch))
    keys, modules = list(model.state_dict()), [type(module).__name__ for module in model.modules()]
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        reader = MaskReader(model)
        first = reader.vocabulary_logits(batch)
        assert reader.detach() is model and not model.base_model._forward_hooks
        assert torch.equal(model(**batch.model_inputs).logits, before)
        assert list(model.state_dict()) == keys and [type(module).__name__ for module in model.modules()] == modules
        assert not any("forward" in vars(module) for module in model.modules())
        assert torch.equal(MaskReader(model).vocabulary_logits(batch), first)


def test_a_failing_forward_leaves_no_positions_behind(masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm("bert"))
    reader = MaskReader(model)
    wrong = Batch(batch.input_ids[:, :5], batch.attention_mask, batch.token_type_ids, batch.mask_positions)
    with pytest.raises((RuntimeError, ValueError)):
        reader.vocabulary_logits(wrong)
    hidden = model.base_model(**batch.model_inputs).last_hidden_state
    assert hidden.shape[1] == WIDTH


def test_columns_are_float32_under_autocast(masked_lm: Folder) -> None:
    model, _, batch = load(masked_lm("bert"))
    reader, tokens = MaskReader(model), torch.tensor([5, 6, 7])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = reader.read(batch, ROWS, COLUMNS, lambda hidden: reader.columns(hidden, tokens))
        whole = reader.read(batch, ROWS, COLUMNS)
    assert found.dtype == torch.float32 and whole.dtype == torch.bfloat16
    assert not torch.equal(found, found.bfloat16().float())
