"""The last layer at chosen positions: how much of it works on them alone, and that the results are those of the whole layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from petkit.engine.inference import ClassifierLogits
from petkit.losses import cross_entropy
from petkit.models.batch import Batch
from petkit.models.loading import new_classifier
from petkit.models.mask_reader import MaskReader
from tests.models.masked_rows import load
from tests.tiny import ARCHITECTURES

Folder = Callable[[str], Path]
ROWS, POSITIONS = 3, 3 * 24  # of the batch, and with padding
# Where each module of the last layer works on the chosen positions only; the others work on all.
NARROW = {
    "bert": {"attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"},
    "distilbert": {"ffn.lin1", "ffn.lin2"},
    "mpnet": {"intermediate.dense", "output.dense"},
    "deberta-v2": {"attention.output.dense", "intermediate.dense", "output.dense"},
}
NARROW |= dict.fromkeys(("electra", "roberta", "xlm-roberta"), NARROW["bert"])
every_narrow_architecture = pytest.mark.parametrize("arch", NARROW)


def last_layer(model: Any) -> nn.Module:
    base = model.base_model
    layers: nn.ModuleList = (base.transformer if hasattr(base, "transformer") else base.encoder).layer
    return layers[-1]


def positions(layer: nn.Module, work: Callable[[], object]) -> dict[str, int]:
    """Return on how many positions each linear module of a layer works."""
    found: dict[str, int] = {}
    hooks = [
        module.register_forward_pre_hook(lambda module, given, name=name: found.update({name: given[0].shape[:-1].numel()}))
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) and "pos_" not in name
    ]
    work()
    for hook in hooks:
        hook.remove()
    return found


@every_narrow_architecture
def test_only_keys_and_values_need_every_position(arch: str, model_folder: Folder) -> None:
    model, _, batch = load(model_folder(arch))
    reader = MaskReader(model)
    worked = positions(last_layer(model), lambda: reader.vocabulary_logits(batch))

    whole = positions(last_layer(model), lambda: model.base_model(**batch.model_inputs))  # outside of a reading, as it was

    assert {name for name in whole if worked[name] != whole[name]} == NARROW[arch]
    assert {(whole[name], worked[name]) for name in NARROW[arch]} == {(POSITIONS, ROWS)}
    reader.detach()
    assert "forward" not in vars(getattr(last_layer(model).get_submodule("attention"), "self", last_layer(model)))


def test_all_of_many_positions_are_read_from_the_whole_layer(model_folder: Folder) -> None:
    model, _, batch = load(model_folder("bert"))
    reader, every = MaskReader(model), torch.arange(POSITIONS)
    few = positions(last_layer(model), lambda: reader.read(batch, every[:12] // 12, every[:12]))
    many = positions(last_layer(model), lambda: reader.read(batch, every[:13] // 13, every[:13]))
    assert few["output.dense"] == 12 * ROWS and many["output.dense"] == POSITIONS


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_classifier_answers_and_learns_as_with_the_whole_layer(arch: str, attention: str | None, model_folder: Folder) -> None:
    _, _, batch = load(model_folder(arch))
    gold = torch.tensor([0, 1, 1])

    def learned(answer: Callable[[Any, Batch], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(0)
        model, _ = new_classifier(str(model_folder(arch)), ["a", "b"], attention)
        logits = answer(model.eval(), batch)
        cross_entropy(logits, gold).backward()
        return logits.detach(), {name: part.grad for name, part in model.named_parameters() if part.grad is not None}

    expected, whole = learned(lambda model, batch: model(**batch.model_inputs).logits)
    found, narrow = learned(lambda model, batch: ClassifierLogits(model)(batch))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(narrow, whole, rtol=1e-4, atol=1e-6)
