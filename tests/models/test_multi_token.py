"""Label words of several tokens, beside a slow reader: one row, one word, one full forward of a plain model at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.engine.training_loop import set_dropout
from petkit.losses import cross_entropy
from petkit.models import label_scorers as label_scorer
from petkit.models.batch import collate
from petkit.models.label_scorer import TokenIds
from petkit.models.label_scorers import MultiTokenScorer, WordScorer
from petkit.models.loading import load_masked_lm
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer
from tests.models.masked_rows import EVERY, learned, load, long_words, rows, single_words, with_tokens

Folder = Callable[[str], Path]
GOLD = torch.tensor([0, 2, 1])
DECODINGS = ("parallel", "max_first")
SHARPER = 20.0  # random weights are nearly indifferent; sharper logits make the order of filling in matter
every_architecture = pytest.mark.parametrize("arch", EVERY)
every_decoding = pytest.mark.parametrize("decoding", DECODINGS)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def read(model: Any, tokenizer: PieceTokenizer, row: Encoded) -> Tensor:
    """Return the log-probabilities of the whole vocabulary in the slot of one row, shape ``(masks, vocabulary)``."""
    logits = model(**collate([row], tokenizer).model_inputs).logits[0]  # (length, vocabulary)
    return logits.log_softmax(-1)[row.mask : row.mask + row.masks]


def at_once(model: Any, tokenizer: PieceTokenizer, row: Encoded, word: Sequence[int]) -> Tensor:
    """Return the log-probability of each token, all of them masked, shape ``(tokens,)``."""
    log_probs = read(model, tokenizer, with_tokens(row, [tokenizer.mask_id] * len(word)))
    return torch.stack([log_probs[place, token] for place, token in enumerate(word)])


def surest_first(model: Any, tokenizer: PieceTokenizer, row: Encoded, word: Sequence[int]) -> tuple[float, list[int]]:
    """Return the sum of log-probabilities and the order in which the tokens are filled in."""
    slot, order, total = [tokenizer.mask_id] * len(word), [], 0.0
    while len(order) < len(word):
        log_probs = read(model, tokenizer, with_tokens(row, slot))
        left = [place for place in range(len(word)) if place not in order]
        best = max(left, key=lambda place: log_probs[place, word[place]].item())
        total += log_probs[best, word[best]].item()
        slot[best] = word[best]
        order.append(best)
    return total, order


def slowly(score: Callable[..., Any], model: Any, tokenizer: PieceTokenizer, words: TokenIds, masks: int = 3) -> Tensor:
    """Return label logits, shape ``(rows, labels)``: the mean over the words of what ``score`` says."""
    with torch.no_grad():
        return torch.tensor(
            [
                [np.mean([float(score(model, tokenizer, row, word)) for word in label]) for label in words]
                for row in rows(tokenizer, masks)
            ],
            dtype=torch.float32,
        )


def sharp(folder: Path) -> Any:
    """Load a model whose answers differ: its embeddings, and so its output vectors, are larger."""
    model = load_masked_lm(str(folder))
    with torch.no_grad():
        model.get_input_embeddings().weight *= SHARPER
    return model


@every_architecture
def test_parallel_equals_the_slow_reader(arch: str, masked_lm: Folder) -> None:
    _, tokenizer, batch = load(masked_lm(arch), masks=3)
    model, words = sharp(masked_lm(arch)), long_words(tokenizer)
    expected = slowly(lambda *args: at_once(*args).mean(), model, tokenizer, words)
    with torch.no_grad():
        found = MultiTokenScorer(model, words)(batch)
    assert found.shape == (3, 3) and found.dtype == torch.float32 and (found < 0).all()
    close(found, expected)
    assert expected.std() > 1e-2  # the comparison says something


@every_architecture
def test_max_first_equals_the_slow_reader(arch: str, masked_lm: Folder) -> None:
    _, tokenizer, batch = load(masked_lm(arch), masks=3)
    model, words = sharp(masked_lm(arch)), long_words(tokenizer)
    expected = slowly(lambda *args: surest_first(*args)[0], model, tokenizer, words)
    together = slowly(lambda *args: at_once(*args).sum(), model, tokenizer, words)
    found = MultiTokenScorer(model, words, "max_first")(batch)
    close(found, expected, 1e-5, 1e-4)
    assert (expected - together).abs().max() > 1e-3  # reading again makes a difference
    assert not found.requires_grad


def test_rows_are_filled_in_different_orders(masked_lm: Folder) -> None:
    """Otherwise the test above would not see a scorer that fills from left to right."""
    model, tokenizer, _ = load(masked_lm("bert"), masks=3)
    model = sharp(masked_lm("bert"))
    with torch.no_grad():
        orders = {
            tuple(surest_first(model, tokenizer, row, word)[1])
            for row in rows(tokenizer, 3)
            for label in long_words(tokenizer)
            for word in label
            if len(word) == 3
        } | {(0, 1, 2)}
    assert len(orders) > 1


@every_architecture
def test_in_training_max_first_reads_all_at_once(arch: str, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    words = long_words(tokenizer)
    expected = slowly(lambda *args: at_once(*args).sum(), model, tokenizer, words)
    set_dropout(model, 0.0)
    found = MultiTokenScorer(model, words, "max_first").train()(batch)
    close(found.detach(), expected)
    assert found.requires_grad


@every_architecture
@every_decoding
def test_gradients_equal_the_slow_readers(arch: str, decoding: Any, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    words = long_words(tokenizer)

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        cross_entropy(logits, GOLD).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    def logit(row: Encoded, label: Sequence[Sequence[int]]) -> Tensor:
        parts = [at_once(model, tokenizer, row, word) for word in label]
        return torch.stack([part.mean() if decoding == "parallel" else part.sum() for part in parts]).mean()

    slow = torch.stack([torch.stack([logit(row, label) for label in words]) for row in rows(tokenizer, 3)])
    expected = gradients(slow)
    set_dropout(model, 0.0)
    found = gradients(MultiTokenScorer(model, words, decoding).train()(batch))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm().item() <= 1e-4 * gradient.norm().item() + 1e-7, name


@every_architecture
@every_decoding
def test_padding_and_row_order_change_nothing(arch: str, decoding: Any, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
    with torch.no_grad():
        together = scorer(batch)
        alone = torch.cat([scorer(collate([row], tokenizer)) for row in rows(tokenizer, 3)])
        turned = scorer(collate(rows(tokenizer, 3)[::-1], tokenizer))
    close(together, alone, 1e-4)
    close(together, turned.flip(0), 1e-4)


@every_architecture
def test_words_of_one_token_differ_from_logits_by_a_constant_per_row(arch: str, masked_lm: Folder) -> None:
    """The constant is the logarithm of the softmax's denominator."""
    model, tokenizer, batch = load(masked_lm(arch))
    words = single_words(tokenizer)
    with torch.no_grad():
        logits = model(**batch.model_inputs).logits[torch.arange(3), batch.mask_positions]
        plain = WordScorer(model, words)
        difference = plain(batch) - MultiTokenScorer(plain.reader, words)(batch)
    close(difference, logits.logsumexp(-1, keepdim=True).expand(3, 3))


