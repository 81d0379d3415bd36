"""What is trained before any label is seen: ``petkit adapt`` and ``petkit pretrain-prompt``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from petkit.config.rules import in_question_words
from petkit.config.schema.adapter import Tokens
from petkit.config.schema.section import (
    BatchSize,
    Counts,
    LabelWord,
    OptimizerSection,
    PositiveFloat,
    Section,
    Seed,
    Share,
    Steps,
)


class AdaptSpec(OptimizerSection):
    """``petkit adapt``: more masked-LM training on the unlabelled set (Gururangan et al. 2020)."""

    seed: Seed = Field(1, description="seed of the row order, of the hidden tokens and of dropout")
    steps: Steps = Field(500, description="optimizer steps")
    batch_size: BatchSize = Field(32, description="rows per step")
    learning_rate: PositiveFloat = Field(5e-5, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.06, description="share of the steps over which the rate rises from 0")
    mlm_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="share of tokens hidden")


class QuestionWords(Section):
    """The label words of ``next_sentence``: the relation of the second of two sentences to the first; the paper's words."""

    rule = in_question_words

    next: LabelWord = Field("yes", description="it is the next one of the same text")
    same_text: LabelWord = Field("maybe", description="it is in the same text, but not next to the first")
    other_text: LabelWord = Field("no", description="it is of another row")


class PretrainPromptSpec(OptimizerSection):
    """``petkit pretrain-prompt``: virtual tokens trained on the unlabelled set, the model frozen (Gu et al. 2022)."""

    objective: Literal["next_sentence", "masked_lm", "both"] = Field(
        "next_sentence",
        description="next_sentence: does one sentence follow another? the paper's, for texts of several sentences; "
        "masked_lm: guess hidden words, for any text, not the paper's; both: the sum",
    )
    words: Annotated[QuestionWords, Counts(lambda prompt: prompt.asks_next_sentence)] = QuestionWords()
    tokens: Tokens = Field(16, description="virtual tokens; the pipelines that start from them have as many")
    seed: Seed = Field(1, description="seed of the first virtual tokens, of the rows, pairs and hidden tokens, and of dropout")
    steps: Steps = Field(1000, description="optimizer steps")
    batch_size: BatchSize = Field(32, description="pairs of sentences per step, and as many rows for masked_lm")
    learning_rate: PositiveFloat = Field(1e-2, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.06, description="share of the steps over which the rate rises from 0")
    mlm_share: Annotated[float, Field(gt=0, lt=1), Counts(lambda prompt: prompt.hides_words)] = Field(
        0.15, description="share of tokens hidden for masked_lm"
    )

    @property
    def asks_next_sentence(self) -> bool:
        """Whether pairs of sentences are among what it learns from."""
        return self.objective != "masked_lm"

    @property
    def hides_words(self) -> bool:
        """Whether hidden words are."""
        return self.objective != "next_sentence"
