"""Soft tokens on every architecture: ids -1, -2, … are trained vectors, every other id is what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import ModelRefused
from petkit.losses import cross_entropy
from petkit.models.batch import Batch
from petkit.models.label_scorer import LabelScorer
from petkit.models.label_scorers import MultiTokenScorer, VectorScorer, WordScorer
from petkit.models.mask_reader import SoftTokens
from tests.models.masked_rows import EVERY, load, long_words, single_words

Folder = Callable[[str], Path]
GOLD = torch.tensor([0, 2, 1])
# Where the two soft tokens stand: both in the pair, before and behind its slot; one in the second row; none in the third.
PLACES = ((0, 3, -1), (0, 12, -2), (1, 5, -2))
every_architecture = pytest.mark.parametrize("arch", EVERY)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def with_soft(batch: Batch, *words: int) -> Batch:
    """Return the batch with soft tokens in it, or with ``words`` in their places."""
    ids = batch.input_ids.clone()
    for row, column, soft in PLACES:
        ids[row, column] = words[-1 - soft] if words else soft
    return batch.with_ids(ids)


def unused(tokenizer: Any, batch: Batch) -> tuple[int, int]:
    """Return two tokens that are not in the batch."""
    first, second = tokenizer.hf.convert_tokens_to_ids(["x", "z"])
    assert first != second and not torch.isin(batch.input_ids, torch.tensor([first, second])).any()
    return first, second


def say(scorer: LabelScorer, words: tuple[int, int]) -> None:
    """Let the soft tokens be two words."""
    assert scorer.soft is not None
    embeddings = scorer.reader.model.get_input_embeddings().weight
    with torch.no_grad():
        scorer.soft.vectors.copy_(embeddings[list(words)])


@every_architecture
def test_soft_token_with_a_words_embedding_is_that_word(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    words = unused(tokenizer, batch)
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    say(scorer, words)
    with torch.no_grad():
        expected, without = scorer(with_soft(batch, *words)), scorer(batch)
        found = scorer(with_soft(batch))
    close(found, expected)
    assert ((found - without).abs().amax(1) > 1e-5).tolist() == [True, True, False]


@every_architecture
@pytest.mark.parametrize("decoding", ["parallel", "max_first"])
def test_soft_tokens_beside_several_masks(arch: str, decoding: Any, masked_lm: Folder) -> None:
    """Soft tokens behind the slot move with it."""
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    words = unused(tokenizer, batch)
    scorer = MultiTokenScorer(model, long_words(tokenizer), decoding, soft_tokens=2)
    say(scorer, words)
    with torch.no_grad():
        close(scorer(with_soft(batch)), scorer(with_soft(batch, *words)), 1e-5, 1e-5)


@every_architecture
def test_each_soft_token_changes_the_rows_it_is_in(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    assert scorer.soft is not None
    soft = with_soft(batch)
    with torch.no_grad():
        for token, changed in ((0, [True, False, False]), (1, [True, True, False])):
            before = scorer(soft)
            scorer.soft.vectors[token] += torch.linspace(-1, 1, scorer.soft.vectors.shape[1])
            assert ((scorer(soft) - before).abs().amax(1) > 1e-5).tolist() == changed


@every_architecture
def test_gradients_reach_the_vectors_and_nothing_else_for_them(arch: str, masked_lm: Folder) -> None:
    """As of the words whose embeddings they have; what the words' own rows lose is what the vectors get."""
    model, tokenizer, batch = load(masked_lm(arch))
    words = unused(tokenizer, batch)
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    say(scorer, words)
    assert scorer.soft is not None
    embeddings = model.get_input_embeddings().weight

    def gradients(rows: Batch) -> dict[str, Tensor]:
        scorer.zero_grad(set_to_none=True)
        cross_entropy(scorer(rows), GOLD).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients(with_soft(batch, *words))
    found = gradients(with_soft(batch))
    assert scorer.soft.vectors.grad is not None
    assert (scorer.soft.vectors.grad.norm(dim=1) > 0).all()
    (name,) = (name for name, value in model.named_parameters() if value is embeddings)
    found[name][list(words)] += scorer.soft.vectors.grad
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert (found[key] - gradient).norm().item() <= 1e-5 * gradient.norm().item() + 1e-8, key


