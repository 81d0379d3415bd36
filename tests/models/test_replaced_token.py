"""Discriminators: every label word in the slot of every row, one by one through the plain model, and what a checkpoint offers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from petkit.errors import ModelRefused
from petkit.models.architectures import scoring_of
from petkit.models.batch import collate
from petkit.models.label_scorer import TokenIds
from petkit.models.loading import load_config, load_language_model, load_masked_lm, load_tokenizer, scoring_by
from petkit.models.mask_reader import MaskReader
from petkit.models.replaced_token import ReplacedTokenScorer, is_discriminator
from petkit.models.safety.probe import check_reading
from petkit.prompts.tokenizer import PieceTokenizer
from tests.models.masked_rows import learned, long_words, rows, single_words, with_tokens
from tests.tiny import DISCRIMINATOR

Folder = Callable[[str], Path]
WORDS = {"one token": (single_words, 1), "several tokens": (long_words, 3)}


def one_by_one(folder: Path, tokenizer: PieceTokenizer, words: TokenIds, masks: int) -> Tensor:
    """Fill each word of each label into each row, read it with the plain model, and average, shape ``(rows, labels)``."""
    model = load_language_model(str(folder))
    answers = []
    for row in rows(tokenizer, masks):
        labels = []
        for label in words:
            scores = []
            for word in label:
                filled = collate([with_tokens(row, word)], tokenizer)
                with torch.no_grad():
                    replaced = model(**filled.model_inputs).logits[0]  # (length,)
                scores.append(-replaced[row.mask : row.mask + len(word)].mean())
            labels.append(torch.stack(scores).mean())
        answers.append(torch.stack(labels))
    return torch.stack(answers)


@pytest.mark.parametrize("kind", WORDS)
def test_logits_are_those_of_one_word_at_a_time(kind: str, model_folder: Folder) -> None:
    make, masks = WORDS[kind]
    folder = model_folder(DISCRIMINATOR)
    tokenizer = load_tokenizer(str(folder))
    scorer = ReplacedTokenScorer(load_language_model(str(folder)), make(tokenizer))
    with torch.no_grad():
        found = scorer(collate(rows(tokenizer, masks), tokenizer))

    expected = one_by_one(folder, tokenizer, make(tokenizer), masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 1e-3 and scorer.features.shape == (3, 32)


@pytest.mark.parametrize("kind", WORDS)
def test_it_learns(kind: str, model_folder: Folder) -> None:
    make, masks = WORDS[kind]
    folder = str(model_folder(DISCRIMINATOR))
    tokenizer = load_tokenizer(folder)
    scorer = ReplacedTokenScorer(load_language_model(folder), make(tokenizer))

    answers = learned(scorer, collate(rows(tokenizer, masks), tokenizer), torch.tensor([0, 2, 1]))
    assert answers.argmax(1).tolist() == [0, 2, 1]


def test_gradients_are_those_of_one_word_at_a_time(model_folder: Folder) -> None:
    folder = str(model_folder(DISCRIMINATOR))
    tokenizer = load_tokenizer(folder)
    words, targets = single_words(tokenizer), functional.one_hot(torch.tensor([0, 2, 1]), 3).float()
    model = load_language_model(folder)
    plain = []
    for row in rows(tokenizer):
        filled = [[collate([with_tokens(row, word)], tokenizer) for word in label] for label in words]
        scores = [[-model(**batch.model_inputs).logits[0, row.mask] for batch in label] for label in filled]
        plain.append(torch.stack([torch.stack(label).mean() for label in scores]))
    functional.binary_cross_entropy_with_logits(torch.stack(plain), targets).backward()
    expected = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    scorer = ReplacedTokenScorer(load_language_model(folder), words)
    functional.binary_cross_entropy_with_logits(scorer(collate(rows(tokenizer), tokenizer)), targets).backward()
    found = {name: value.grad for name, value in scorer.reader.model.named_parameters() if value.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_checkpoint_says_how_it_answers(model_folder: Folder) -> None:
    folder = str(model_folder(DISCRIMINATOR))
    check_reading(load_language_model(folder), "tiny")

    assert scoring_by(folder) == "replaced_token" and scoring_by(str(model_folder("electra"))) == "mask"
    assert scoring_by(str(model_folder("gpt2"))) == "next_token" and scoring_by("embedded") == "mask"
    assert is_discriminator(load_language_model(folder)) and not is_discriminator(load_masked_lm(str(model_folder("electra"))))
    with pytest.raises(ModelRefused, match="no masked-LM head"):
        load_masked_lm(folder)


def test_checkpoint_with_both_heads_is_asked_for_one(model_folder: Folder, here: Path) -> None:
    folder = Path(shutil.copytree(model_folder("electra"), here / "both"))
    heads = {
        name: value for name, value in load_file(model_folder(DISCRIMINATOR) / "model.safetensors").items() if "discrim" in name
    }
    save_file({**load_file(folder / "model.safetensors"), **heads}, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(ModelRefused, match=r"choose with teachers\.scoring: mask or replaced_token"):
        load_language_model(str(folder))
    assert is_discriminator(load_language_model(str(folder), scoring="replaced_token"))
    assert not is_discriminator(load_language_model(str(folder), scoring="mask"))


@pytest.mark.parametrize(
    ("arch", "wanted", "why"),
    [
        ("bert", "replaced_token", "no discriminator head"),
        ("bert", "next_token", "is not a causal one"),
        ("gpt2", "mask", "predicts the next token"),
        ("gpt2", "replaced_token", "predicts the next token"),
    ],
)
def test_what_a_model_cannot_do_is_refused(arch: str, wanted: str, why: str, model_folder: Folder) -> None:
    with pytest.raises(ModelRefused, match=why):
        scoring_by(str(model_folder(arch)), wanted)  # type: ignore[arg-type]


def test_head_that_transformers_has_no_class_for(model_folder: Folder) -> None:
    """DeBERTa-v3's checkpoints have one."""
    weights = ["deberta.embeddings.word_embeddings.weight", "mask_predictions.dense.weight", "lm_predictions.lm_head.bias"]
    config = load_config(str(model_folder("deberta-v2")))

    with pytest.raises(ModelRefused, match="transformers has no class for the discriminator head of a 'deberta-v2' model"):
        scoring_of(config, weights, "replaced_token", "deberta")


def test_scorers_of_one_reader_share_the_model(model_folder: Folder) -> None:
    folder = str(model_folder(DISCRIMINATOR))
    tokenizer = load_tokenizer(folder)
    reader, batch = MaskReader(load_language_model(folder)), collate(rows(tokenizer), tokenizer)
    with torch.no_grad():
        both = [ReplacedTokenScorer(reader, single_words(tokenizer))(batch) for _ in range(2)]

    assert torch.equal(*both)
