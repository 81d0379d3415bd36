"""Adapters on every architecture: they train, lower the loss, are saved and taken back exactly, merge, and go without a trace.

Deep prefixes have tests of their own besides (``test_deep_prefix.py``), and on causal models no others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from pydantic import TypeAdapter
from torch import Tensor, nn

from petkit.config.schema.adapter import AdapterSpec, AnyAdapter
from petkit.engine.inference import ClassifierLogits
from petkit.engine.training_loop import set_dropout
from petkit.errors import ModelRefused
from petkit.losses import cross_entropy
from petkit.models.adapters.attach import attach, trained_part
from petkit.models.adapters.base import STATE_FILE, Adapter, read_adapter
from petkit.models.architectures import is_causal
from petkit.models.batch import Batch
from petkit.models.label_scorer import LabelScorer, TokenIds
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import load_config, load_masked_lm, new_classifier
from tests.models import open_rows
from tests.models.masked_rows import LONGEST, load, single_words
from tests.tiny import ARCHITECTURES, CAUSAL

Folder = Callable[[str], Path]
Scorer = LabelScorer | ClassifierLogits
GOLD = torch.tensor([0, 2, 1])
LABELS = ("a", "b", "c")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora"},
    "lora everywhere": {"kind": "lora", "target_modules": "all-linear", "rank": 4},
    "ia3": {"kind": "ia3"},
    "prompt_tuning": {"kind": "prompt_tuning", "tokens": 5},
    "p_tuning_v1": {"kind": "p_tuning_v1", "tokens": 5},
    "p_tuning_v1 lstm": {"kind": "p_tuning_v1", "tokens": 5, "encoder": "lstm", "encoder_size": 16},
    "p_tuning_v2": {"kind": "p_tuning_v2", "tokens": 5},
    "p_tuning_v2 projected": {"kind": "p_tuning_v2", "tokens": 5, "projection": True, "projection_size": 16},
}
MERGED = ("lora", "lora everywhere", "ia3")
EVERY = (*ARCHITECTURES, *CAUSAL)
every_kind = pytest.mark.parametrize("kind", KINDS)
PAIRS = [(arch, kind) for arch in EVERY for kind in KINDS if arch not in CAUSAL or "v2" not in kind]


def in_turn(pairs: list[tuple[str, str]]) -> pytest.MarkDecorator:
    """Every pair once, with teacher and student in turn, so that each also meets every architecture and every kind."""
    turns = [(EVERY.index(arch) + list(KINDS).index(kind)) % 2 == 1 for arch, kind in pairs]
    cases = [(*pair, student) for pair, student in zip(pairs, turns, strict=True)]
    ids = [f"{arch}-{kind}-{'student' if student else 'teacher'}" for arch, kind, student in cases]
    return pytest.mark.parametrize(("arch", "kind", "student"), cases, ids=ids)


ignore_pefts_warning = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
every_pair = pytest.mark.parametrize(("arch", "kind"), PAIRS)
every_pair_in_turn = in_turn(PAIRS)


def spec_of(kind: str) -> AnyAdapter:
    spec: AnyAdapter = TypeAdapter(AdapterSpec).validate_python(KINDS[kind])
    return spec


def loaded(folder: Path) -> tuple[Any, TokenIds, Batch]:
    """Return a language model, label words of one token, and rows of its kind as one batch."""
    if is_causal(load_config(str(folder))):
        model, tokenizer, batch = open_rows.loaded(folder)
        return model, open_rows.words_of(tokenizer)[0], batch
    model, tokenizer, batch = load(folder)
    return model, single_words(tokenizer), batch


def lively(model: Any) -> Any:
    """Spread an encoder's weights: a new one's are so small that every text looks alike. Causal ones are made wider."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2 and not is_causal(model.config):
                parameter.mul_(4)
    return model


def adapted(folder: Path, kind: str, *, student: bool) -> tuple[Scorer, Adapter, Batch]:
    """Return a model with a new adapter, what asks it, and rows."""
    model, words, batch = loaded(folder)
    head: list[str] = []
    torch.manual_seed(3)
    if student:
        model, head = new_classifier(str(folder), LABELS)
    lively(model)
    adapter = attach(model, spec_of(kind), head=head)
    scorer: Scorer = ClassifierLogits(model, adapter) if student else WordScorer(model, words)
    scorer.adapter = adapter
    return scorer, adapter, batch


