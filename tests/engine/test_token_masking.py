"""What is hidden of a text: how much, where, behind what, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from petkit.engine.token_masking import TokenMasking, hide_tokens
from petkit.losses import masked_lm
from petkit.models.batch import Batch, collate
from petkit.models.loading import load_masked_lm, load_tokenizer
from petkit.models.mask_reader import MaskReader
from petkit.prompts.pattern import CompiledPattern, Encoded, Pattern
from petkit.prompts.tokenizer import PieceTokenizer
from tests.tiny import ARCHITECTURES, KINDS, pieces

MASK = 4
WORDS = np.arange(100, 200)


class Hidden(NamedTuple):
    input_ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    targets: np.ndarray


def hide(ids: np.ndarray, share: float = 0.15, seed: int = 0, replacements: np.ndarray | None = WORDS) -> Hidden:
    """Hide tokens; ids from 10 on are maskable."""
    return Hidden(*hide_tokens(ids, ids >= 10, share, MASK, np.random.default_rng(seed), replacements))


def counts(hidden: Hidden) -> list[int]:
    return np.bincount(hidden.rows, minlength=len(hidden.input_ids)).tolist()


# -- hide_tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maskable", "share", "expected"),
    [
        (0, 0.15, 0),
        (7, 0.0, 0),
        (1, 0.15, 1),
        (3, 0.15, 1),
        (9, 0.15, 1),
        (10, 0.15, 2),
        (20, 0.15, 3),
        (4, 0.5, 2),
        (5, 1.0, 5),
        (7, 0.99, 7),
    ],
)
def test_share_is_of_the_maskable_tokens_rounded_and_at_least_one(maskable: int, share: float, expected: int) -> None:
    ids = np.full((1, 24), 2)
    ids[0, 3 : 3 + maskable] = 10 + np.arange(maskable)
    hidden = hide(ids, share)
    assert counts(hidden) == [expected]
    assert ((hidden.columns >= 3) & (hidden.columns < 3 + maskable)).all() and len(set(hidden.columns)) == expected


def test_every_row_has_its_own_share() -> None:
    ids = np.full((4, 40), 2)
    for row, maskable in enumerate((40, 20, 0, 2)):
        ids[row, :maskable] = 10
    assert counts(hide(ids)) == [6, 3, 0, 1]


def test_targets_are_what_stood_there_and_the_rest_stays() -> None:
    ids = np.arange(60).reshape(3, 20)
    before = ids.copy()
    hidden = hide(ids, 0.5)
    assert (ids == before).all() and (hidden.targets == ids[hidden.rows, hidden.columns]).all()
    untouched = np.ones_like(ids, bool)
    untouched[hidden.rows, hidden.columns] = False
    assert (hidden.input_ids[untouched] == ids[untouched]).all()
    assert counts(hidden) == [5, 10, 10]


def test_eighty_ten_ten() -> None:
    """Of 15,000 tokens, all with an id that is not a replacement: four standard errors are 1.3 and 1.0 points."""
    hidden = hide(np.full((1000, 100), 50))
    shown = hidden.input_ids[hidden.rows, hidden.columns]
    drawn = shown[(shown != MASK) & (shown != 50)]
    assert len(shown) == 15_000
    assert (shown == MASK).mean() == pytest.approx(0.8, abs=0.013)
    assert (shown == 50).mean() == pytest.approx(0.1, abs=0.01)
    assert set(drawn) == set(WORDS)
    assert (hidden.targets == 50).all()


def test_without_replacements_all_become_the_mask() -> None:
    hidden = hide(np.full((50, 20), 50), replacements=None)
    assert (hidden.input_ids[hidden.rows, hidden.columns] == MASK).all() and len(hidden.rows) == 150


def test_every_place_is_hidden_as_often() -> None:
    """1 of 5 places, 5,000 rows: 1,000 each, standard deviation 28."""
    ids = np.tile([2, 11, 2, 12, 13, 14, 15], (5000, 1))
    found = np.bincount(hide(ids, 0.2).columns, minlength=7)
    assert found[[0, 2]].tolist() == [0, 0]
    assert found[[1, 3, 4, 5, 6]].tolist() == pytest.approx([1000] * 5, abs=113)


def test_the_generator_alone_decides() -> None:
    ids = np.full((20, 30), 50)
    first, again, other = hide(ids, seed=1), hide(ids, seed=1), hide(ids, seed=2)
    assert (first.input_ids == again.input_ids).all() and (first.columns == again.columns).all()
    assert not (first.columns == other.columns).all()


def test_nothing_to_hide() -> None:
    hidden = hide(np.full((3, 5), 2))
    assert len(hidden.rows) == len(hidden.columns) == len(hidden.targets) == 0 and (hidden.input_ids == 2).all()


# -- batches -------------------------------------------------------------------------------------------


def batch_of(tokenizer: PieceTokenizer, *texts: str) -> Batch:
    """Return texts in a pattern with a mask, padded, each with a soft token in front."""
    pattern = CompiledPattern(Pattern.plain(["text"]), tokenizer, 40, "tail")
    rows = []
    for text in texts:
        ids = pattern.encode({pattern.keys[0]: np.array(tokenizer.encode([text])[0], np.int32)}).ids
        rows.append(Encoded(np.array([-1, *ids[:-1], tokenizer.mask_id, ids[-1]], np.int32), len(ids) + 2, len(ids)))
    return collate(rows, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_only_words_are_hidden_and_only_words_replace_them(kind: str) -> None:
    """Special and unknown tokens, padding, the pattern's mask and soft tokens stay."""
    tokenizer = pieces(kind)
    masking = TokenMasking(tokenizer, 0.9)
    special = set(tokenizer.hf.all_special_ids)
    assert {tokenizer.mask_id, tokenizer.pad_id, tokenizer.unknown_id, tokenizer.hf.cls_token_id} <= special
    assert masking.replacements is not None and special.isdisjoint(masking.replacements.tolist())
    assert len(masking.replacements) == len(tokenizer.hf.get_vocab()) - len(special)
    batch = batch_of(tokenizer, "the news of the world", "☃ good ☃", "☃")
    ids = batch.input_ids.numpy()
    assert masking.maskable(ids).sum(axis=1)[0] == 5
    for seed in range(30):
        masked = masking(batch, np.random.default_rng(seed))
        assert special.isdisjoint(masked.targets.tolist()) and (masked.targets >= 0).all()
        shown = masked.batch.input_ids[masked.rows, masked.columns]
        assert special.isdisjoint(set(shown.tolist()) - {tokenizer.mask_id})
        assert torch.equal(masked.batch.attention_mask, batch.attention_mask)
        assert torch.equal(masked.batch.mask_positions, batch.mask_positions)
        assert (masked.batch.input_ids[:, 0] == -1).all()
        every = torch.arange(3)
        assert (masked.batch.input_ids[every, batch.mask_positions] == tokenizer.mask_id).all()
    assert (batch.input_ids.numpy() == ids).all()


