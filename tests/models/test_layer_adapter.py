"""Which layers an adapter can be put on, and how those it cannot are refused: in one line, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft.tuners.ia3 import IA3Layer
from peft.tuners.lora import LoraLayer
from pydantic import TypeAdapter
from transformers.pytorch_utils import Conv1D

from petkit.config.schema.adapter import AdapterSpec, AnyAdapter
from petkit.errors import ModelRefused
from petkit.models.adapters.attach import attach
from petkit.models.loading import load_language_model

Folder = Callable[[str], Path]
LAYERS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "transform.dense", "self.key", "self.value")
FEED_FORWARD = LAYERS[3:6]
BERT = r"\(its layers: self\.query, self\.key, self\.value, output\.dense, intermediate\.dense, transform\.dense\)$"
GPT2 = r"\(its layers: attn\.c_attn, attn\.c_proj, mlp\.c_fc, mlp\.c_proj\)$"


def attached(folder: Path, **options: Any) -> Any:
    """Return a model with an adapter of the given options."""
    spec: AnyAdapter = TypeAdapter(AdapterSpec).validate_python(options)
    model = load_language_model(str(folder))
    attach(model, spec)
    return model


@pytest.mark.parametrize("kind", ["lora", "ia3"])
@pytest.mark.parametrize(
    ("arch", "targets", "said"),
    [
        ("bert", ("no_such_layer",), f"^no layer of this 'bert' model is called no_such_layer {BERT}"),
        ("bert", ("decoder",), f"^decoder is the vocabulary's own layer, which cannot be adapted {BERT}"),
        ("gpt2", ("lm_head",), f"^lm_head is the vocabulary's own layer, which cannot be adapted {GPT2}"),
        ("gpt2", ("cross",), f"^no layer of this 'gpt2' model is called cross {GPT2}"),
        ("bert", ("self",), f"^self is not a linear layer of this 'bert' model {BERT}"),
        ("bert", ("query", "LayerNorm"), f"^LayerNorm is not a linear layer of this 'bert' model {BERT}"),
        ("bert", ("decoder", "nowhere", "here"), "^decoder is the vocabulary's own .+; no layer .+ is called nowhere, here "),
    ],
)
def test_layers_that_cannot_be_adapted(kind: str, arch: str, targets: tuple[str, ...], said: str, model_folder: Folder) -> None:
    with pytest.raises(ModelRefused, match=said) as refused:
        attached(model_folder(arch), kind=kind, target_modules=targets)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "^feedforward_modules: nothing is none of the layers adapted, key, value, output.dense "),
        ({"target_modules": ("query",)}, "^feedforward_modules: nothing is none of the layers adapted, query "),
        ({"target_modules": "all-linear"}, "^feedforward_modules: no layer of this 'bert' model is called nothing "),
    ],
)
def test_inputs_scaled_of_layers_that_are_not_adapted(options: dict[str, Any], said: str, model_folder: Folder) -> None:
    with pytest.raises(ModelRefused, match=said + BERT):
        attached(model_folder("bert"), kind="ia3", feedforward_modules=("nothing",), **options)


@pytest.mark.parametrize(
    ("arch", "options", "scaled"),
    [
        ("bert", {}, {"dense"}),  # as PEFT knows it
        ("distilbert", {}, {"lin2"}),  # as we do
        ("gpt2", {}, {"c_proj"}),
        ("bert", {"target_modules": ("query", "key")}, set()),
        ("bert", {"target_modules": ("query", "key"), "feedforward_modules": ("key",)}, {"key"}),
        ("bert", {"feedforward_modules": ("key",)}, {"key"}),
        ("bert", {"target_modules": "all-linear", "feedforward_modules": ("value",)}, {"value"}),
    ],
)
def test_which_inputs_are_scaled(arch: str, options: dict[str, Any], scaled: set[str], model_folder: Folder) -> None:
    model = attached(model_folder(arch), kind="ia3", **options)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, IA3Layer)}
    assert {name.rpartition(".")[2] for name, layer in layers.items() if layer.is_feedforward} == scaled


@pytest.mark.parametrize("arch", ["bert", "gpt2", "llama", "deberta-v2"])
@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_all_linear_leaves_the_vocabulary_alone(arch: str, kind: str, model_folder: Folder) -> None:
    model = attached(model_folder(arch), kind=kind, target_modules="all-linear")
    assert not isinstance(model.get_output_embeddings(), LoraLayer | IA3Layer)


def test_what_lora_can_be_put_on(model_folder: Folder) -> None:
    assert isinstance(
        attached(model_folder("bert"), kind="lora", target_modules=("word_embeddings",)).get_input_embeddings(), LoraLayer
    )
    layer = attached(model_folder("gpt2"), kind="lora", target_modules=("c_fc",)).transformer.h[0].mlp.c_fc
    assert isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), Conv1D)


@pytest.mark.parametrize("options", [{"kind": "lora"}, {"kind": "ia3"}, {"kind": "ia3", "feedforward_modules": FEED_FORWARD}])
def test_names_of_layers_are_written_in_an_order_of_their_own(options: dict[str, Any], model_folder: Folder, here: Path) -> None:
    spec: AnyAdapter = TypeAdapter(AdapterSpec).validate_python({"target_modules": LAYERS, **options})
    attach(load_language_model(str(model_folder("bert"))), spec).save(here / "adapter", "base")

    written = json.loads((here / "adapter" / "adapter_config.json").read_text())

    assert written["target_modules"] == sorted(LAYERS)  # sets would be written in another order by every process
    assert written.get("feedforward_modules", []) == sorted(options.get("feedforward_modules", ()))
