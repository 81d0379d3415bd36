"""What of a model is trained when its lower part is frozen: in every family, and step by step."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from petkit.models.freezing import _layers, freeze_lower, layer_count
from petkit.models.loading import load_language_model, new_classifier
from tests.models.masked_rows import load
from tests.tiny import ARCHITECTURES, CAUSAL

Folder = Callable[[str], Path]
EMBEDDINGS = ("embeddings", "wte", "wpe", "embed_tokens", "lm_head.decoder.weight")  # the last is tied to them
SHARED = ("encoder.LayerNorm", "relative_attention_bias", "embedding_hidden_mapping_in")  # position tables below every layer


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a parameter belongs to, as its name says."""
    found = re.search(r"\.(?:layers?|h)\.(\d+)\.", name)
    return int(found[1]) if found else None


@pytest.mark.parametrize("arch", [*ARCHITECTURES, *CAUSAL])
def test_embeddings_alone(arch: str, model_folder: Folder) -> None:
    model = load_language_model(str(model_folder(arch)))
    everything = trained(model)
    freeze_lower(model, "embeddings")
    frozen = everything - trained(model)
    assert model.get_input_embeddings().weight.requires_grad is False
    assert frozen and not [name for name in frozen if not any(part in name for part in EMBEDDINGS)]


@pytest.mark.parametrize("arch", sorted({*ARCHITECTURES, *CAUSAL} - {"albert"}))
def test_a_number_of_layers(arch: str, model_folder: Folder) -> None:
    model = load_language_model(str(model_folder(arch)))
    everything, layers = trained(model), layer_count(model.config)
    embeddings = {name for name in everything if any(part in name for part in (*EMBEDDINGS, *SHARED))}
    freeze_lower(model, 1)
    assert {layer_of(name) for name in everything - trained(model) - embeddings} == {0}
    assert not any(layer_of(name) == 0 for name in trained(model))
    freeze_lower(model, layers)
    assert all(layer_of(name) is None for name in trained(model))  # what is left: the head, and biases that layers share


def test_half_of_the_layers_and_none(model_folder: Folder) -> None:
    model, _ = new_classifier(str(model_folder("bert")), ["a", "b"])
    everything = trained(model)
    freeze_lower(model, "none")
    assert trained(model) == everything
    freeze_lower(model, "half")
    assert {layer_of(name) for name in trained(model)} == {
        None,
        *range(layer_count(model.config) // 2, layer_count(model.config)),
    }
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= trained(model)


@pytest.mark.parametrize("arch", sorted({*ARCHITECTURES} - {"albert"}))
def test_the_backward_pass_ends_at_the_lowest_trained_layer(arch: str, model_folder: Folder) -> None:
    """The first layer's output needs no gradient."""
    model, _, batch = load(model_folder(arch))
    freeze_lower(model, 1)
    _, layers = _layers(model.base_model)
    given: list[torch.Tensor] = []
    layers[0].register_forward_hook(
        lambda module, inputs, output: given.append(output if isinstance(output, torch.Tensor) else output[0])
    )
    model.base_model(**batch.model_inputs)[0].sum().backward()
    assert [hidden.requires_grad for hidden in given] == [False]
    assert any(parameter.grad is not None for parameter in layers[1].parameters())


@pytest.mark.parametrize("kind", ["opt", "qwen2_vl"])
def test_a_text_model_inside_of_another(kind: str) -> None:
    """Of a model in which the embeddings are not next to the base: those of the text, not of the images."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    text = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
    if kind == "opt":
        config = AutoConfig.for_model("opt", **text, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=32)
        model = AutoModelForCausalLM.from_config(config)
    else:
        vision = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2}
        rope = {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 10000.0}
        config = AutoConfig.for_model(
            "qwen2_vl", text_config={**text, "num_key_value_heads": 2, "rope_parameters": rope}, vision_config=vision
        )
        model = AutoModelForImageTextToText.from_config(config)
    everything = trained(model)
    freeze_lower(model, 1)
    frozen = everything - trained(model)
    assert not model.get_input_embeddings().weight.requires_grad
    assert any(layer_of(name) == 0 for name in frozen) and not any("visual" in name or layer_of(name) == 1 for name in frozen)
