"""A teacher's loss against plain transformers forwards and formulas written out, in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.engine.token_masking import TokenMasking
from petkit.models.batch import collate
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import PVP
from petkit.teachers.objective import TrainingRows
from tests.teachers.teacher_bench import GOLD, ROWS, TOKENIZER, WORDS, Bench, encoded, make_bench, near, pvp_of

Make = Callable[..., Bench]


@pytest.fixture
def bench(model_folder: Callable[[str], Path]) -> Make:
    def make(pvp: PVP | None = None, targets: Tensor = GOLD, second: PVP | None = None, **settings: Any) -> Bench:
        return make_bench(model_folder("bert"), pvp, targets, second, settings)

    return make


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Return ``KL(softmax(p) ‖ softmax(q))``, the mean over rows."""
    left, right = p.log_softmax(-1), q.log_softmax(-1)
    return (left.exp() * (left - right)).sum(-1).mean()


# -- the main loss -----------------------------------------------------------------------------------


def test_by_default_it_is_cross_entropy_of_the_label_logits_in_one_pass(bench: Make) -> None:
    made = bench()
    logits, gold = made.label_logits(made.chosen), GOLD[ROWS]
    near(made.loss(), -logits.log_softmax(-1)[torch.arange(4), gold].mean())
    assert len(made.seen) == 1


def test_rare_labels_weigh_more_where_class_weights_are_balanced(bench: Make) -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 2])
    made = bench(targets=targets, class_weights="balanced")
    logits, gold = made.label_logits(made.chosen), targets[ROWS]
    weights = torch.tensor([6 / (3 * 4), 6 / 3, 6 / 3])[gold]  # rows / (labels · rows of the label), over all rows
    near(made.loss(), (weights * -logits.log_softmax(-1)[torch.arange(4), gold]).sum() / weights.sum())


def test_rows_weigh_what_their_label_does(bench: Make) -> None:
    made = bench(class_weights={"World": 4.0, "Sports": 0.5})
    gold = GOLD[ROWS]
    weights = torch.tensor([0.5, 1.0, 4.0])[gold]
    rows = -made.label_logits(made.chosen).log_softmax(-1)[torch.arange(4), gold]
    near(made.loss(), (weights * rows).sum() / weights.sum())


def test_smoothing_and_focus(bench: Make) -> None:
    made = bench(label_smoothing=0.3, focal_gamma=2.0)
    log_q = made.label_logits(made.chosen).log_softmax(-1)
    soft = 0.7 * torch.eye(3)[GOLD[ROWS]] + 0.1
    near(made.loss(), -(soft * (1 - log_q.exp()) ** 2 * log_q).sum(-1).mean())


def test_hinge(bench: Make) -> None:
    made = bench(loss="hinge")
    logits = made.label_logits(made.chosen)
    rows = [
        sum((1 - row[gold] + row[other]).clamp_min(0) for other in range(3) if other != gold)
        for row, gold in zip(logits, GOLD[ROWS].tolist(), strict=True)
    ]
    near(made.loss(), sum(rows) / 4)


def test_decoupled_labels_are_judged_over_the_whole_vocabulary(bench: Make) -> None:
    made = bench(pvp_of("{mask} news: {text}", {**WORDS, "Sports": ["sports"]}), loss="decoupled_label")
    batch = collate(made.chosen, TOKENIZER)
    whole = made.plain(**batch.model_inputs).logits[torch.arange(4), batch.mask_positions].log_softmax(-1)  # (4, vocabulary)
    q = whole[:, [word[0][0] for word in made.pvp.words.token_ids]].exp()
    rows = [
        -q[row, gold].log() - sum((1 - q[row, other]).log() for other in range(3) if other != gold)
        for row, gold in enumerate(GOLD[ROWS].tolist())
    ]
    near(made.loss(), sum(rows) / 4)


@pytest.mark.parametrize("chosen", ["balanced", {"Science": 3.0}])
def test_several_labels_per_row(chosen: Any, bench: Make) -> None:
    targets = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 1]], dtype=torch.float32)
    made = bench(targets=targets, class_weights=chosen)
    q, gold = made.label_logits(made.chosen).sigmoid(), targets[ROWS]
    weights = 6 / (3 * targets.sum(0)) if chosen == "balanced" else torch.tensor([1.0, 3.0, 1.0])
    losses = -(gold * q.log() + (1 - gold) * (1 - q).log()) * weights / weights.mean()
    near(made.loss(), losses.sum(-1).mean())


