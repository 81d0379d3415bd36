"""The label scorers that a pipeline file chooses by name; other packages add theirs by entry points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from petkit.config.registry import LABEL_SCORER_NAMES, Registry
from petkit.models.label_scorers import LabelScorer, MultiTokenScorer, VectorScorer, WordScorer
from petkit.models.next_token_scorer import NextTokenScorer
from petkit.prompts.pvp import PVP


def _of_words(model: Any, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    words = pvp.words.token_ids
    if pvp.words.longest == 1 and not normalised:
        return WordScorer(model, words, soft_tokens)
    if pvp.pattern.open_ended:
        return NextTokenScorer(model, words, soft_tokens)
    return MultiTokenScorer(model, words, pvp.verbalizer.decoding, soft_tokens)


def _of_vectors(kind: str, model: Any, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    return VectorScorer(model, pvp.words.token_ids, kind, soft_tokens)


# Called with a model (or the mask reader of another scorer's), a PVP, the number of soft tokens, and whether to give
# log-probabilities under the whole vocabulary where plain logits would do.
LABEL_SCORERS: Final[Registry[Callable[[Any, PVP, int, bool], LabelScorer]]] = Registry(
    LABEL_SCORER_NAMES,
    {"words": _of_words, "soft": partial(_of_vectors, "soft"), "prototype": partial(_of_vectors, "prototype")},
)
