"""Other classifiers from the same labelled rows: one module each, and a registry by name.

Each scores the test rows; comparing them with the student is :mod:`petkit.metrics`, running them as steps
:mod:`petkit.stages.baselines`. Other packages add theirs by entry points.
"""

from typing import Final

from petkit.baselines.base import Baseline
from petkit.baselines.majority import MAJORITY
from petkit.baselines.probe import PROBE
from petkit.baselines.setfit import SETFIT
from petkit.baselines.supervised import SUPERVISED
from petkit.baselines.tfidf import TFIDF
from petkit.baselines.zero_shot import ZERO_SHOT
from petkit.config.registry import BASELINE_NAMES, Registry

BASELINES: Final[Registry[Baseline]] = Registry(
    BASELINE_NAMES,
    {"majority": MAJORITY, "tfidf": TFIDF, "zero_shot": ZERO_SHOT, "probe": PROBE, "supervised": SUPERVISED, "setfit": SETFIT},
)
