"""Agreement, κ, what each teacher does for the ensemble, and who has collapsed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from petkit.ensemble import Effect, Ensemble, How, LabelKind, TeacherAgreement


def plain(count: int, labels: int, kind: str = "single", how: How = "logits") -> Ensemble:
    names, members = [f"label-{index}" for index in range(labels)], [f"teacher-{index}" for index in range(count)]
    return Ensemble.plain(names, LabelKind(kind), how, members, [1 / count] * count)


def saying(answers: Any, labels: int, margin: float = 1.0) -> np.ndarray:
    """Return logits of teachers whose answers, shape ``(teachers, rows)``, are given."""
    return (margin * np.eye(labels)[np.array(answers)]).astype(np.float32)


def gathered(logits: np.ndarray, ensemble: Ensemble, *cuts: int) -> TeacherAgreement:
    found = TeacherAgreement(ensemble)
    for block in np.split(logits, cuts, axis=1):
        found.add(block, ensemble.combine(block))
    return found


def test_kappa_by_hand() -> None:
    """Of 50 rows both say yes to 20 and no to 15, one alone yes to 5, the other alone to 10: (0.7 - 0.5) / (1 - 0.5)."""
    one = [0] * 20 + [0] * 5 + [1] * 10 + [1] * 15
    two = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    pairs = gathered(saying([one, two], 2), plain(2, 2), 13, 40)
    np.testing.assert_allclose(pairs.agreement, [[1, 0.7], [0.7, 1]])
    np.testing.assert_allclose(pairs.kappa, [[1, 0.4], [0.4, 1]])
    assert pairs.effects()["teacher-0"].kappa == pytest.approx(0.4)


def test_kappa_against_scikit_learn() -> None:
    answers = np.random.default_rng(0).choice(4, (3, 200), p=(0.6, 0.2, 0.15, 0.05))
    answers[1, :120] = answers[0, :120]
    pairs = gathered(saying(answers, 4), plain(3, 4), 50)
    expected = [[cohen_kappa_score(one, two) for two in answers] for one in answers]
    np.testing.assert_allclose(pairs.kappa, expected, atol=1e-12)
    means = [(row.sum() - 1) / 2 for row in np.array(expected)]
    assert [entry.kappa for entry in pairs.effects().values()] == pytest.approx(means)


def test_kappa_of_teachers_that_always_say_the_same() -> None:
    answers = [[0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 2]]
    kappa = gathered(saying(answers, 3), plain(4, 3)).kappa
    np.testing.assert_array_equal(kappa[:3, :3], [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(kappa[3], [0, 0, 0, 1], atol=1e-12)


def test_kappa_over_several_labels_is_the_mean_over_labels() -> None:
    random = np.random.default_rng(2)
    logits = random.standard_normal((2, 80, 3)).astype(np.float32)
    pairs = gathered(logits, plain(2, 3, "multi"), 30)
    each = [cohen_kappa_score(logits[0, :, label] > 0, logits[1, :, label] > 0) for label in range(3)]
    assert pairs.kappa[0, 1] == pytest.approx(np.mean(each))
    assert pairs.agreement[0, 1] == pytest.approx(((logits[0] > 0) == (logits[1] > 0)).mean())


def test_what_a_teacher_changes_by_hand() -> None:
    """Two rows. Teacher 0 alone turns the first: (2, 0) and (0, 1) give (1, 0.5); without it (0, 1)."""
    logits = np.array([[[2, 0], [0, 1]], [[0, 1], [0, 1]]], np.float32)
    effects = gathered(logits, plain(2, 2)).effects()
    p = 1 / (1 + np.exp([-0.5, 1.0]))  # of the first label, with both
    q = 1 / (1 + np.exp([1.0, 1.0]))
    kl = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert effects["teacher-0"].changed == 0.5 and effects["teacher-0"].kl == pytest.approx(kl, rel=1e-5)
    assert effects["teacher-1"].changed == 0


@pytest.mark.parametrize("how", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_what_a_teacher_changes_against_float64(how: How, kind: str) -> None:
    logits = (2 * np.random.default_rng(4).standard_normal((3, 40, 3))).astype(np.float32)
    ensemble = plain(3, 3, kind, how)
    found = gathered(logits, ensemble, 7).effects()
    for name in ensemble.members:
        without = ensemble.without([name])
        assert without is not None
        full, less = (each.combine(logits).astype(np.float64) for each in (ensemble, without))
        if kind == "multi":
            p, q = 1 / (1 + np.exp(-full)), 1 / (1 + np.exp(-less))
            kl = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
            changed = ((full > 0) != (less > 0)).mean()
        else:
            log_p, log_q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (full, less))
            kl, changed = (np.exp(log_p) * (log_p - log_q)).sum(1).mean(), (full.argmax(1) != less.argmax(1)).mean()
        assert (found[name].changed, found[name].kl) == (pytest.approx(changed), pytest.approx(kl, rel=1e-4))


def test_one_teacher_has_no_others() -> None:
    pairs = gathered(saying([[0, 0, 0]], 2), plain(1, 2))
    assert pairs.effects() == {"teacher-0": Effect(None)} and pairs.collapsed() == {}


def test_a_teacher_without_weight_changes_nothing() -> None:
    ensemble = plain(3, 3).without(["teacher-1"])
    assert ensemble is not None
    logits = np.random.default_rng(5).standard_normal((3, 30, 3)).astype(np.float32)
    assert gathered(logits, ensemble).effects()["teacher-1"].to_json()["without"] == {"changed": 0, "kl": 0}


def test_temperature_and_prior_count_before_anything_is_compared() -> None:
    """Both say label 0 everywhere; without its prior the second says label 1."""
    ensemble = replace(plain(2, 2), log_priors=np.array([[0.0, 0.0], [5.0, 0.0]]))
    assert gathered(saying([[0, 0], [0, 0]], 2), ensemble).agreement[0, 1] == 0


def test_collapsed_teachers() -> None:
    """Nineteen of twenty rows are enough, eighteen are not; and the others together must still tell labels apart."""
    tell = [0, 1] * 10
    for ones, expected in ((19, {"teacher-2": 0.95}), (18, {}), (20, {"teacher-2": 1.0})):
        constant = [0] * ones + [1] * (20 - ones)
        assert gathered(saying([tell, tell, constant], 2), plain(3, 2), 5).collapsed() == expected
    assert gathered(saying([[0] * 20] * 3, 2), plain(3, 2)).collapsed() == {}


def test_collapsed_over_several_labels() -> None:
    """Sparse labels are mostly no; collapsed is who gives the same answer to every label."""
    tell = np.where(np.arange(20)[:, None] % 3 == np.arange(3), 1.0, -1.0)
    partly = np.where(np.arange(3) == 0, -1.0, tell)
    logits = np.stack([tell, tell, partly, np.full((20, 3), -1.0)]).astype(np.float32)
    assert gathered(logits, plain(4, 3, "multi")).collapsed() == {"teacher-3": 1.0}


def test_where_the_rows_are_cut_does_not_count() -> None:
    logits = np.random.default_rng(6).standard_normal((3, 50, 4)).astype(np.float32)
    whole, cut = gathered(logits, plain(3, 4)), gathered(logits, plain(3, 4), *range(1, 50))
    np.testing.assert_array_equal(whole.kappa, cut.kappa)
    for name, effect in whole.effects().items():
        assert cut.effects()[name].kl == pytest.approx(effect.kl)
