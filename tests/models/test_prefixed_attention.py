"""Attention that is led to a prefix, against what its formula says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from petkit.models.adapters.prefixed_attention import PrefixedAttention
from petkit.models.loading import load_masked_lm
from tests.models.test_deep_prefix import TOKENS, answer, attached, padded

Folder = Callable[[str], Path]


@pytest.mark.parametrize("arch", ["deberta-v2", "deberta-v2-new", "mpnet"])
def test_rewritten_attention_is_the_models_own(arch: str, masked_lm: Folder) -> None:
    """Bit for bit where the prefix is empty, with dropout and without."""
    model, inputs = load_masked_lm(str(masked_lm(arch))), padded()

    def answers() -> list[Tensor]:
        torch.manual_seed(3)
        return [answer(model.train(training), inputs) for training in (False, True)]

    expected = answers()
    prefix = PrefixedAttention(model, lambda: torch.zeros(2, 2, 2, 0, 16))
    assert all("forward" in vars(layer.attention.self if "deberta" in arch else layer.attention.attn) for layer in layers(model))
    assert all(torch.equal(one, other) for one, other in zip(answers(), expected, strict=True))
    prefix.remove()


def layers(model: Any) -> Any:
    return model.base_model.encoder.layer


# The first layer's queries (and more), and the layer that reads what its attention gathered.
QUERIES = {"distilbert": ".q_lin", "albert": ".query", "modernbert": ".Wqkv", "mpnet": ".attn.q", "deberta-v2": ".query_proj"}
READERS = {
    "distilbert": ".out_lin",
    "albert": ".attention.dense",
    "modernbert": ".attn.Wo",
    "mpnet": ".attn.o",
    "deberta-v2": ".attention.output.dense",
}


def first_read(arch: str, model: Any, source: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Return what the first layer's heads gather without and with a prefix, shape ``(length, heads, head)``."""
    layer = next(module for name, module in model.named_modules() if name.endswith(READERS[arch]))
    read: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: read.append(args[0].view(8, 2, 16)))
    inputs = {"input_ids": 5 + torch.arange(8)[None], "attention_mask": torch.ones(1, 8, dtype=torch.int64)}
    answer(model, inputs)
    plain = read[0]
    read.clear()
    prefix = PrefixedAttention(model, source)
    answer(model, inputs)
    prefix.remove()
    hook.remove()
    return plain, read[0]


@pytest.mark.parametrize("arch", READERS)
def test_without_queries_attention_is_the_mean_of_all_values(arch: str, masked_lm: Folder) -> None:
    model = load_masked_lm(str(masked_lm(arch)))
    queries = next(module for name, module in model.named_modules() if name.endswith(QUERIES[arch]))
    queries.register_forward_hook(lambda module, args, output: output.index_fill(-1, torch.arange(32), 0))
    for name, parameter in model.named_parameters():  # positions say nothing
        if "relative_attention_bias" in name or "rel_embeddings" in name or name.endswith("encoder.LayerNorm.bias"):
            nn.init.zeros_(parameter)
    keys_and_values = torch.arange(2 * 2 * 2 * TOKENS * 16).view(2, 2, 2, TOKENS, 16).sin()
    plain, prefixed = first_read(arch, model, lambda: keys_and_values)
    torch.testing.assert_close(prefixed, (8 * plain + keys_and_values[0, 1].sum(1)) / (8 + TOKENS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", READERS)
def test_the_text_keeps_its_proportions(arch: str, masked_lm: Folder) -> None:
    """Keys and values of 0 make what a head gathers smaller and nothing else, positions included."""
    model = load_masked_lm(str(masked_lm(arch)))
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter *= 10 if parameter.ndim == 2 else 1  # so that attention is far from even
    plain, prefixed = first_read(arch, model, lambda: torch.zeros(2, 2, 2, TOKENS, 16))
    share = prefixed.norm(dim=-1, keepdim=True) / plain.norm(dim=-1, keepdim=True)  # (length, heads, 1)
    torch.testing.assert_close(prefixed, share * plain, rtol=1e-4, atol=1e-5)
    assert 0 < share.min() < share.max() < 1 and share.std() > 0.01


def test_both_routes_are_one_method(masked_lm: Folder) -> None:
    """BERT's attention led to the prefix is BERT with a cache, once the text stands at the same positions."""
    model, inputs = load_masked_lm(str(masked_lm("bert"))), padded()
    adapter = attached(model)
    expected = answer(model, inputs)
    adapter.detach()
    base = model.base_model
    kept = type(base).forward
    base.forward = lambda **kwargs: kept(base, **kwargs)  # no cache in its signature
    led = PrefixedAttention(model, adapter._keys_and_values)
    assert model.config._attn_implementation == "petkit_prefix_sdpa"
    positions = TOKENS + torch.arange(12)[None]
    torch.testing.assert_close(base_answer(model, inputs, positions), expected, rtol=0, atol=1e-6)
    led.remove()


def base_answer(model: Any, inputs: dict[str, Tensor], positions: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = model.base_model(**inputs, position_ids=positions)[0]
        logits: Tensor = model.cls(hidden)
    return logits
