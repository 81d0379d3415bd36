"""Layers in 4 bits: which ones, what they hold, and that they can be trained beside, asked, and trained beside again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from petkit.config.schema.adapter import LoraSpec
from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import ModelRefused
from petkit.losses import cross_entropy
from petkit.models.adapters import four_bit
from petkit.models.adapters.attach import attach
from petkit.models.adapters.four_bit import FourBit, obstacle
from petkit.models.batch import Batch, collate
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import load_language_model, load_masked_lm, load_tokenizer, new_classifier
from tests.models.masked_rows import EVERY, rows, single_words
from tests.tiny import ARCHITECTURES

Folder = Callable[[str], Path]
FULL = Device("cpu", "float32", 1)
QLORA = LoraSpec(kind="qlora")
GOLD = torch.tensor([0, 2, 1])
# The levels of NF4 are at most this far apart (QLoRA, appendix E: -1 and -0.6961928…).
WIDEST_GAP = 1 - 0.6961928009986877


@pytest.fixture
def real() -> Any:
    """The package; what needs it is skipped without it."""
    return pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed (pip install 'petkit[qlora]')")


def held_layers(model: Any) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}


def plain_layers(model: Any) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if type(module) is nn.Linear}


def in_four_bits(folder: Path, device: Device = FULL) -> Any:
    return load_language_model(str(folder), "eager", device.four_bit(QLORA))


# -- which layers, and what they hold ------------------------------------------------------------------


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("arch", EVERY)
def test_all_linear_layers_of_the_encoder_and_no_others(arch: str, masked_lm: Folder) -> None:
    plain, model = load_masked_lm(str(masked_lm(arch))), in_four_bits(masked_lm(arch))
    encoder = {id(module) for module in plain.base_model.modules()}
    expected = {name for name, layer in plain_layers(plain).items() if id(layer) in encoder}

    assert held_layers(model).keys() == expected and len(expected) >= 7
    assert plain_layers(model).keys() == plain_layers(plain).keys() - expected != set()  # the head


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_new_layers_of_a_classifier_stay_as_they_are(arch: str, real: Any, model_folder: Folder) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        plain, new = new_classifier(str(model_folder(arch)), ["a", "b"])
        after = torch.rand(3)
        torch.manual_seed(5)
        model, also_new = new_classifier(str(model_folder(arch)), ["a", "b"], four_bit=FULL.four_bit(QLORA))
        assert torch.equal(torch.rand(3), after)  # holding draws nothing
    parameters = dict(model.named_parameters())

    assert new == also_new and held_layers(model)
    assert not {name.rpartition(".")[0] for name in new} & held_layers(model).keys()
    assert all(torch.equal(parameters[name], value) for name, value in plain.named_parameters() if name in new)


def test_pooler_of_bert_is_new_and_trained_with_the_head(real: Any, model_folder: Folder) -> None:
    model, new = new_classifier(str(model_folder("bert")), ["a", "b"], four_bit=FULL.four_bit(QLORA))
    adapter = attach(model, QLORA, head=new)
    nn.functional.cross_entropy(
        model(**batch_of(model_folder("bert"))[0].model_inputs).logits, torch.tensor([0, 1, 1])
    ).backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}

    assert "bert.pooler.dense.weight" in new and "bert.pooler.dense" not in held_layers(model)
    assert set(new) < trained.keys() and all("lora_" in name for name in trained.keys() - set(new))
    assert all(value.grad is not None for value in trained.values())
    assert all(trained[name].grad.abs().max() > 0 for name in new)
    assert {name.removeprefix("base_model.model.") for name in adapter.state()} >= set(new)


def test_a_held_layer_takes_an_eighth_and_is_near_the_original(real: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layer, given = nn.Linear(256, 512), torch.randn(5, 256)
    model = SimpleNamespace(holder=nn.ModuleDict({"layer": layer}))
    model.base_model = model.holder
    model.named_modules, model.get_submodule = model.holder.named_modules, model.holder.get_submodule
    FULL.four_bit(QLORA).hold(model)
    held: Any = model.holder["layer"]
    state = held.weight.quant_state
    weights = real.functional.dequantize_4bit(held.weight.data, state)
    blocks = layer.weight.reshape(-1, 64)
    furthest = blocks.abs().amax(1, keepdim=True) * (WIDEST_GAP / 2 + 0.01)  # and the 8 bits of absmax
    numbers = 256 * 512
    held_bytes = sum(part.numel() * part.element_size() for part in (held.weight, state.absmax, state.state2.absmax))

    assert (state.quant_type, state.nested, state.blocksize) == ("nf4", True, 64)
    assert held_bytes * 8 / numbers == 4 + 8 / 64 + 32 / (64 * 256)
    assert bool(((weights.reshape(-1, 64) - blocks).abs() <= furthest).all()) and not torch.equal(weights, layer.weight)
    torch.testing.assert_close(held(given), nn.functional.linear(given, weights, layer.bias))


@pytest.mark.usefixtures("real")
def test_inference_in_bfloat16_leaves_them_alone(model_folder: Folder) -> None:
    half = Device("cpu", "bfloat16", 1)
    model = in_four_bits(model_folder("bert"), half)
    before = {name: (layer.weight.clone(), layer.bias.dtype) for name, layer in held_layers(model).items()}
    prepare_for_inference(model, half)

    assert {layer.compute_dtype for layer in held_layers(model).values()} == {torch.bfloat16}
    for name, layer in held_layers(model).items():
        assert torch.equal(layer.weight, before[name][0]) and layer.bias.dtype == before[name][1] == torch.float32
    assert model.cls.predictions.transform.dense.weight.dtype == torch.bfloat16


# -- training beside them ------------------------------------------------------------------------------


def batch_of(folder: Path) -> tuple[Batch, Any]:
    tokenizer = load_tokenizer(str(folder))
    return collate(rows(tokenizer), tokenizer), tokenizer


def gradients(scorer: WordScorer, batch: Batch, device: Device) -> Iterator[Tensor]:
    scorer.zero_grad()
    with device.autocast:
        logits = scorer.train()(batch)
    cross_entropy(logits, GOLD).backward()
    for name, value in scorer.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            yield value.grad.clone()


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("arch", EVERY)
def test_training_after_an_answer_is_training_before_it(arch: str, precision: Any, masked_lm: Folder) -> None:
    """On processors with bfloat16 units this fails, or gives no gradients, where bitsandbytes is left to repack weights."""
    device = Device("cpu", precision, 1)
    model = in_four_bits(masked_lm(arch), device)
    batch, tokenizer = batch_of(masked_lm(arch))
    scorer = WordScorer(model, single_words(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        scorer.adapter = attach(model, QLORA)
        for name, value in model.named_parameters():
            if "lora_B" in name:  # zero at first, so that nothing would reach the other half
                nn.init.normal_(value, std=0.2)
    assert "peft.tuners.lora.bnb" in {type(module).__module__ for module in model.modules()}  # PEFT knows what it stands beside
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = list(gradients(scorer, batch, device))
        with inference(device):
            first = scorer.eval()(batch)
        torch.manual_seed(1)
        after = list(gradients(scorer, batch, device))
        with inference(device):
            second = scorer.eval()(batch)

    assert before and all(bool(value.abs().max() > 0) for value in before)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert torch.equal(first, second)


# -- where they cannot be had --------------------------------------------------------------------------


def test_missing_package(monkeypatch: pytest.MonkeyPatch, model_folder: Folder) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda oldest: False)

    assert obstacle("cpu") == ("bitsandbytes 0.50 or later is not installed", "pip install 'petkit[qlora]'")
    with pytest.raises(ModelRefused) as refused:
        in_four_bits(model_folder("bert"))
    assert str(refused.value) == "adapter qlora: bitsandbytes 0.50 or later is not installed (pip install 'petkit[qlora]')"


@pytest.mark.parametrize("error", [RuntimeError("no kernel\nlong advice"), ImportError("no kernel"), OSError("no kernel")])
def test_package_that_does_not_work(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise error

    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda oldest: True)
    monkeypatch.setattr(four_bit, "_in_four_bits", broken)

    assert obstacle("cpu") == ("bitsandbytes does not work on cpu: no kernel", "use adapter: lora")


def test_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda oldest: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)

    reported = obstacle("cpu")
    assert reported is not None and reported[0].startswith("bitsandbytes does not work on cpu: ")


@pytest.mark.usefixtures("real")
def test_nothing_in_the_way() -> None:
    with torch.inference_mode():
        assert obstacle("cpu") is None


def test_only_qlora_asks_for_it() -> None:
    half = Device("cuda:1", "bfloat16", 1)

    assert half.four_bit(QLORA) == FourBit("cuda:1", torch.bfloat16) and FULL.four_bit(QLORA) == FourBit("cpu", torch.float32)
    assert half.four_bit(LoraSpec(kind="lora")) is None and half.four_bit(None) is None
