"""iPET's draws: who labels, how many rows of each label, and which."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from petkit.teachers.ipet import PseudoLabels, choose_labellers, draw_rows, mean_probabilities, wanted_counts

NAMES = ("Sports", "Science", "World")
Probabilities = NDArray[np.float64]


def made_up(rows: int, labels: int = 3, seed: int = 0) -> Probabilities:
    probabilities: Probabilities = np.random.default_rng(seed).dirichlet(np.full(labels, 0.7), rows)
    return probabilities


def draw(probabilities: Probabilities, wanted: list[int], seed: int = 1, *, most_likely: bool = False) -> PseudoLabels:
    return draw_rows(probabilities, wanted, NAMES, np.random.default_rng(seed), most_likely=most_likely)


# -- who labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("others", "chosen"), [(1, 1), (2, 1), (3, 1), (4, 1), (6, 2), (12, 3)])
def test_a_quarter_of_the_others_labels_and_always_somebody(others: int, chosen: int) -> None:
    for seed in range(20):
        found = choose_labellers(others, 0.25, np.random.default_rng(seed))
        assert len(found) == len(set(found)) == chosen and set(found) <= set(range(others))


def test_everybody_is_chosen_sometimes() -> None:
    found = [choose_labellers(12, 0.25, np.random.default_rng(seed)) for seed in range(400)]
    times = np.bincount(np.concatenate(found), minlength=12)
    assert times.min() > 60 and times.max() < 140  # 100 expected, standard deviation 8.7
    assert choose_labellers(5, 1.0, np.random.default_rng(0)) == [0, 1, 2, 3, 4]


# -- how many ----------------------------------------------------------------------------------------


def test_the_ratio_of_the_labels_stays_while_the_set_grows() -> None:
    # 4 and 12 labelled rows; with five times as many there are 20 and 60, then 100 and 300.
    assert wanted_counts([4, 12], 5, 1, 100, 10_000) == [16, 48]
    assert wanted_counts([4, 12], 5, 2, 100, 10_000) == [96, 288]
    assert wanted_counts([3, 9], 1.5, 1, 100, 10_000) == [2, 5]  # 1.5 and 4.5: halves round up


def test_all_labels_shrink_alike_where_rows_are_few() -> None:
    assert wanted_counts([4, 12], 5, 1, 100, 32) == [8, 24]
    assert wanted_counts([4, 12], 5, 1, 100, 64) == [16, 48]
    found = wanted_counts([1, 2, 4], 5, 3, 100, 100)
    assert sum(found) <= 100 and found == [14, 28, 57]


def test_from_zero_all_labels_get_the_same() -> None:
    assert wanted_counts([0, 0, 0], 5, 1, 100, 10_000) == [100, 100, 100]
    assert wanted_counts([0, 0, 0], 5, 2, 100, 10_000) == [500, 500, 500]
    assert wanted_counts([0, 0, 0], 5, 1, 100, 100) == [33, 33, 33]


@pytest.mark.parametrize("per_label", [1, 7, 100])
def test_from_zero_every_label_has_a_row_while_there_are_as_many(per_label: int) -> None:
    for labels in range(2, 200):
        assert set(wanted_counts([0] * labels, 5, 1, per_label, labels)) == {1}


# -- which rows --------------------------------------------------------------------------------------


def test_teachers_believe_the_mean_of_their_probabilities() -> None:
    sharp, flat = np.log(np.array([[0.8, 0.2]], np.float32)) + 3, np.log(np.array([[0.4, 0.6]], np.float32))
    np.testing.assert_allclose(mean_probabilities(iter([sharp, flat])), [[0.6, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(mean_probabilities([sharp]), [[0.8, 0.2]], rtol=1e-6)


@pytest.mark.parametrize("most_likely", [False, True])
def test_no_row_twice_and_as_many_as_wanted(most_likely: bool) -> None:
    probabilities = made_up(300)
    for seed in range(20):
        found = draw(probabilities, [20, 5, 40], seed, most_likely=most_likely)
        assert len(set(found.rows.tolist())) == 65 and found.shortages == ()
        assert np.bincount(found.labels).tolist() == [20, 5, 40]
        assert (probabilities[found.rows].argmax(axis=1) == found.labels).all()


def test_rows_are_drawn_in_proportion_to_confidence() -> None:
    # Four rows predicted as Sports; one is drawn, 4,000 times.
    own = np.array([0.4, 0.5, 0.7, 0.9])
    probabilities = np.stack([own, (1 - own) / 2, (1 - own) / 2], axis=1)
    drawn = [int(draw(probabilities, [1, 0, 0], seed).rows[0]) for seed in range(4000)]
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, own / own.sum(), atol=0.025)  # three standard deviations


def test_several_rows_are_drawn_one_after_the_other_without_replacement() -> None:
    # P(row 0 is one of two) = a + Σ b · a / (1 - b), with the shares a = 0.2 and b of the others.
    own = np.array([0.4, 0.7, 0.9])
    shares = own / own.sum()
    expected = shares[0] + sum(share * shares[0] / (1 - share) for share in shares[1:])
    probabilities = np.stack([own, (1 - own) / 2, (1 - own) / 2], axis=1)
    found = np.mean([0 in draw(probabilities, [2, 0, 0], seed).rows for seed in range(4000)])
    assert found == pytest.approx(expected, abs=0.025)


def test_the_same_randomness_draws_the_same_rows_and_another_draws_others() -> None:
    probabilities = made_up(300)
    one, again, other = (draw(probabilities, [20, 5, 40], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.rows, again.rows)
    assert set(one.rows.tolist()) != set(other.rows.tolist())


def test_a_label_nobody_predicts_has_no_rows_and_this_is_said() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1]] * 5 + [[0.2, 0.7, 0.1]] * 3)
    found = draw(probabilities, [2, 4, 3])
    assert np.bincount(found.labels, minlength=3).tolist() == [2, 3, 0]
    assert found.shortages == ("'Science' has 3 of 4 rows", "'World' has 0 of 3 rows")


def test_a_label_of_which_no_rows_are_wanted_keeps_its_rows_from_others() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1]])
    found = draw(probabilities, [0, 2, 0])
    assert found.rows.tolist() == [1] and found.labels.tolist() == [1]


def test_an_impossible_label_is_not_an_error() -> None:
    found = draw(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), [1, 1, 1])
    assert found.rows.tolist() == [0, 1] and found.shortages == ("'World' has 0 of 1 rows",)


# -- the first generation from zero ------------------------------------------------------------------


def test_from_zero_the_likeliest_rows_are_taken() -> None:
    probabilities = made_up(300)
    found = draw(probabilities, [20, 5, 40], most_likely=True)
    for label, count in enumerate([20, 5, 40]):
        winners = np.flatnonzero(probabilities.argmax(axis=1) == label)
        best = winners[np.argsort(-probabilities[winners, label])][:count]
        assert set(found.rows[found.labels == label].tolist()) == set(best.tolist())
    np.testing.assert_array_equal(found.rows, draw(probabilities, [20, 5, 40], 99, most_likely=True).rows)


def test_from_zero_a_label_nobody_predicts_gets_its_likeliest_rows() -> None:
    # Everything looks like Sports; row r believes in World with r percent.
    world = np.arange(10) / 100
    probabilities = np.stack([0.6 - world, np.full(10, 0.4), world], axis=1)
    found = draw(probabilities, [2, 0, 3], most_likely=True)
    assert found.shortages == ()
    assert found.rows[found.labels == 2].tolist() == [7, 8, 9]
    assert found.rows[found.labels == 0].tolist() == [0, 1]  # which are the surest of Sports


def test_from_zero_a_row_goes_to_the_label_it_is_likeliest_for_whatever_the_order_of_labels() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        # Nobody predicts any label but the last.
        probabilities = np.concatenate([random.uniform(0, 0.3, (30, 2)), np.full((30, 1), 0.9)], axis=1)
        found = draw(probabilities, [8, 8, 8], most_likely=True)
        turned = draw(probabilities[:, ::-1], [8, 8, 8], most_likely=True)
        assert np.bincount(found.labels).tolist() == [8, 8, 8]
        pairs = set(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
        assert pairs == {(row, 2 - label) for row, label in zip(turned.rows.tolist(), turned.labels.tolist(), strict=True)}


def test_from_zero_with_fewer_rows_than_wanted_every_row_is_taken_once() -> None:
    found = draw(made_up(10), [5, 5, 5], most_likely=True)
    assert sorted(found.rows.tolist()) == list(range(10)) and found.shortages
