"""Models tried out before any work: what would fail in training is refused, and a trial leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from petkit.config.schema.adapter import PromptEncoderSpec, PromptTuningSpec
from petkit.errors import ModelRefused
from petkit.models.adapters import prompt_tuning
from petkit.models.adapters.attach import attach
from petkit.models.loading import load_language_model
from petkit.models.safety.probe import check_reading
from tests.tiny import ARCHITECTURES, CAUSAL

Folder = Callable[[str], Path]
TUNED = PromptTuningSpec(kind="prompt_tuning", tokens=3)
ENCODED = PromptEncoderSpec(kind="p_tuning_v1", tokens=3)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
OTHERS: dict[str, dict[str, Any]] = {
    "bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, **HEADS},
    "esm": {**SIZES, "pad_token_id": 0, "mask_token_id": 4},
    "funnel": {"block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_model": 32, "d_inner": 64},
    "ibert": SIZES,
    "longformer": {**SIZES, "attention_window": 4},
    "mobilebert": {**SIZES, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "mra": SIZES,
    "xmod": SIZES,
}
every_family = pytest.mark.parametrize("arch", [*ARCHITECTURES, *CAUSAL])
both_specs = pytest.mark.parametrize("spec", [TUNED, ENCODED], ids=["prompt_tuning", "p_tuning_v1"])


def other(arch: str, kind: Any = AutoModelForMaskedLM) -> Any:
    """Return a random model of a family that petkit was not made for."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind.from_config(AutoConfig.for_model(arch, vocab_size=60, **OTHERS[arch])).eval()


def hooked(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())


# -- virtual tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "kind"),
    [
        ("ibert", AutoModelForMaskedLM),  # its embeddings come with a scale
        ("bart", AutoModelForMaskedLM),
        ("mra", AutoModelForMaskedLM),  # reads its own block alone
        ("funnel", AutoModelForSequenceClassification),  # halves its rows
        ("longformer", AutoModelForSequenceClassification),  # says itself where each row begins
    ],
)
@both_specs
def test_virtual_tokens_that_would_not_be_read(arch: str, kind: Any, spec: Any) -> None:
    model = other(arch, kind)
    why = "its answers do not depend on every virtual token, or rows change their length"
    with pytest.raises(ModelRefused) as refused:
        attach(model, spec)
    assert str(refused.value) == f"a '{arch}' model cannot carry {spec.kind}: {why} (use lora)"
    assert not hooked(model)


def test_a_single_virtual_token_that_is_not_read_is_noticed(model_folder: Folder) -> None:
    model = load_language_model(str(model_folder("bert")))
    real = model.bert.forward

    def forgetful(input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        attention_mask[:, 1] = 0
        return real(input_ids, attention_mask, **options)

    model.bert.forward = forgetful
    with pytest.raises(ModelRefused, match="'bert' model cannot carry prompt_tuning"):
        attach(model, TUNED)


@every_family
@both_specs
def test_trying_virtual_tokens_costs_nothing(arch: str, spec: Any, model_folder: Folder, monkeypatch: Any) -> None:
    """Neither numbers drawn nor modes tell that a model was tried."""
    found = []
    for tried in (True, False):
        model = load_language_model(str(model_folder(arch)))
        next(module for module in model.modules() if isinstance(module, nn.Dropout | nn.Linear)).train()
        modes = [module.training for module in model.modules()]
        if not tried:
            monkeypatch.setattr(prompt_tuning, "reads_every", lambda *model: True)
        torch.manual_seed(7)
        adapter = attach(model, spec)
        found.append((torch.get_rng_state(), adapter.state()["prompt_embeddings"]))
        assert [module.training for module in model.modules()] == modes
        assert all(parameter.grad is None for parameter in (*model.parameters(), *adapter.parameters()))
    for tried_value, value in zip(*found, strict=True):
        assert torch.equal(tried_value, value)


# -- answers at the mask -----------------------------------------------------------------------------


@every_family
def test_models_that_answer_at_the_mask(arch: str, model_folder: Folder) -> None:
    model = load_language_model(str(model_folder(arch))).train()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    check_reading(model, "tiny")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and not hooked(model)


def test_weights_that_overflow_are_no_fault_of_the_family(model_folder: Folder) -> None:
    model = load_language_model(str(model_folder("bert")))
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(3e38)
    with pytest.raises(ModelRefused, match=r"^tiny: its logits are NaN or infinite: the weights, .* are too large$"):
        check_reading(model, "tiny")


@pytest.mark.parametrize(
    ("arch", "why"),
    [
        ("bart", "its head answers for the whole vocabulary at once"),  # adds a number per word afterwards
        ("esm", "its head answers for the whole vocabulary at once"),
        ("mobilebert", "its head answers for the whole vocabulary at once"),  # multiplies by two matrices at once
        ("xmod", "Input language unknown. Please call `XmodPreTrainedModel.set_default_language()`"),
    ],
)
def test_models_that_do_not(arch: str, why: str) -> None:
    model = other(arch)
    with pytest.raises(ModelRefused) as refused:
        check_reading(model, "tiny")
    hint = "use another model, such as BERT or RoBERTa"
    assert str(refused.value) == f"tiny: a '{arch}' model cannot be read at the mask alone: {why} ({hint})"
    assert not hooked(model)
