"""The temperature of a teacher, on sets made so that it is known."""

from __future__ import annotations

import numpy as np
import pytest

from petkit.ensemble import LabelKind, fit_temperature


def rows_right(share: float, rows: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Two labels; the first is always said with the same margin, and right in this share of rows."""
    logits = np.tile(np.array([margin, 0], np.float32), (rows, 1))
    return logits, (np.arange(rows) >= round(share * rows)).astype(np.int64)[:, None]


@pytest.mark.parametrize("margin", [1.0, 2.5, 5.0])
def test_probabilities_become_the_share_of_right_answers(margin: float) -> None:
    """0.75 is a margin of ln 3: the temperature is margin / ln 3."""
    logits, gold = rows_right(0.75, 100, margin)
    assert fit_temperature(logits, gold) == pytest.approx(margin / np.log(3), abs=1e-4)


@pytest.mark.parametrize(("rows", "expected"), [(200, 2.0), (50, 2.0), (25, 1.5), (5, 1.1)])
def test_few_rows_draw_it_towards_1(rows: int, expected: float) -> None:
    logits, gold = rows_right(0.8, rows, 2 * np.log(4))
    assert fit_temperature(logits, gold) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.5), (0.0, 5.0)])
def test_it_stays_between_a_half_and_five(share: float, expected: float) -> None:
    """All right would ask for no doubt at all, all wrong for nothing but doubt."""
    found = fit_temperature(*rows_right(share, 100, 3.0))
    assert found == pytest.approx(expected, abs=1e-3) and 0.5 <= found <= 5


def test_all_wrong_on_few_rows_is_still_drawn_towards_1() -> None:
    assert fit_temperature(*rows_right(0.0, 10, 3.0)) == pytest.approx(1 + 0.2 * 4, abs=1e-3)


def test_it_is_the_best_of_a_fine_grid() -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 4, 300)
    logits = (4 * random.standard_normal((300, 4)) + 5 * np.eye(4)[gold]).astype(np.float32)

    def loss(temperature: float) -> float:
        scaled = logits.astype(np.float64) / temperature
        return float((np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(300), gold]).mean())

    grid = np.linspace(0.5, 5, 4501)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert 0.6 < best < 4.9
    assert fit_temperature(logits, gold[:, None]) == pytest.approx(best, abs=2e-3)


def test_the_order_of_rows_and_labels_does_not_matter() -> None:
    random = np.random.default_rng(1)
    logits, gold = (3 * random.standard_normal((60, 3))).astype(np.float32), random.integers(0, 3, (60, 1))
    rows, labels = random.permutation(60), np.array([2, 0, 1])
    moved = np.argsort(labels)[gold[rows]]
    assert fit_temperature(logits[rows][:, labels], moved) == pytest.approx(fit_temperature(logits, gold), abs=1e-4)


def test_answers_of_several_labels() -> None:
    """Each of two labels is said with log-odds 3 and is right in three of four rows: 3 / ln 3."""
    logits = np.full((100, 2), 3, np.float32)
    gold = np.stack([np.arange(100) < 75, np.arange(100) >= 25], axis=1).astype(np.int64)
    assert fit_temperature(logits, gold, LabelKind.MULTI) == pytest.approx(3 / np.log(3), abs=1e-4)


def test_extreme_logits() -> None:
    logits, gold = rows_right(0.9, 100, 1e4)
    assert fit_temperature(logits, gold) == pytest.approx(5, abs=1e-3)
