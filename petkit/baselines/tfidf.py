"""Logistic regression on the TF-IDF of words and characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from petkit.baselines.base import Answer, Baseline, targets, texts
from petkit.baselines.linear import linear_logits
from petkit.ensemble import FloatArray, LabelKind

# A mark or an emoji is a word too: a row may consist of nothing else.
_WORD = r"(?u)\w+|[^\w\s]"


def tfidf_logits(texts: Sequence[str], targets: FloatArray, unseen: Sequence[str], kind: LabelKind = LabelKind.SINGLE) -> Answer:
    """Train a logistic regression on the TF-IDF of ``texts`` with ``targets (texts, labels)``, and apply it to ``unseen`` ones.

    Words alone and in pairs; one to five characters inside words, for endings, misspellings
    and languages without spaces.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORD, sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True)
    counted = make_union(words, characters)
    known, new = counted.fit_transform(texts), counted.transform(unseen)
    logits, strength = linear_logits(known, targets, new, kind)
    settings: dict[str, Any] = {"words": [1, 2], "characters": [1, 5], "features": int(known.shape[1]), "C": strength}
    return logits, settings


TFIDF = Baseline(
    lambda task, device, job: tfidf_logits(texts(task, "train"), targets(task), texts(task, "test"), task.label_kind),
)
