"""What word counting makes of the same labelled rows: TF-IDF and logistic regression, trained on data.train alone.

    python benchmarks/tfidf.py examples/support-tickets/pipeline.yaml

The last line is the accuracy on the pipeline's test set in percent.
"""

from __future__ import annotations

import argparse

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from petkit.spec.loader import load_pipeline
from petkit.task.examples import ExampleSource
from petkit.task.pvp import task_fields


def tfidf_accuracy(pipeline: str) -> float:
    """Train on the few-shot examples, return the share of test rows labelled correctly."""
    spec = load_pipeline(pipeline).spec
    assert spec.data.test is not None, "the pipeline names no test set"
    fields = task_fields(spec.patterns)
    train, test = (list(ExampleSource(path, spec.data, fields, spec.labels)) for path in (spec.data.train, spec.data.test))
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    model.fit([" ".join(row.fields.values()) for row in train], [row.label for row in train])
    return float(model.score([" ".join(row.fields.values()) for row in test], [row.label for row in test]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pipeline")
    print(f"{100 * tfidf_accuracy(parser.parse_args().pipeline):.1f}")
