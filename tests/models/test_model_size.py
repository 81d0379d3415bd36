"""Sizes reported by the configuration are those of the model that is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from petkit.models.loading import EMBEDDED, load_language_model, new_classifier
from petkit.models.size import model_size
from tests.tiny import ARCHITECTURES, CAUSAL


@pytest.mark.parametrize("arch", [*ARCHITECTURES, *CAUSAL])
def test_size_is_that_of_the_loaded_model(arch: str, model_folder: Callable[[str], Path]) -> None:
    name = str(model_folder(arch))
    before = torch.random.get_rng_state()
    reported = model_size(name)

    model = load_language_model(name)
    assert reported.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (reported.layers, reported.heads, reported.hidden) == (2, 2, 32)
    assert reported.vocabulary == model.get_input_embeddings().weight.shape[0]
    assert reported.inner in (64, 128)  # GPT-2 keeps to four times the hidden width
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("arch", ["bert", "roberta", "gpt2"])
def test_a_classifier_has_its_own_head(arch: str, model_folder: Callable[[str], Path]) -> None:
    name = str(model_folder(arch))
    model, _ = new_classifier(name, [f"label {number}" for number in range(7)])

    assert model_size(name, 7).parameters == sum(parameter.numel() for parameter in model.parameters())
    assert model_size(name, 7).parameters > model_size(name, 2).parameters


def test_a_model_without_attention(here: Path, model_folder: Callable[[str], Path]) -> None:
    name = here / "mamba"
    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(name)
    assert model_size(str(name)).heads == 1 and model_size(str(name)).layers == 2


def test_the_embedded_model() -> None:
    assert model_size(EMBEDDED).parameters == sum(parameter.numel() for parameter in load_language_model(EMBEDDED).parameters())
