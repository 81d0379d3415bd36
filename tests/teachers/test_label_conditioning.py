"""ADAPET's label conditioning: a text must be likely with its own label filled in, and unlikely with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.prompts.pvp import PVP
from tests.teachers.teacher_bench import GOLD, ROWS, TOKENIZER, Bench, make_bench, near, pvp_of

LONG = {"Sports": ["sports", "good game"], "Science": ["the science team"], "World": ["world"]}
SETTINGS = {"label_conditioning_weight": 0.4, "mlm_share": 0.5}
Make = Callable[..., Bench]


@pytest.fixture
def bench(model_folder: Callable[[str], Path]) -> Make:
    def make(pvp: PVP | None = None, targets: Tensor = GOLD, **settings: Any) -> Bench:
        return make_bench(model_folder("bert"), pvp, targets, None, settings or SETTINGS)

    return make


def filled(made: Bench, seed: int) -> list[tuple[int, int, list[int], list[int], list[int]]]:
    """Take a step and return row, label and word of each filled row, its tokens and what the model reads of it.

    Exactly one label's word must explain what is read: the row with that word in its slot, some other tokens hidden.
    """
    made.seen.clear()
    made.loss(seed)
    found = []
    for row, read in zip(ROWS.tolist(), made.seen[-1].tolist(), strict=True):
        encoded = made.objective.data.encoded[row]
        fits = []
        for label, words in enumerate(made.pvp.words.token_ids):
            for word in words:
                ids = [*encoded.ids[: encoded.mask], *word, *encoded.ids[encoded.mask + encoded.masks :]]
                shown, padding = read[: len(ids)], read[len(ids) :]
                slot = range(encoded.mask, encoded.mask + len(word))
                same = all(there in (here, TOKENIZER.mask_id) for here, there in zip(ids, shown, strict=True))
                if same and not any(padding) and all(shown[place] == ids[place] for place in slot):
                    fits.append((row, label, list(word), list(map(int, ids)), shown))
        assert len(fits) == 1, TOKENIZER.describe(read)
        found += fits
    return found


def conditioned(made: Bench, seed: int, own: Callable[[int, int], Any]) -> Tensor:
    """Return the loss of a step's filled rows as the untouched model has it; ``own(row, label)`` says whether they belong."""
    rows, terms = filled(made, seed), []
    ids = made.seen[-1]
    log_probs = made.plain(input_ids=ids, attention_mask=(ids != TOKENIZER.pad_id).long()).logits.log_softmax(-1)
    for place, (row, label, _, tokens, shown) in enumerate(rows):
        for column in np.flatnonzero(np.array(shown) == TOKENIZER.mask_id):
            p = log_probs[place, column, tokens[column]].exp()
            terms.append(-p.log() if own(row, label) else -(1 - p).log())
    return torch.stack(terms).mean()


def test_it_is_the_loss_of_hidden_text_with_a_label_filled_in(bench: Make) -> None:
    made = bench()
    for seed in range(5):
        expected = conditioned(made, seed, lambda row, label: label == GOLD[row])
        near(made.loss(seed), made.cross_entropy() + 0.4 * expected)


@pytest.mark.parametrize("words", [None, LONG], ids=["single", "several"])
def test_half_of_the_rows_get_their_own_label_and_the_others_any_other(words: Any, bench: Make) -> None:
    made = bench(pvp_of("{mask} news: {text}", words, multi_token=True) if words else None)
    rows = [found for seed in range(150) for found in filled(made, seed)]  # 600
    right = [label == GOLD[row] for row, label, *_ in rows]
    assert 0.42 < np.mean(right) < 0.58  # four standard deviations
    mistaken = [label for row, label, *_ in rows if GOLD[row] == 1 and label != 1]
    assert 0.3 < np.mean([label == 0 for label in mistaken]) < 0.7  # Science is mistaken for each of the two others
    used = {tuple(word) for _, _, word, *_ in rows}
    assert used == {word for label in made.pvp.words.token_ids for word in label}  # every word has its turn


def test_the_label_stays_in_sight_and_half_of_the_other_words_do_not(bench: Make) -> None:
    made = bench(pvp_of("{mask} news: {text}", LONG, multi_token=True))
    for seed in range(20):
        for row, _, word, tokens, shown in filled(made, seed):
            encoded = made.objective.data.encoded[row]
            hidden = sum(token == TOKENIZER.mask_id for token in shown)
            assert hidden == int(0.5 * (len(tokens) - 2 - len(word)) + 0.5)  # without special tokens and the label
            assert shown[encoded.mask : encoded.mask + len(word)] == word
            assert len(tokens) == len(encoded.ids) + len(word) - 3  # of three masks none is left


def test_second_segments_begin_where_they_did(bench: Make) -> None:
    made = bench(pvp_of(("{mask} news:", "{text}"), LONG, multi_token=True))
    types: list[Tensor] = []
    made.scorer.reader.model.register_forward_pre_hook(
        lambda module, args, kwargs: types.append(kwargs["token_type_ids"]), with_kwargs=True
    )
    rows = filled(made, 3)
    for place, (_, _, word, tokens, _) in enumerate(rows):
        second = 1 + len(word) + 2 + 1  # [CLS] word "news" ":" [SEP]
        assert types[-1][place, : len(tokens)].tolist() == [0] * second + [1] * (len(tokens) - second)


def test_a_row_of_several_labels_is_right_with_any_of_them(bench: Make) -> None:
    targets = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 0, 1]], dtype=torch.float32)
    made = bench(targets=targets)
    rows = [found for seed in range(60) for found in filled(made, seed)]
    of_row = {row: [label for number, label, *_ in rows if number == row] for row in ROWS.tolist()}
    assert set(of_row[3]) == {0, 1, 2} and set(of_row[4]) == {0, 1, 2}  # all labels, or none: nothing else to fill in
    assert 0.3 < np.mean([label in (0, 2) for label in of_row[5]]) < 0.7
    q, gold = made.label_logits(made.chosen).sigmoid(), targets[ROWS]
    main = -(gold * q.log() + (1 - gold) * (1 - q).log()).sum(-1).mean()
    near(made.loss(4), main + 0.4 * conditioned(made, 4, lambda row, label: targets[row, label]))


def test_the_model_learns_from_it(bench: Make) -> None:
    made = bench()
    made.loss(1).backward()
    with_it = made.scorer.reader.model.get_input_embeddings().weight.grad.clone()
    plain = bench(auxiliary_mlm_weight=0.0)
    plain.loss(1).backward()
    assert not torch.allclose(with_it, plain.scorer.reader.model.get_input_embeddings().weight.grad)
