"""Figures about predictions with known labels: decisions, metrics with intervals, information measures, and the comparison with baselines.

Pure functions over numpy arrays; what combines teachers is :mod:`petkit.ensemble`, what writes reports the stages.
"""

from petkit.metrics.candidates import CandidateMetrics, answer_f1, evaluate_candidates
from petkit.metrics.comparison import Comparison, compare, verdict
from petkit.metrics.decision import Decision
from petkit.metrics.information import (
    cross_entropy,
    entropy,
    jensen_shannon,
    jensen_shannon_distance,
    kl_divergence,
    mutual_information,
    perplexity,
)
from petkit.metrics.metrics import LabelMetrics, Metrics, MultiLabelMetrics, OrdinalMetrics, SingleLabelMetrics, evaluate

__all__ = [
    "CandidateMetrics",
    "Comparison",
    "Decision",
    "LabelMetrics",
    "Metrics",
    "MultiLabelMetrics",
    "OrdinalMetrics",
    "SingleLabelMetrics",
    "answer_f1",
    "compare",
    "cross_entropy",
    "entropy",
    "evaluate",
    "evaluate_candidates",
    "jensen_shannon",
    "jensen_shannon_distance",
    "kl_divergence",
    "mutual_information",
    "perplexity",
    "verdict",
]
