"""Label logits of words of one token, and of trained label vectors, on every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import ModelRefused
from petkit.losses import cross_entropy
from petkit.models.batch import collate
from petkit.models.label_scorer import LabelScorer
from petkit.models.label_scorers import PROTOTYPE_TEMPERATURE, MultiTokenScorer, VectorScorer, WordScorer
from petkit.models.mask_reader import MaskReader
from tests.models.masked_rows import EVERY, NO_PROJECTION, load, mean_of_words, rows, single_words
from tests.tiny import ARCHITECTURES

Folder = Callable[[str], Path]
GOLD = torch.tensor([0, 2, 1])
KINDS = ("soft", "prototype")
every_architecture = pytest.mark.parametrize("arch", EVERY)
every_projection = pytest.mark.parametrize("arch", ARCHITECTURES)
SCORERS: dict[str, Callable[[Any, Any], LabelScorer]] = {
    "words": WordScorer,
    "multi": MultiTokenScorer,
    "soft": lambda model, words: VectorScorer(model, words, "soft"),
    "prototype": lambda model, words: VectorScorer(model, words, "prototype"),
}
every_scorer = pytest.mark.parametrize("kind", SCORERS)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@every_architecture
@pytest.mark.parametrize("attention", [None, "eager"])
def test_word_logits_equal_the_full_forward(arch: str, attention: str | None, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch), attention)
    words = single_words(tokenizer)
    with torch.no_grad():
        expected = mean_of_words(model, batch, words)
        found = WordScorer(model, words)(batch)
    assert found.shape == (3, 3) and found.dtype == torch.float32
    close(found, expected)
    assert expected.std() > 1e-3  # the comparison says something


@every_architecture
def test_gradients_equal_the_full_forward(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    words = single_words(tokenizer)

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        cross_entropy(logits, GOLD).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients(mean_of_words(model, batch, words))
    found = gradients(WordScorer(model, words)(batch))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm().item() <= 1e-5 * gradient.norm().item() + 1e-8, name


@every_projection
@every_scorer
def test_padding_and_row_order_change_nothing(arch: str, kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    scorer = SCORERS[kind](model, single_words(tokenizer))
    with torch.no_grad():
        together = scorer(batch)
        alone = torch.cat([scorer(collate([row], tokenizer)) for row in rows(tokenizer)])
        turned = scorer(collate(rows(tokenizer)[::-1], tokenizer))
    close(together, alone, 1e-4, 1e-5)
    close(together, turned.flip(0), 1e-4, 1e-5)


@every_scorer
def test_labels_keep_their_order(kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    words, order = single_words(tokenizer), [2, 0, 1]
    with torch.no_grad():
        scorer = SCORERS[kind](model, words)
        expected = scorer(batch)
        found = SCORERS[kind](scorer.reader, [words[index] for index in order])(batch)
    close(found, expected[:, order])


@every_architecture
def test_features_are_the_encoders_rows_at_the_mask(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    with torch.no_grad():
        hidden = model.base_model(**batch.model_inputs)[0]
        for kind in SCORERS if arch != NO_PROJECTION else ("words", "multi"):
            scorer = SCORERS[kind](model, single_words(tokenizer))
            scorer(batch)
            close(scorer.features, hidden[torch.arange(3), batch.mask_positions])
            scorer.detach()


@every_scorer
@every_projection
def test_detach_gives_the_plain_model_back(arch: str, kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch))
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        scorer = SCORERS[kind](model, single_words(tokenizer))
        scorer(batch)
        assert scorer.detach() is model
        assert torch.equal(model(**batch.model_inputs).logits, before)
    assert not any("forward" in vars(module) for module in model.modules())


@every_architecture
def test_bfloat16_inference_is_close_to_float32(arch: str, masked_lm: Folder) -> None:
    """bfloat16 has 8 bits: after two layers the logits are right to 2 % of their spread."""
    model, tokenizer, batch = load(masked_lm(arch))
    words = single_words(tokenizer)
    with torch.no_grad():
        expected = mean_of_words(model, batch, words)
    device = Device("cpu", "bfloat16", 1)
    scorer = WordScorer(model, words)
    prepare_for_inference(scorer, device)
    with inference(device):
        found = scorer(batch)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    if arch != NO_PROJECTION:
        assert not torch.equal(found, found.bfloat16().float())  # the last product and the mean are float32
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() < 0.02 * spread


@every_projection
@every_scorer
def test_preparing_for_bfloat16_spares_norms_embeddings_and_vectors(arch: str, kind: str, masked_lm: Folder) -> None:
    model, tokenizer, _ = load(masked_lm(arch))
    scorer = SCORERS[kind](model, single_words(tokenizer))
    prepare_for_inference(scorer, Device("cpu", "bfloat16", 1))
    kept = {id(value) for module in model.modules() if isinstance(module, nn.Embedding) for value in module.parameters()}
    for module in scorer.modules():
        for value in module.parameters(recurse=False):
            is_linear = isinstance(module, nn.Linear) and id(module.weight) not in kept
            assert value.dtype == (torch.bfloat16 if is_linear else torch.float32), type(module).__name__
            assert not value.requires_grad


@every_projection
@pytest.mark.parametrize("bias", [True, False])
def test_soft_label_vectors_start_as_the_label_words(arch: str, bias: bool, masked_lm: Folder) -> None:
    """A mean of products is the product with the mean, also of several words."""
    model, tokenizer, batch = load(masked_lm(arch))
    projection = model.get_output_embeddings()
    with torch.no_grad():
        projection.bias.normal_(generator=torch.Generator().manual_seed(1))
    if not bias:
        projection.bias = None
    words = single_words(tokenizer)
    with torch.no_grad():
        expected = mean_of_words(model, batch, words)
        found = VectorScorer(model, words, "soft")(batch)
    close(found, expected)


@every_projection
def test_prototypes_are_read_by_direction_only(arch: str, masked_lm: Folder) -> None:
    """By hand: the cosine of the head's last hidden row and the label's vector, over 0.1."""
    model, tokenizer, batch = load(masked_lm(arch))
    scorer = VectorScorer(model, single_words(tokenizer), "prototype")
    hidden: list[Tensor] = []
    with torch.no_grad():
        found = scorer(batch)
        scorer.reader.read(batch, torch.arange(3), batch.mask_positions, lambda rows: hidden.append(rows) or rows)
        expected = functional.cosine_similarity(hidden[0], scorer.vectors[None], dim=-1) / 0.1
        close(found, expected)
        scorer.vectors *= torch.tensor([[0.01], [1.0], [700.0]])
        close(scorer(batch), found, 1e-4, 1e-5)
    assert found.abs().max() <= 1 / PROTOTYPE_TEMPERATURE == 10


@pytest.mark.parametrize("kind", KINDS)
def test_label_vectors_and_model_are_trained(kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    scorer = VectorScorer(model, single_words(tokenizer), kind)  # type: ignore[arg-type]
    new = list(scorer.own_parameters().values())
    assert [tuple(value.shape) for value in new] == [(3, 32), (3,)][: len(new)] and len(new) == (2 if kind == "soft" else 1)
    optimizer = torch.optim.SGD(scorer.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = cross_entropy(scorer(batch), GOLD)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in new)
        assert model.get_input_embeddings().weight.grad.abs().sum() > 0
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_training_vectors_leaves_the_words_alone(kind: str, masked_lm: Folder) -> None:
    """The vectors are copies: what is learned of a label is not learned of a word, and the other way round."""
    model, tokenizer, _ = load(masked_lm("bert"))
    scorer = VectorScorer(model, single_words(tokenizer), kind)  # type: ignore[arg-type]
    weight = model.get_output_embeddings().weight
    before, vectors = weight.detach().clone(), scorer.vectors.detach().clone()
    with torch.no_grad():
        scorer.vectors += 1
        assert torch.equal(weight, before)
        weight += 1
        assert torch.equal(scorer.vectors, vectors + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_own_state_comes_back(kind: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    words = single_words(tokenizer)
    first = VectorScorer(model, words, kind)  # type: ignore[arg-type]
    with torch.no_grad():
        for value in first.own_parameters().values():
            value += torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        expected = first(batch)
        state = {name: value.clone() for name, value in first.own_state().items()}
        second = VectorScorer(first.reader, words, kind)  # type: ignore[arg-type]
        assert not torch.allclose(second(batch), expected)
        second.load_own_state(state)
        assert torch.equal(second(batch), expected)
        assert second.vectors.requires_grad
        state["label_vectors"].zero_()  # what was given is copied
        assert torch.equal(second(batch), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: {"label_vectors": state["label_vectors"]},
        lambda state: {**state, "label_vectors": state["label_vectors"][:2]},
        lambda state: {**state, "label_vectors": state["label_vectors"].T},
        lambda state: {**state, "soft_tokens": torch.zeros(2, 32)},
    ],
)
def test_foreign_state_is_refused(change: Any, masked_lm: Folder) -> None:
    model, tokenizer, _ = load(masked_lm("bert"))
    scorer = VectorScorer(model, single_words(tokenizer), "soft")
    before = {name: value.clone() for name, value in scorer.own_state().items()}
    with pytest.raises(ModelRefused, match="missing or made for another pattern"):
        scorer.load_own_state(change(dict(before)))
    assert all(torch.equal(value, before[name]) for name, value in scorer.own_state().items())


def test_words_have_nothing_of_their_own(masked_lm: Folder) -> None:
    model, tokenizer, _ = load(masked_lm("bert"))
    for kind in ("words", "multi"):
        scorer = SCORERS[kind](model, single_words(tokenizer))
        assert scorer.own_state() == {} and scorer.own_parameters() == {}
        scorer.load_own_state({})
        assert set(scorer.parameters()) == set(model.parameters())
        scorer.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_label_vectors_need_output_vectors(kind: str, masked_lm: Folder) -> None:
    model, tokenizer, _ = load(masked_lm(NO_PROJECTION))
    with pytest.raises(ModelRefused, match=r"a 'deberta-v2' model has no output vectors .* \(use kind: words\)"):
        VectorScorer(model, single_words(tokenizer), kind)  # type: ignore[arg-type]


def test_two_scorers_share_one_reader(masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"))
    words = single_words(tokenizer)
    first = WordScorer(MaskReader(model), words)
    second = MultiTokenScorer(first.reader, words[1:])
    assert second.reader is first.reader
    with torch.no_grad():
        expected = mean_of_words(model, batch, words)
        close(first(batch), expected)
        second(batch)
        close(first(batch), expected)
    assert first.detach() is model
