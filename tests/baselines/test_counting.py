"""Majority and TF-IDF against numbers worked out by hand and against scikit-learn used another way."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from petkit.baselines.linear import STRENGTHS, log_shares
from petkit.baselines.majority import majority_logits
from petkit.baselines.tfidf import tfidf_logits
from petkit.ensemble import LabelKind

TEXTS = ["a cat sat", "the cat ran", "cats purr", "a dog ran", "the dog sat", "dogs bark", "a cow", "the cow ate", "cows moo"]
LABELS = np.repeat(np.arange(3), 3)
ONE_EACH = np.eye(3, dtype=np.float32)[LABELS]


def features(texts: list[str]) -> np.ndarray:
    """Return the TF-IDF of words and characters, fitted on the few-shot texts."""
    settings = (
        {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"},
        {"ngram_range": (1, 5), "analyzer": "char_wb"},
    )
    fitted = [TfidfVectorizer(sublinear_tf=True, **entry).fit(TEXTS) for entry in settings]
    return np.hstack([vectorizer.transform(texts).toarray() for vectorizer in fitted])


def test_majority_is_the_log_of_smoothed_shares() -> None:
    targets = np.eye(3, dtype=np.float32)[[0, 2, 2, 2]]

    np.testing.assert_allclose(majority_logits(targets, 2), np.log([[2 / 7, 1 / 7, 4 / 7]] * 2), rtol=1e-6)


def test_majority_takes_the_first_of_equally_frequent_labels() -> None:
    assert majority_logits(np.eye(3, dtype=np.float32)[[2, 1, 2, 1, 0]], 1).argmax() == 1


def test_majority_of_several_labels_is_one_of_each() -> None:
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], np.float32)

    np.testing.assert_allclose(majority_logits(targets, 1, LabelKind.MULTI), np.log([[4 / 1, 3 / 2, 2 / 3]]), rtol=1e-6)


def test_tfidf_equals_the_regression_of_its_strength() -> None:
    logits, settings = tfidf_logits(TEXTS, ONE_EACH, ["my cat", "cows"])
    model = LogisticRegression(C=settings["C"], max_iter=1000).fit(features(TEXTS), LABELS)

    assert settings["C"] in STRENGTHS and settings["features"] == features(TEXTS).shape[1]
    np.testing.assert_allclose(logits, log_softmax(model.decision_function(features(["my cat", "cows"])), axis=1), atol=1e-3)
    assert logits.argmax(axis=1).tolist() == [0, 2]


def test_tfidf_strength_has_the_best_cross_validated_likelihood() -> None:
    """Three folds, because every label has three rows."""
    from sklearn.model_selection import StratifiedKFold

    known, losses = features(TEXTS), {}
    for strength in STRENGTHS:
        of_folds = []
        for train, held_out in StratifiedKFold(3, shuffle=True, random_state=0).split(known, LABELS):
            model = LogisticRegression(C=strength, max_iter=1000).fit(known[train], LABELS[train])
            sure = model.predict_proba(known[held_out])[np.arange(len(held_out)), LABELS[held_out]]
            of_folds.append(-np.log(sure).mean())
        losses[strength] = np.mean(of_folds)

    assert tfidf_logits(TEXTS, ONE_EACH, ["cat"])[1]["C"] == min(losses, key=losses.__getitem__)


def test_tfidf_of_single_rows_is_not_cross_validated() -> None:
    one_each = [TEXTS[0], TEXTS[3], TEXTS[6]]
    logits, settings = tfidf_logits(one_each, np.eye(3, dtype=np.float32), ["the dog"])

    assert settings["C"] == 10 and logits.argmax() == 1


def test_tfidf_of_several_labels_is_one_regression_each() -> None:
    """A label that every row has, or none, needs no regression: its log-odds are those of majority."""
    targets = np.column_stack([LABELS == 0, LABELS != 2, np.ones(9), np.zeros(9)]).astype(np.float32)
    logits, settings = tfidf_logits(TEXTS, targets, ["my cat", "cows"], LabelKind.MULTI)

    assert settings["C"][2:] == [None, None]
    np.testing.assert_allclose(logits[:, 2:], np.log([[10 / 1, 1 / 10]] * 2), rtol=1e-6)
    for label in (0, 1):
        model = LogisticRegression(C=settings["C"][label], max_iter=1000).fit(features(TEXTS), targets[:, label])
        expected = model.predict_proba(features(["my cat", "cows"]))[:, 1]
        np.testing.assert_allclose(expit(logits[:, label]), expected, atol=1e-3)
    assert (logits > 0).tolist() == [[True, True, True, False], [False, False, True, False]]


@pytest.mark.parametrize(
    ("texts", "unseen"),
    [
        (["好吃", "很好吃啊", "难吃", "太难吃了"], ["真好吃", "真难吃"]),
        (["😀", "😀 😀", "😡", "😡 😡"], ["oh 😀", "oh 😡"]),
    ],
    ids=["Chinese", "no words"],
)
def test_tfidf_reads_what_has_no_spaces_or_words(texts: list[str], unseen: list[str]) -> None:
    targets = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]

    assert tfidf_logits(texts, targets, unseen)[0].argmax(axis=1).tolist() == [0, 1]


def test_shares_of_labels_without_a_row_are_finite_and_tiny() -> None:
    logits = log_shares(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([0, 2]), 3)

    np.testing.assert_allclose(np.exp(logits), [[0.25, 0, 0.75], [1, 0, 0]], atol=1e-7)
    assert np.isfinite(logits).all()


def test_the_threads_of_the_process_have_no_part() -> None:
    texts = ["".join(random.choices("abcdefghij ", k=300)) for random in map(Random, range(40))]
    targets = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(tfidf_logits(texts, targets, texts)[0].tobytes())
    assert found[0] == found[1]