def train(scorer: Scorer, batch: Batch, steps: int = 5) -> list[float]:
    """Take a few steps and return the loss before each and after the last."""
    trained = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.01)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(scorer(batch), GOLD)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [*losses, cross_entropy(scorer(batch), GOLD).item()]


def answers(scorer: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        found: Tensor = scorer(batch)
    return found


@every_pair_in_turn
def test_trains_and_comes_back_exactly(arch: str, kind: str, student: bool, model_folder: Folder, tmp_path: Path) -> None:
    folder = model_folder(arch)
    scorer, adapter, batch = adapted(folder, kind, student=student)
    frozen = {name: value.clone() for name, value in scorer.named_parameters() if not value.requires_grad}
    before = answers(scorer, batch)
    losses = train(scorer, batch)
    assert losses[-1] < losses[0]
    assert not torch.equal(answers(scorer, batch), before)
    now = dict(scorer.named_parameters())
    assert frozen and all(torch.equal(value, now[name]) for name, value in frozen.items())

    adapter.save(tmp_path, str(folder))
    again, second, _ = adapted(folder, kind, student=student)
    second.put(read_adapter(tmp_path), "there")
    assert torch.equal(answers(again, batch), answers(scorer, batch))


def test_the_embedded_model_is_not_looked_up_on_the_hub(model_folder: Folder, tmp_path: Path) -> None:
    _, adapter, _ = adapted(model_folder("bert"), "lora", student=False)
    for base, written in (("embedded", None), ("roberta-base", "roberta-base")):
        adapter.save(tmp_path, base)
        assert PeftConfig.from_pretrained(tmp_path).base_model_name_or_path == written


@every_pair_in_turn
def test_padding_changes_nothing(arch: str, kind: str, student: bool, model_folder: Folder) -> None:
    scorer, _, batch = adapted(model_folder(arch), kind, student=student)
    together = answers(scorer, batch)
    for row in range(len(GOLD)):
        length = int(batch.attention_mask[row].sum())
        types = None if batch.token_type_ids is None else batch.token_type_ids[row : row + 1, :length]
        alone = Batch(
            batch.input_ids[row : row + 1, :length],
            batch.attention_mask[row : row + 1, :length],
            types,
            batch.mask_positions[row : row + 1],
        )
        torch.testing.assert_close(answers(scorer, alone)[0], together[row], rtol=1e-4, atol=1e-5)


@every_pair
def test_goes_without_a_trace(arch: str, kind: str, model_folder: Folder) -> None:
    folder = model_folder(arch)
    plain, _, batch = loaded(folder)
    lively(plain)
    scorer, adapter, _ = adapted(folder, kind, student=False)
    train(scorer, batch)
    model = scorer.detach()
    adapter.detach()
    assert torch.equal(model(**batch.model_inputs).logits, plain(**batch.model_inputs).logits)
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}
    assert vars(model).keys() == vars(plain).keys()
    assert not model.base_model._forward_hooks and not model.base_model._forward_pre_hooks