# -- beside it ---------------------------------------------------------------------------------------


def test_r_drop_compares_two_dropout_passes(bench: Make) -> None:
    made = bench(r_drop_weight=0.7, dropout=0.3)
    batch, gold = collate(made.chosen, TOKENIZER), GOLD[ROWS]
    torch.manual_seed(3)
    one, two = made.scorer(batch), made.scorer(batch)
    assert not torch.allclose(one, two)
    made.seen.clear()
    torch.manual_seed(3)
    entropies = [-logits.log_softmax(-1)[torch.arange(4), gold].mean() for logits in (one, two)]
    near(made.loss(), sum(entropies) / 2 + 0.7 * (kl(one, two) + kl(two, one)) / 2)
    assert len(made.seen) == 2


def test_consistency_with_some_words_hidden(bench: Make) -> None:
    made = bench(consistency={"kind": "word_masking", "weight": 0.5, "masked_share": 0.4})
    loss = made.loss(seed=11)
    assert len(made.seen) == 2
    hidden = made.seen[1]
    clean, masked = made.seen[0], hidden == TOKENIZER.mask_id
    assert ((hidden == clean) | masked).all()
    added = masked & (clean != TOKENIZER.mask_id)
    words = np.array([len(row.ids) - 3 for row in made.chosen])  # all but the mask and two special tokens
    assert added.sum(1).tolist() == np.floor(0.4 * words + 0.5).astype(int).tolist()
    batch = collate(made.chosen, TOKENIZER)
    perturbed = made.scorer(batch.with_ids(hidden))
    clear = made.label_logits(made.chosen)
    assert kl(clear, perturbed) > 0.001
    near(loss, made.cross_entropy() + 0.5 * kl(clear, perturbed))


def test_consistency_with_a_second_pattern_reads_its_words_and_its_rows(bench: Make) -> None:
    second = pvp_of("( {mask} ) {text}", {"Sports": ["game"], "Science": ["question", "answer"], "World": ["market"]})
    made = bench(second=second, consistency={"kind": "second_pattern", "weight": 2.0})
    loss = made.loss()
    assert len(made.seen) == 2
    clear = made.label_logits(made.chosen)
    other = made.label_logits([encoded(second)[row] for row in ROWS], second)
    assert kl(clear, other) > 0.001
    near(loss, made.cross_entropy() + 2 * kl(clear, other))


def test_contrast_of_the_features_at_the_mask(bench: Make) -> None:
    made = bench(contrastive={"weight": 0.3, "temperature": 0.2})
    batch, gold = collate(made.chosen, TOKENIZER), GOLD[ROWS].tolist()  # 1, 0, 0, 2
    hidden = made.plain.base_model(**batch.model_inputs).last_hidden_state[torch.arange(4), batch.mask_positions]
    z = hidden / hidden.norm(dim=1, keepdim=True)
    rows = []
    for i in (1, 2):  # the others have no partner
        (j,) = [j for j in range(4) if j != i and gold[j] == gold[i]]
        whole = sum((z[i] @ z[k] / 0.2).exp() for k in range(4) if k != i)
        rows.append(-((z[i] @ z[j] / 0.2).exp() / whole).log())
    near(made.loss(), made.cross_entropy() + 0.3 * sum(rows) / 2)
    assert len(made.seen) == 1


def test_contrast_with_a_masked_view_of_the_same_row(bench: Make) -> None:
    made = bench(contrastive={"weight": 0.3, "temperature": 0.2, "partners": "masked_view", "masked_share": 0.4})
    loss = made.loss(seed=5)
    batch = collate(made.chosen, TOKENIZER)
    view = TokenMasking(TOKENIZER, 0.4, always=True)(batch, np.random.default_rng(5)).batch
    assert torch.equal(made.seen[1], view.input_ids) and not torch.equal(view.input_ids, batch.input_ids)
    q, k = (
        torch.nn.functional.normalize(
            made.plain.base_model(**read.model_inputs).last_hidden_state[torch.arange(4), read.mask_positions]
        )
        for read in (batch, view)
    )
    near(loss, made.cross_entropy() - 0.3 * (q @ k.T / 0.2).log_softmax(1).diagonal().mean())


