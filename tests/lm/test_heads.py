"""The label scorer on every architecture: the same numbers and gradients as the full forward pass, at a fraction of its size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from petkit.lm.arithmetic import Arithmetic, inference, prepare_for_inference
from petkit.lm.backbone import load_masked_lm, load_tokenizer
from petkit.lm.batching import Batch, collate
from petkit.lm.heads import LabelScorer
from petkit.lm.losses import cross_entropy
from petkit.task.pattern import Encoded
from petkit.task.tokenization import PieceTokenizer
from tests.tiny import ARCHITECTURES, WORDS

Folder = Callable[[str], Path]
LONGEST = 19
WIDTH = 24  # as batches are padded; no other dimension of the tiny models
GOLD = torch.tensor([0, 2, 1])
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES)


def rows(tokenizer: PieceTokenizer) -> list[Encoded]:
    """Three rows of different lengths, the mask at the start, in the middle and last but one; the first is a pair."""
    filler = [tokens[0] for tokens in tokenizer.encode([word for word in WORDS if len(word) > 1])]

    def row(length: int, mask: int, second: int | None = None) -> Encoded:
        ids = np.resize(np.array(filler, np.int32), length)
        ids[0], ids[-1], ids[mask] = tokenizer.hf.cls_token_id, tokenizer.hf.sep_token_id, tokenizer.mask_id
        return Encoded(ids, length if second is None else second, mask)

    return [row(LONGEST, 7, second=11), row(8, 1), row(13, 11)]


def label_ids(tokenizer: PieceTokenizer) -> list[list[int]]:
    """Three labels with two, one and three words."""
    one, two, three, four, five, six = (
        tokens[0] for tokens in tokenizer.encode(["good", "great", "bad", "world", "news", "game"])
    )
    return [[one, two], [three], [four, five, six]]


def full_forward(model: Any, batch: Batch, labels: list[list[int]]) -> Tensor:
    """Every position times the whole vocabulary; then the mask's row and the words' columns."""
    logits = model(**batch.model_inputs).logits  # (batch, length, vocabulary)
    at_mask = logits[torch.arange(len(logits)), batch.mask_positions]
    return torch.stack([at_mask[:, words].mean(1) for words in labels], dim=1)


def load(folder: Path, attention: str | None = None) -> tuple[Any, PieceTokenizer, Batch, list[list[int]]]:
    tokenizer = load_tokenizer(str(folder))
    return load_masked_lm(str(folder), attention), tokenizer, collate(rows(tokenizer), tokenizer), label_ids(tokenizer)


@every_architecture
@pytest.mark.parametrize("attention", [None, "eager"])
def test_logits_equal_the_full_forward(arch: str, attention: str | None, model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder(arch), attention)
    with torch.no_grad():
        expected = full_forward(model, batch, labels)
        found = LabelScorer(model, labels)(batch)
    assert found.shape == (3, 3) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 1e-3  # the comparison says something


@every_architecture
def test_padding_and_row_order_change_nothing(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch, labels = load(model_folder(arch))
    scorer = LabelScorer(model, labels)
    with torch.no_grad():
        together = scorer(batch)
        alone = torch.cat([scorer(collate([row], tokenizer)) for row in rows(tokenizer)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_architecture
def test_gradients_equal_the_full_forward(arch: str, model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder(arch))

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        cross_entropy(logits, GOLD).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients(full_forward(model, batch, labels))
    found = gradients(LabelScorer(model, labels)(batch))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm().item() <= 1e-5 * gradient.norm().item() + 1e-8, name


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
def test_no_position_but_the_mask_meets_the_vocabulary(arch: str, model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder(arch))
    vocabulary = model.config.vocab_size
    with Shapes() as plain:
        full_forward(model, batch, labels).sum().backward()
    assert plain.per_position(vocabulary)
    scorer = LabelScorer(model, labels)
    with Shapes() as scored:
        scorer(batch).sum().backward()
    assert not scored.per_position(vocabulary)
    assert not [shape for shape in scored.seen if shape in ((3, vocabulary), (3, 1, vocabulary))]  # columns only


@every_architecture
def test_detach_gives_the_plain_model_back(arch: str, model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder(arch))
    keys = list(model.state_dict())
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        scorer = LabelScorer(model, labels)
        first = scorer(batch)
        assert scorer.detach() is model and not model.base_model._forward_hooks
        assert torch.equal(model(**batch.model_inputs).logits, before)
        assert list(model.state_dict()) == keys
        again = LabelScorer(model, labels)
        assert torch.equal(again(batch), first)


def test_a_failing_forward_leaves_no_positions_behind(model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder("bert"))
    scorer = LabelScorer(model, labels)
    wrong = Batch(batch.input_ids[:, :5], batch.attention_mask, batch.token_type_ids, batch.mask_positions)
    with pytest.raises((RuntimeError, ValueError)):
        scorer(wrong)
    hidden = model.base_model(**batch.model_inputs).last_hidden_state
    assert hidden.shape[1] == WIDTH


def test_labels_keep_their_order(model_folder: Folder) -> None:
    model, _, batch, labels = load(model_folder("bert"))
    order = [2, 0, 1]
    with torch.no_grad():
        expected = full_forward(model, batch, labels)
        found = LabelScorer(model, [labels[index] for index in order])(batch)
    torch.testing.assert_close(found, expected[:, order], rtol=1e-5, atol=1e-6)


def test_a_head_that_does_not_end_in_the_vocabulary_is_read_afterwards(model_folder: Folder, tmp_path: Path) -> None:
    """The newer head of DeBERTa-v2 gives its hidden layer as output embeddings."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(model_folder("deberta-v2"), legacy=False)
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(model_folder("deberta-v2")))
    model, batch, labels = load_masked_lm(str(tmp_path)), collate(rows(tokenizer), tokenizer), label_ids(tokenizer)
    with torch.no_grad():
        expected = full_forward(model, batch, labels)
        found = LabelScorer(model, labels)(batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@every_architecture
def test_bfloat16_inference_is_close_to_float32(arch: str, model_folder: Folder) -> None:
    """bfloat16 has 8 bits: after two layers the logits are right to 2 % of their spread."""
    model, _, batch, labels = load(model_folder(arch))
    with torch.no_grad():
        expected = full_forward(model, batch, labels)
    arithmetic = Arithmetic("cpu", "bfloat16", 1)
    scorer = LabelScorer(model, labels)
    prepare_for_inference(scorer, arithmetic)
    with inference(arithmetic):
        found = scorer(batch)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert not torch.equal(found, found.bfloat16().float())  # the last product and the mean are float32
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() < 0.02 * spread


@every_architecture
def test_preparing_for_bfloat16_spares_norms_and_embeddings(arch: str, model_folder: Folder) -> None:
    model, _, _, labels = load(model_folder(arch))
    prepare_for_inference(LabelScorer(model, labels), Arithmetic("cpu", "bfloat16", 1))
    kept = {id(value) for module in model.modules() if isinstance(module, nn.Embedding) for value in module.parameters()}
    for module in model.modules():
        for value in module.parameters(recurse=False):
            is_linear = isinstance(module, nn.Linear) and id(module.weight) not in kept
            assert value.dtype == (torch.bfloat16 if is_linear else torch.float32), type(module).__name__
            assert not value.requires_grad