def test_always_hides_behind_the_mask() -> None:
    masking = TokenMasking(pieces("wordpiece"), 0.5, always=True)
    masked = masking(batch_of(pieces("wordpiece"), "the news of the world", "very good"), np.random.default_rng(0))
    assert (masked.batch.input_ids[masked.rows, masked.columns] == pieces("wordpiece").mask_id).all()
    assert masked.rows.tolist().count(1) == 1 and masked.rows.tolist().count(0) == 3


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loss_at_the_hidden_places_is_that_of_the_full_model(arch: str, model_folder: Callable[[str], Path]) -> None:
    """transformers computes all logits and leaves out the places with label -100."""
    tokenizer = load_tokenizer(str(model_folder(arch)))
    model = load_masked_lm(str(model_folder(arch)))
    pattern = CompiledPattern(Pattern.plain(["text"]), tokenizer, 40, "tail")
    texts = tokenizer.encode(["the news of the world", "very good", "it was a great game of football and not bad"])
    batch = collate([pattern.encode({pattern.keys[0]: np.array(ids, np.int32)}) for ids in texts], tokenizer)
    masked = TokenMasking(tokenizer, 0.4)(batch, np.random.default_rng(3))
    labels = torch.full_like(batch.input_ids, -100)
    labels[masked.rows, masked.columns] = masked.targets
    assert (labels != -100).sum(dim=1).tolist() == [2, 1, 4]
    with torch.no_grad():
        full = model(**masked.batch.model_inputs, labels=labels).loss
        reader = MaskReader(model)
        loss = masked_lm(reader.read(masked.batch, masked.rows, masked.columns), masked.targets)
    assert loss.item() == pytest.approx(full.item(), abs=1e-5)