@every_architecture
def test_plain_rows_are_untouched(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    with torch.no_grad():
        expected = WordScorer(model, single_words(tokenizer))(batch)
        embedded = model.get_input_embeddings()(batch.input_ids)
        soft = SoftTokens(model, 2)
        assert torch.equal(model.get_input_embeddings()(batch.input_ids), embedded)
        mixed = model.get_input_embeddings()(with_soft(batch).input_ids)
    kept = with_soft(batch).input_ids >= 0
    assert torch.equal(mixed[kept], embedded[kept])
    assert torch.equal(mixed[~kept], soft.vectors[[0, 1, 1]])
    soft.detach()
    with torch.no_grad():
        assert torch.equal(WordScorer(model, single_words(tokenizer), soft_tokens=2)(batch), expected)


@every_architecture
def test_the_models_weights_stay_as_they_are(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    names, tied = list(model.state_dict()), model.get_input_embeddings().weight
    outputs = [name for name, module in model.named_modules() if getattr(module, "weight", None) is tied]
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
        own = [name for name, _ in scorer.named_parameters() if not name.startswith("reader.")]
        assert own == ["soft.vectors"]
        assert [id(value) for value in scorer.own_parameters().values()] == [id(scorer.soft.vectors)] if scorer.soft else False
        assert list(model.state_dict()) == names
        scorer(with_soft(batch))
        assert scorer.detach() is model
        assert torch.equal(model(**batch.model_inputs).logits, before)
    assert [name for name, module in model.named_modules() if getattr(module, "weight", None) is tied] == outputs
    assert not any("forward" in vars(module) for module in model.modules())


@every_architecture
def test_bfloat16_inference_is_close_to_float32(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    assert scorer.soft is not None
    device = Device("cpu", "bfloat16", 1)
    with torch.no_grad():
        expected = scorer(with_soft(batch))
    prepare_for_inference(scorer, device)
    with inference(device):
        found = scorer(with_soft(batch))
    assert scorer.soft.vectors.dtype == torch.float32 and not scorer.soft.vectors.requires_grad
    assert found.dtype == torch.float32
    spread = (expected.max() - expected.min()).item()
    assert 0 < (found - expected).abs().max().item() < 0.02 * spread


def test_they_start_as_embeddings_drawn_from_the_random_state(masked_lm: Folder) -> None:
    model, _, _ = load(masked_lm("bert"))

    def drawn(seed: int) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            soft = SoftTokens(model, 3)
        soft.detach()
        return soft.vectors.detach()

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    weight = model.get_input_embeddings().weight
    assert all((weight == vector).all(1).any() for vector in drawn(1))
    assert drawn(1).shape == (3, 32)


def test_vectors_are_copies(masked_lm: Folder) -> None:
    model, _, _ = load(masked_lm("bert"))
    weight = model.get_input_embeddings().weight
    soft, before = SoftTokens(model, 3), weight.detach().clone()
    with torch.no_grad():
        soft.vectors += 1
    assert torch.equal(weight, before)


def test_training_moves_them(masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    with torch.no_grad():
        model.get_output_embeddings().weight *= 20  # random weights hardly hear what stands beside them
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    model.requires_grad_(False)
    assert scorer.soft is not None
    optimizer = torch.optim.Adam(list(scorer.own_parameters().values()), lr=0.3)
    rows, gold = with_soft(batch), torch.tensor([0, 2, 0])
    losses = []
    for _ in range(40):
        loss = cross_entropy(scorer(rows)[:2], gold[:2])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.005


@pytest.mark.parametrize("kind", ["words", "multi", "soft"])
def test_own_state_comes_back(kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    words = single_words(tokenizer)
    makers: dict[str, Callable[[Any], LabelScorer]] = {
        "words": lambda model: WordScorer(model, words, soft_tokens=2),
        "multi": lambda model: MultiTokenScorer(model, words, soft_tokens=2),
        "soft": lambda model: VectorScorer(model, words, "soft", soft_tokens=2),
    }
    first = makers[kind](model)
    with torch.no_grad():
        expected = first(with_soft(batch))
        state = {name: value.clone() for name, value in first.own_state().items()}
        assert ("label_vectors" in state) == (kind == "soft") and state["soft_tokens"].shape == (2, 32)
        second = makers[kind](first.detach())
        assert second.soft is not None
        second.soft.vectors.zero_()
        assert not torch.allclose(second(with_soft(batch)), expected)
        second.load_own_state(state)
        assert torch.equal(second(with_soft(batch)), expected)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_state_of_another_pattern_is_refused(count: int, masked_lm: Folder) -> None:
    model, tokenizer, _ = load(masked_lm("bert"))
    scorer = WordScorer(model, single_words(tokenizer), soft_tokens=2)
    state = {"soft_tokens": torch.zeros(count, 32)} if count else {}
    with pytest.raises(ModelRefused, match="missing or made for another pattern"):
        scorer.load_own_state(state)
