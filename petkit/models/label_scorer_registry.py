"""The label scorers that a pipeline file chooses by name; other packages add theirs by entry points."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from petkit.config.registry import LABEL_SCORER_NAMES, Registry
from petkit.models.label_scorers import LabelScorer, MultiTokenScorer, VectorScorer, WordScorer
from petkit.models.mask_reader import MaskReader
from petkit.models.next_token_scorer import NextTokenScorer
from petkit.prompts.pvp import PVP

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Build(Protocol):
    """Makes the scorer of a PVP from a model, or from the reader of another scorer's.

    Args:
        soft_tokens: how many soft tokens it has.
        normalised: give log-probabilities under the whole vocabulary where plain logits would do; of scorers of words.
    """

    def __call__(self, model: PreTrainedModel | MaskReader, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer: ...


def _of_words(model: PreTrainedModel | MaskReader, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    words = pvp.words.token_ids
    if pvp.words.longest == 1 and not normalised:
        return WordScorer(model, words, soft_tokens)
    if pvp.pattern.open_ended:
        return NextTokenScorer(model, words, soft_tokens)
    return MultiTokenScorer(model, words, pvp.verbalizer.decoding, soft_tokens)


def _of_vectors(kind: str, model: PreTrainedModel | MaskReader, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    return VectorScorer(model, pvp.words.token_ids, kind, soft_tokens)


LABEL_SCORERS: Final[Registry[Build]] = Registry(
    LABEL_SCORER_NAMES,
    {"words": _of_words, "soft": partial(_of_vectors, "soft"), "prototype": partial(_of_vectors, "prototype")},
)
