"""Deep prefixes in every family: all layers read them, padding does not, and the model is plain again without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from petkit.config.schema.adapter import DeepPrefixSpec
from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import ModelRefused
from petkit.models.adapters.base import read_adapter
from petkit.models.adapters.p_tuning_v2 import DeepPrefix
from petkit.models.adapters.prefixed_attention import _LAYERS
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import load_masked_lm
from tests.models.masked_rows import EVERY, load, single_words

Folder = Callable[[str], Path]
TOKENS = 3
SPEC = DeepPrefixSpec(kind="p_tuning_v2", tokens=TOKENS)
NETWORK = DeepPrefixSpec(kind="p_tuning_v2", tokens=TOKENS, projection=True, projection_size=8)
# Those whose attention takes a cache of earlier keys, as PEFT knows it; grouped queries: two heads read one head's keys.
SPREAD = 0.02  # of what a training begins with
CACHED = ("bert", "electra", "roberta", "xlm-roberta")
DECODERS = ("gpt2", "llama", "qwen2")
OWN = ("deberta-v2", "mpnet")  # attention of their own
every_architecture = pytest.mark.parametrize("arch", EVERY)
every_family = pytest.mark.parametrize("arch", [*EVERY, *DECODERS])
both_specs = pytest.mark.parametrize("spec", [SPEC, NETWORK], ids=["plain", "projection"])


def classifier(arch: str, masked_lm: Folder) -> Any:
    """Return a random classifier of three labels in evaluation mode, the same one every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if arch in DECODERS:
            sizes = {"vocab_size": 100, "pad_token_id": 0, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
            own = {} if arch == "gpt2" else {"num_key_value_heads": 2, "intermediate_size": 64}
            config = AutoConfig.for_model(arch, **sizes, **own, bos_token_id=1, eos_token_id=2, num_labels=3)
        else:
            config = AutoConfig.from_pretrained(masked_lm(arch), num_labels=3)
        return AutoModelForSequenceClassification.from_config(config).eval()


def padded() -> dict[str, Tensor]:
    """Return a row of 12 tokens and one of 5, padded."""
    ids = 5 + torch.arange(24).view(2, 12)
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def attached(model: Any, spec: DeepPrefixSpec = SPEC, seed: int = 7) -> DeepPrefix:
    """Attach a prefix of keys and values about as large as 1, which even random weights hear."""
    model.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = DeepPrefix(model, spec)
    if not spec.projection:
        adapter.encoder.embedding.weight.data.div_(SPREAD)
    return adapter


def answer(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**inputs).logits
    return logits


@every_family
@both_specs
@pytest.mark.parametrize("training", [False, True])
def test_every_layer_trains(arch: str, spec: DeepPrefixSpec, training: bool, masked_lm: Folder) -> None:
    model = classifier(arch, masked_lm)
    adapter = attached(model, spec)
    before = adapter.state()["prompt_embeddings"].clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=training):  # as in training: with dropout, and in bfloat16
        logits = model.train(training)(**padded()).logits
    logits.float().sum().backward()
    assert not any(parameter.grad is not None for parameter in model.parameters())
    torch.optim.SGD(adapter.parameters(), lr=10).step()
    moved = (adapter.state()["prompt_embeddings"] - before).view(TOKENS, 4, -1)  # (tokens, layers · 2, width)
    assert (moved.abs().amax(2) > 0).all()


@every_family
def test_a_step_lowers_the_loss(arch: str, masked_lm: Folder) -> None:
    model = classifier(arch, masked_lm).double()  # random weights hardly hear the prefix
    adapter = attached(model).double()
    gold = torch.tensor([0, 2])

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(**padded()).logits, gold)

    first = loss()
    first.backward()
    torch.optim.SGD(adapter.parameters(), lr=0.1).step()
    assert loss() < first


@every_family
def test_the_prefix_is_read_and_padding_is_not(arch: str, masked_lm: Folder) -> None:
    model, inputs = classifier(arch, masked_lm), padded()
    attached(model)
    both = answer(model, inputs)
    alone = answer(model, {name: value[1:, :5] for name, value in inputs.items()})
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)
    other = classifier(arch, masked_lm)
    attached(other, seed=8)
    assert ((answer(other, inputs) - both).abs().amax(1) > 1e-5).all()