def masked_lm(made: Bench, seed: int, rows: list[Encoded], share: float) -> Tensor:
    """Return what the untouched model loses on hidden tokens."""
    hidden = TokenMasking(TOKENIZER, share)(collate(rows, TOKENIZER), np.random.default_rng(seed))
    logits = made.plain(**hidden.batch.model_inputs).logits[hidden.rows, hidden.columns]
    return -logits.log_softmax(-1)[torch.arange(len(hidden.targets)), hidden.targets].mean()


def test_the_masked_lm_loss_has_its_share_of_the_main_one_only(bench: Make) -> None:
    texts = np.array([1, 2, 5])
    made = bench(auxiliary_mlm_weight=0.25, mlm_share=0.3, contrastive={"weight": 0.3, "temperature": 0.2})
    loss = made.loss(seed=5, unlabeled=texts)
    assert len(made.seen) == 2
    slots = collate([made.objective.data.encoded[row] for row in texts], TOKENIZER).mask_positions
    assert (made.seen[1][torch.arange(3), slots] == TOKENIZER.mask_id).all()
    main = made.cross_entropy()
    contrast = bench(contrastive={"weight": 0.3, "temperature": 0.2}).loss() - main
    mlm = masked_lm(made, 5, [made.objective.data.encoded[row] for row in texts], 0.3)
    near(loss, 0.75 * main + 0.25 * mlm + contrast)


def test_the_masked_lm_loss_reaches_words_of_no_label(bench: Make) -> None:
    def gradient(unlabeled: np.ndarray | None) -> Tensor:
        made = bench(auxiliary_mlm_weight=0.25)
        made.loss(unlabeled=unlabeled).backward()
        bias = made.scorer.reader.model.get_output_embeddings().bias.grad
        assert bias is not None
        labels = [word[0] for label in made.pvp.words.token_ids for word in label]
        rest: Tensor = bias[[token for token in range(len(bias)) if token not in labels]]
        return rest

    assert not gradient(None).any() and gradient(np.array([1, 2])).any()


def test_nothing_to_hide_is_not_a_loss(bench: Make) -> None:
    made = bench(pvp_of("{mask} {text}"), auxiliary_mlm_weight=0.25)
    unknown = made.pvp.encode_texts([{"text": "☃"}], TOKENIZER)
    data = TrainingRows(made.objective.data.encoded, GOLD, (), lambda numbers: unknown)
    made.objective.data = data
    loss = made.loss(unlabeled=np.array([0]))
    near(loss, 0.75 * bench(pvp_of("{mask} {text}")).loss())
    loss.backward()


PASSES = [
    ({}, 1),
    ({"loss": "hinge"}, 1),
    ({"contrastive": {"weight": 1.0}}, 1),
    ({"contrastive": {"weight": 1.0, "partners": "masked_view"}}, 2),
    ({"r_drop_weight": 1.0, "dropout": 0.1}, 2),
    ({"consistency": {"kind": "word_masking"}}, 2),
    ({"label_conditioning_weight": 1.0}, 2),
    ({"r_drop_weight": 1.0, "dropout": 0.1, "consistency": {"kind": "word_masking"}, "label_conditioning_weight": 1.0}, 4),
]


@pytest.mark.parametrize(("settings", "passes"), PASSES)
def test_what_is_not_asked_for_costs_no_pass(settings: dict[str, Any], passes: int, bench: Make) -> None:
    made = bench(**settings)
    made.loss()
    assert len(made.seen) == passes


@pytest.mark.parametrize("settings", [settings for settings, _ in PASSES])
def test_a_step_depends_on_its_own_randomness_only(settings: dict[str, Any], bench: Make) -> None:
    made = bench(**settings)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(made.loss(seed).item())
    assert found[0] == found[2]
    if {"consistency", "label_conditioning_weight", "r_drop_weight"} & set(settings):
        assert found[0] != found[1]