@every_decoding
@pytest.mark.parametrize("words", [[[[7]], [[8, 9]]], [[[7, 8]], [[8, 9]]], [[[7, 8, 9]], [[9]]], [[[7, 7]], [[8, 8]]]])
def test_lengths_of_every_kind(decoding: Any, words: TokenIds, masked_lm: Folder) -> None:
    masks = max(len(word) for label in words for word in label)
    model, tokenizer, batch = load(masked_lm("bert"), masks=masks)
    score = {"parallel": lambda *args: at_once(*args).mean(), "max_first": lambda *args: surest_first(*args)[0]}[decoding]
    expected = slowly(score, model, tokenizer, words, masks)
    close(MultiTokenScorer(model, words, decoding)(batch).detach(), expected)


@every_decoding
def test_labels_keep_their_order(decoding: Any, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"), masks=3)
    words, order = long_words(tokenizer), [2, 0, 1]
    first = MultiTokenScorer(model, words, decoding)
    with torch.no_grad():
        expected = first(batch)[:, order]
        close(MultiTokenScorer(first.reader, [words[index] for index in order], decoding)(batch), expected)


@pytest.mark.parametrize(
    ("decoding", "passes"),
    [("parallel", 1), ("max_first", 1 + 1 + 1 + 2 + 1)],  # words of 1, 2, 2, 1, 3 and 2 tokens; the first pass is shared
)
def test_number_of_forward_passes(decoding: Any, passes: int, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"), masks=3)
    calls: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda layer, args: calls.append(tuple(args[0].shape)))
    scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
    with torch.no_grad():
        scorer(batch)
    assert calls == [(3 * 3, 24), *[(3, 24)] * (passes - 1)]
    assert scorer.copies == 3


@every_decoding
def test_normalising_in_pieces_changes_nothing(decoding: Any, masked_lm: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, batch = load(masked_lm("bert"), masks=3)
    scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
    with torch.no_grad():
        expected = scorer(batch)
        for at_once in (1, model.config.vocab_size * 5):
            monkeypatch.setattr(label_scorer, "VOCABULARY_LOGITS_AT_ONCE", at_once)
            close(scorer(batch), expected)


@every_architecture
@every_decoding
def test_features_are_the_encoders_rows_at_the_first_mask(arch: str, decoding: Any, masked_lm: Folder) -> None:
    """Those of the row as it was encoded, with all of its masks."""
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    with torch.no_grad():
        expected = model.base_model(**batch.model_inputs)[0][torch.arange(3), batch.mask_positions]
        scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
        scorer(batch)
    close(scorer.features, expected)


@every_architecture
@every_decoding
def test_detach_gives_the_plain_model_back(arch: str, decoding: Any, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
        scorer(batch)
        assert scorer.detach() is model
        assert torch.equal(model(**batch.model_inputs).logits, before)


@every_architecture
@every_decoding
def test_bfloat16_inference_is_close_to_float32(arch: str, decoding: Any, masked_lm: Folder) -> None:
    """Log-probabilities of about -5 in 8 bits, before the mean and the sum, which are float32."""
    model, tokenizer, batch = load(masked_lm(arch), masks=3)
    words, device = long_words(tokenizer), Device("cpu", "bfloat16", 1)
    scorer = MultiTokenScorer(model, words, decoding)
    with torch.no_grad():
        expected = scorer(batch)
    prepare_for_inference(scorer, device)
    with inference(device):
        found = scorer(batch)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    close(found, expected, 0.0, 0.05)


def test_training_raises_the_right_words(masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"), masks=3)
    scorer = MultiTokenScorer(model, long_words(tokenizer)).train()
    set_dropout(model, 0.0)
    assert learned(scorer, batch, GOLD).argmax(1).tolist() == GOLD.tolist()


@every_decoding
@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_copies_count_in_the_budget_of_a_batch(decoding: Any, budget: int, masked_lm: Folder) -> None:
    model, tokenizer, batch = load(masked_lm("bert"), masks=3)
    scorer = MultiTokenScorer(model, long_words(tokenizer), decoding)
    seen: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda layer, args: seen.append(args[0].numel()))
    with torch.no_grad():
        expected = scorer(batch)
    seen.clear()
    many = rows(tokenizer, 3) * 5
    found = label_logits(scorer, many, tokenizer, Device("cpu", "float32", 1), budget)
    close(torch.from_numpy(found), expected.repeat(5, 1), 1e-4)
    assert max(seen) <= max(budget, 3 * 24)