@every_family
@both_specs
def test_folder_comes_back_exactly(arch: str, spec: DeepPrefixSpec, masked_lm: Folder, tmp_path: Path) -> None:
    model, inputs = classifier(arch, masked_lm), padded()
    adapter = attached(model, spec)
    adapter.save(tmp_path, "tiny")
    fresh = classifier(arch, masked_lm)
    found = attached(fresh, spec, seed=8)
    state = torch.get_rng_state()
    found.put(read_adapter(tmp_path), str(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(answer(fresh, inputs), answer(model, inputs))
    assert torch.equal(found.state()["prompt_embeddings"], read_adapter(tmp_path)["prompt_embeddings"])


@pytest.mark.parametrize("arch", [*CACHED, *DECODERS])
@both_specs
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT asks for it
def test_peft_gives_the_same_answers(arch: str, spec: DeepPrefixSpec, masked_lm: Folder, tmp_path: Path) -> None:
    model, inputs = classifier(arch, masked_lm), padded()
    attached(model, spec).save(tmp_path, "tiny")
    peft = PeftModel.from_pretrained(classifier(arch, masked_lm), tmp_path).eval()
    torch.testing.assert_close(answer(model, inputs), answer(peft, inputs), rtol=0, atol=1e-6)


@every_family
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_model_is_plain_again(arch: str, attention: str, masked_lm: Folder) -> None:
    model, inputs = classifier(arch, masked_lm), padded()
    if not arch.startswith(OWN):
        model.set_attn_implementation(attention)
    before, implementation = answer(model, inputs), model.config._attn_implementation
    names, kept = list(model.state_dict()), [dict(vars(module)) for module in model.modules()]
    adapter = attached(model)
    assert list(model.state_dict()) == names and not torch.equal(answer(model, inputs), before)
    adapter.detach()
    assert torch.equal(answer(model, inputs), before)
    assert model.config._attn_implementation == implementation
    for module, attributes in zip(model.modules(), kept, strict=True):
        assert vars(module).keys() == attributes.keys()
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._forward_hooks_always_called
    assert _LAYERS.get() is None


@pytest.mark.parametrize("arch", [arch for arch in (*EVERY, *DECODERS) if not arch.startswith(OWN)])
def test_eager_and_fused_attention_agree(arch: str, masked_lm: Folder) -> None:
    model, inputs = classifier(arch, masked_lm), padded()
    attached(model)
    eager = classifier(arch, masked_lm)
    eager.set_attn_implementation("eager")
    attached(eager)
    torch.testing.assert_close(answer(model, inputs), answer(eager, inputs), rtol=0, atol=1e-5)
    assert eager(**inputs, output_attentions=True).attentions[0].shape[2:] == (12, TOKENS + 12)  # the fused has none to show


@every_family
def test_a_model_in_bfloat16(arch: str, masked_lm: Folder) -> None:
    model = classifier(arch, masked_lm).bfloat16()
    adapter = attached(model)
    assert answer(model, padded()).dtype == torch.bfloat16
    assert adapter.state()["prompt_embeddings"].dtype == torch.float32


@every_family
def test_drawn_from_the_random_state_alone(arch: str, masked_lm: Folder) -> None:
    """Trying out a model neither draws numbers nor changes modes."""
    model = classifier(arch, masked_lm)
    next(module for module in model.modules() if isinstance(module, nn.Linear)).train()
    modes = [module.training for module in model.modules()]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        adapter = DeepPrefix(model, SPEC)
        found = torch.get_rng_state()
        torch.manual_seed(7)
        expected = nn.Embedding(*adapter.state()["prompt_embeddings"].shape)
        assert torch.equal(torch.get_rng_state(), found)
    assert torch.equal(adapter.state()["prompt_embeddings"], SPREAD * expected.weight)
    assert [module.training for module in model.modules()] == modes


@every_architecture
@pytest.mark.parametrize("attention", ["eager", None])
def test_words_at_the_mask(arch: str, attention: str | None, masked_lm: Folder) -> None:
    """The reader's few rows are those of all positions, in float32 and in bfloat16."""
    model, tokenizer, batch = load(masked_lm(arch), attention)
    adapter = attached(model)
    words = single_words(tokenizer)
    every = answer(model, batch.model_inputs)[torch.arange(3), batch.mask_positions]
    expected = torch.stack([every[:, [word[0] for word in label]].mean(1) for label in words], dim=1)
    scorer = WordScorer(model, words)
    scorer.adapter = adapter
    with torch.no_grad():
        torch.testing.assert_close(scorer(batch), expected, rtol=1e-5, atol=1e-5)
    device = Device("cpu", "bfloat16", 1)
    prepare_for_inference(scorer, device)
    with inference(device):
        found = scorer(batch)
    spread = (expected.max() - expected.min()).item()
    assert 0 < (found - expected).abs().max().item() < 0.02 * spread
    assert torch.isfinite(found).all()


def test_what_was_read_before_is_forgotten(masked_lm: Folder) -> None:
    """A forward pass that fails leaves no prefix behind for the next model."""
    model = load_masked_lm(str(masked_lm("distilbert")))
    attached(model)
    with pytest.raises(IndexError):
        answer(model, {"input_ids": torch.full((1, 4), 10_000)})
    assert _LAYERS.get() is None


@pytest.mark.parametrize("arch", DECODERS)
def test_the_text_is_not_kept(arch: str, masked_lm: Folder) -> None:
    """Decoders hand a cache back; what is in it is the prefix, and the next answer does not depend on it."""
    model = classifier(arch, masked_lm)
    attached(model)
    first, second = model(**padded()), model(**padded())
    assert first.past_key_values.get_seq_length() == TOKENS
    assert torch.equal(first.logits, second.logits)


REFUSED: dict[str, dict[str, Any]] = {
    "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "convbert": {"embedding_size": 32},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p"]},
    "funnel": {"block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_model": 32, "d_inner": 64},
    "longformer": {"attention_window": 4},
}


@pytest.mark.parametrize("arch", REFUSED)
def test_other_attention_is_refused(arch: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    own = REFUSED[arch] if "d_model" in REFUSED[arch] else sizes | REFUSED[arch]
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(arch, vocab_size=60, **own))
    implementation = model.config._attn_implementation
    before = answer(model.eval(), padded())
    message = f"a '{arch}' model cannot carry p_tuning_v2: its attention takes no further keys (use lora)"
    with pytest.raises(ModelRefused) as refused:
        attached(model)
    assert str(refused.value) == message
    torch.testing.assert_close(answer(model, padded()), before, rtol=0, atol=1e-6)  # some processors round by memory address
    assert model.config._attn_implementation == implementation
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_single_deaf_layer_is_noticed(masked_lm: Folder) -> None:
    model = load_masked_lm(str(masked_lm("distilbert")))
    nn.init.zeros_(model.base_model.transformer.layer[1].attention.out_lin.weight)
    with pytest.raises(ModelRefused, match="distilbert"):
        attached(model)