@in_turn([(arch, kind) for arch, kind in PAIRS if kind in MERGED])
def test_merged_is_the_plain_model_with_the_same_answers(arch: str, kind: str, student: bool, model_folder: Folder) -> None:
    folder = model_folder(arch)
    scorer, adapter, batch = adapted(folder, kind, student=student)
    train(scorer, batch)
    expected = answers(scorer, batch)
    model = scorer.detach()
    assert adapter.mergeable
    adapter.merge()
    plain, words, _ = loaded(folder)
    if student:
        plain, _ = new_classifier(str(folder), LABELS)
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}
    merged: Scorer = ClassifierLogits(model) if student else WordScorer(model, words)
    torch.testing.assert_close(answers(merged, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["p_tuning_v2", "prompt_tuning", "p_tuning_v1"])
def test_the_others_cannot_be_merged(kind: str, model_folder: Folder) -> None:
    _, adapter, _ = adapted(model_folder("bert"), kind, student=False)
    assert not adapter.mergeable
    with pytest.raises(TypeError, match="cannot be merged"):
        adapter.merge()


@ignore_pefts_warning
@pytest.mark.parametrize("arch", ["bert", "roberta", "deberta-v2"])
@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_peft_reads_the_folder(arch: str, kind: str, model_folder: Folder, tmp_path: Path) -> None:
    folder = model_folder(arch)
    scorer, adapter, batch = adapted(folder, kind, student=False)
    train(scorer, batch)
    adapter.save(tmp_path, str(folder))
    model = scorer.detach()
    peft = PeftModel.from_pretrained(lively(load_masked_lm(str(folder))), tmp_path)
    inputs = batch.model_inputs
    torch.testing.assert_close(peft(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-6)


@ignore_pefts_warning
@pytest.mark.parametrize("arch", ["bert", "roberta", "deberta-v2"])
def test_peft_puts_virtual_tokens_where_we_do(arch: str, model_folder: Folder, tmp_path: Path) -> None:
    folder = model_folder(arch)
    scorer, adapter, batch = adapted(folder, "prompt_tuning", student=False)
    train(scorer, batch)
    adapter.save(tmp_path, str(folder))
    model = scorer.detach()
    alone = {
        "input_ids": batch.input_ids[:1, :LONGEST],
        "attention_mask": batch.attention_mask[:1, :LONGEST],
    }  # no types: PEFT drops them
    peft = PeftModel.from_pretrained(lively(load_masked_lm(str(folder))), tmp_path)
    theirs = peft(**alone).logits[:, 5:]  # virtual tokens included
    torch.testing.assert_close(model(**alone).logits, theirs, rtol=1e-4, atol=1e-5)


def test_a_head_that_is_new_is_trained_and_saved(model_folder: Folder, tmp_path: Path) -> None:
    folder = model_folder("bert")
    scorer, adapter, batch = adapted(folder, "p_tuning_v2", student=True)
    heads = {name for name, value in scorer.named_parameters() if value.requires_grad and "classifier" in name}
    assert heads == {"model.classifier.weight", "model.classifier.bias"}
    train(scorer, batch)
    adapter.save(tmp_path, str(folder))
    assert {"base_model.model.classifier.weight", "prompt_embeddings"} <= read_adapter(tmp_path).keys()
    assert "classifier" in json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"]


def test_trained_part(model_folder: Folder) -> None:
    scorer, _, _ = adapted(model_folder("bert"), "lora", student=False)
    few = 2 * 2 * (8 * 32 + 32 * 8)  # query and value of two layers of width 32, at rank 8
    every = few + sum(parameter.numel() for parameter in load_masked_lm(str(model_folder("bert"))).parameters())
    assert trained_part(scorer) == {"trained_parameters": few, "trained_share": few / every}


def test_an_adapter_has_a_dropout_of_its_own(model_folder: Folder) -> None:
    spec: AnyAdapter = TypeAdapter(AdapterSpec).validate_python({"kind": "lora", "dropout": 0.25})
    model = load_masked_lm(str(model_folder("bert")))
    attach(model, spec)
    set_dropout(model, 0.0)
    found = {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}
    assert found == {0.0, 0.25}


@every_kind
def test_made_for_another_model(kind: str, model_folder: Folder, tmp_path: Path) -> None:
    _, adapter, _ = adapted(model_folder("bert"), kind, student=False)
    adapter.save(tmp_path, "bert")
    state = read_adapter(tmp_path)
    name = next(iter(state))
    state[name] = torch.zeros(3, 4)
    with pytest.raises(
        ModelRefused, match=r"there: the adapter was made for another model or with other options: .* is \(3, 4\)"
    ):
        adapter.put(state, "there")
    del state[name]
    with pytest.raises(ModelRefused, match="missing there"):
        adapter.put(state, "there")


def test_damaged_files(model_folder: Folder, here: Path) -> None:
    _, adapter, _ = adapted(model_folder("bert"), "lora", student=False)
    folder = here / "adapter"
    adapter.save(folder, "bert")
    whole = (folder / STATE_FILE).read_bytes()
    (folder / STATE_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelRefused, match=f"^adapter: {STATE_FILE} is missing or damaged: "):
        read_adapter(folder)
    (folder / STATE_FILE).unlink()
    with pytest.raises(ModelRefused, match=f"^adapter: {STATE_FILE} is missing or damaged: "):
        read_adapter(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelRefused, match=r"^adapter: adapter_config\.json is not valid JSON$"):
        read_adapter(folder)
