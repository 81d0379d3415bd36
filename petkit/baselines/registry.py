"""The baselines by the name that a pipeline file gives them; other packages add theirs as entry points ``petkit.baselines``."""

from petkit.baselines.base import Baseline
from petkit.baselines.majority import MAJORITY
from petkit.baselines.setfit import SETFIT
from petkit.baselines.supervised import SUPERVISED
from petkit.baselines.tfidf import TFIDF
from petkit.baselines.zero_shot import ZERO_SHOT

BASELINES: dict[str, Baseline] = {
    "majority": MAJORITY,
    "tfidf": TFIDF,
    "zero_shot": ZERO_SHOT,
    "supervised": SUPERVISED,
    "setfit": SETFIT,
}
