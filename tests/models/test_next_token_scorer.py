"""Label words after a row, beside a slow reader in float64: one row, one word, plain logits shifted by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.engine.inference import label_logits
from petkit.engine.training_loop import set_dropout
from petkit.errors import ModelRefused
from petkit.losses import cross_entropy
from petkit.models.batch import Batch, collate
from petkit.models.label_scorer import TokenIds
from petkit.models.label_scorers import NextTokenScorer, VectorScorer, WordScorer
from petkit.models.loading import load_language_model, longest_input
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer
from tests.models.masked_rows import learned
from tests.models.open_rows import loaded, rows, words_of
from tests.tiny import CAUSAL, MAX_LENGTH, tiny_model_folder

Folder = Callable[[str], Path]
GOLD = torch.tensor([0, 2, 1])
every_architecture = pytest.mark.parametrize("arch", sorted(CAUSAL))


def word_loss(model: Any, row: Encoded, word: Sequence[int]) -> Tensor:
    """Return the cross-entropy of a word after one row as every tutorial computes it, shape ``()``."""
    ids = torch.tensor([[*row.ids.tolist(), *word]])
    labels = ids.clone()
    labels[:, : len(row.ids)] = -100
    logits = model(input_ids=ids).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def slowly(model: Any, tokenizer: PieceTokenizer, words: TokenIds) -> Tensor:
    """Return label logits, shape ``(rows, labels)``."""
    answers = [[[-word_loss(model, row, word) for word in label] for label in words] for row in rows(tokenizer)]
    return torch.stack([torch.stack([torch.stack(label).mean() for label in row]) for row in answers])


def close(found: Tensor, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=atol)


@every_architecture
@pytest.mark.parametrize("several", [False, True])
def test_scores_equal_the_slow_readers(arch: str, several: bool, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    words = words_of(tokenizer)[several]
    with torch.no_grad():
        found = NextTokenScorer(model, words)(batch)
        expected = slowly(load_language_model(str(model_folder(arch))).double(), tokenizer, words)
    assert found.shape == (3, 3) and found.dtype == torch.float32 and (found < 0).all()
    close(found, expected)
    assert expected.std() > 1e-2  # the comparison says something


@every_architecture
def test_words_of_one_token_are_the_logits_at_the_rows_end(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    words, _ = words_of(tokenizer)
    plain = load_language_model(str(model_folder(arch))).double()
    with torch.no_grad():
        logits = torch.stack([plain(input_ids=torch.tensor([row.ids.tolist()])).logits[0, -1] for row in rows(tokenizer)])
        scorer = WordScorer(model, words)
        found, normalised = scorer(batch), NextTokenScorer(scorer.reader, words)(batch)
    close(found, torch.stack([logits[:, [word[0] for word in label]].mean(1) for label in words], dim=1))
    close(found - normalised, logits.logsumexp(-1, keepdim=True).expand(3, 3))


@every_architecture
@pytest.mark.parametrize("several", [False, True])
def test_padding_and_company_change_nothing(arch: str, several: bool, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    words = words_of(tokenizer)
    scorer = NextTokenScorer(model, words[1]) if several else WordScorer(model, words[0])
    with torch.no_grad():
        together = scorer(batch)
        alone = torch.cat([scorer(collate([row], tokenizer)) for row in rows(tokenizer)])
        other = batch.with_ids(torch.where(batch.attention_mask > 0, batch.input_ids, 7))  # what stands in the padding
        close(together, alone)
        close(together, scorer(other))


@every_architecture
def test_gradients_equal_the_slow_readers(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    _, words = words_of(tokenizer)

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        cross_entropy(logits, GOLD).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients(slowly(model, tokenizer, words))
    set_dropout(model, 0.0)
    found = gradients(NextTokenScorer(model, words).train()(batch))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm().item() <= 1e-4 * gradient.norm().item() + 1e-7, name


def test_words_that_begin_alike_share_a_copy(model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder("gpt2"))
    one, several = words_of(tokenizer)
    seen: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda layer, args: seen.append(tuple(args[0].shape)))
    with torch.no_grad():
        first = NextTokenScorer(model, one)
        first(batch)
        second = NextTokenScorer(first.reader, several)
        second(batch)
    # Beginnings (good), (bad), (world, news), (world, game); those of one token need none.
    assert (first.copies, second.copies) == (1, 4)
    assert seen == [(3, 24), (12, 26)]


@every_architecture
@pytest.mark.parametrize("several", [False, True])
def test_features_are_the_hidden_rows_before_the_slot(arch: str, several: bool, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    words = words_of(tokenizer)
    with torch.no_grad():
        expected = model.base_model(**batch.model_inputs)[0][torch.arange(3), batch.mask_positions]
        scorer = NextTokenScorer(model, words[1]) if several else WordScorer(model, words[0])
        scorer(batch)
    close(scorer.features, expected)


@every_architecture
def test_detach_gives_the_plain_model_back(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    with torch.no_grad():
        before = model(**batch.model_inputs).logits
        scorer = NextTokenScorer(model, words_of(tokenizer)[1])
        scorer(batch)
        assert scorer.detach() is model
        assert torch.equal(model(**batch.model_inputs).logits, before)


@every_architecture
def test_soft_and_prototype_vectors_answer_at_the_rows_end(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    words, _ = words_of(tokenizer)
    with torch.no_grad():
        scorer = WordScorer(model, words)
        close(VectorScorer(scorer.reader, words, "soft")(batch), scorer(batch))  # untrained: the words themselves
        assert VectorScorer(scorer.reader, words, "prototype")(batch).abs().max() <= 10


@every_architecture
def test_bfloat16_is_close_to_float32(arch: str, model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder(arch))
    scorer = NextTokenScorer(model, words_of(tokenizer)[1])
    device = Device("cpu", "bfloat16", 1)
    with torch.no_grad():
        expected = scorer(batch)
    prepare_for_inference(scorer, device)
    with inference(device):
        found = scorer(batch)
    assert found.dtype == torch.float32
    close(found, expected, 0.0, 0.25)


def test_many_rows_in_small_batches(model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder("llama"))
    scorer = NextTokenScorer(model, words_of(tokenizer)[1])
    with torch.no_grad():
        expected = scorer(batch)
    for budget in (1, 200, 10_000):
        found = label_logits(scorer, rows(tokenizer) * 4, tokenizer, Device("cpu", "float32", 1), budget)
        close(torch.from_numpy(found), expected.repeat(4, 1))


def test_training_raises_the_right_words(model_folder: Folder) -> None:
    model, tokenizer, batch = loaded(model_folder("qwen2"))
    scorer = NextTokenScorer(model, words_of(tokenizer)[1]).train()
    set_dropout(model, 0.0)
    assert learned(scorer, batch, GOLD).argmax(1).tolist() == GOLD.tolist()


def test_appended_tokens_follow_each_row() -> None:
    ids, attention = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    made = Batch(ids, attention, None, torch.tensor([2, 0]), 0).appended([[1], [2, 3]], 2)
    assert made.input_ids.tolist() == [[5, 6, 7, 1, 0], [8, 2, 3, 0, 0]]
    assert made.attention_mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]


# -- what is loaded, and what is not -----------------------------------------------------------------


@every_architecture
def test_longest_input(arch: str, model_folder: Folder) -> None:
    model, tokenizer, _ = loaded(model_folder(arch))
    assert longest_input(model.config, tokenizer) == MAX_LENGTH
    assert tokenizer.causal and tokenizer.mask_id == -1 and tokenizer.hf.padding_side == "right"


def test_checkpoint_without_a_head_is_refused(tmp_path: Path) -> None:
    model = load_language_model(str(tiny_model_folder("llama", tmp_path)))
    model.base_model.save_pretrained(tmp_path)
    with pytest.raises(ModelRefused, match=r"no language-model head: lm_head.weight is missing"):
        load_language_model(str(tmp_path))


def test_models_that_look_ahead_are_refused(tmp_path: Path) -> None:
    """Transformers calls XLNet a causal language model; without a mask of its own it reads both ways."""
    from transformers import XLNetConfig, XLNetLMHeadModel

    XLNetLMHeadModel(XLNetConfig(vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=16)).save_pretrained(tmp_path)
    with pytest.raises(ModelRefused, match=r"a 'xlnet' model looks at later tokens \(use one that reads from left to right"):
        load_language_model(str(tmp_path))
