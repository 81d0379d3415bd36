"""What is trained: teachers (stage A, iPET), on their soft labels (B) a student (C); and models and prompts before any label is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from petkit import limits
from petkit.config.registry import CALIBRATION_NAMES, DIVERGENCE_NAMES, LOSS_NAMES
from petkit.config.rules import in_question_words, in_student, in_training
from petkit.config.schema.adapter import AdapterSpec, AnyAdapter, NoAdapter, Tokens
from petkit.config.schema.section import (
    Counts,
    LabelName,
    LabelWord,
    PartialShare,
    PositiveFloat,
    Section,
    Share,
    Temperature,
    Weight,
)

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
ClassWeights = Literal["none", "balanced"] | dict[LabelName, PositiveFloat]
EVEN_CHANCE = 0.5
_STOP_STEPS, _STOP_LOSS = 8, 0.05  # one batch alone may be easy
# Measured on the embedded model (docs/defaults.md); wider models need the lower rates of their papers.
_RATE, _RATE_WIDTH = 2e-4, 384


class OptimizerSection(Section):
    """AdamW with clipping and a linear decay of its rate."""

    weight_decay: Weight = Field(0.01, description="AdamW decay; bias and norm weights are exempt")
    adam_epsilon: PositiveFloat = Field(1e-8, description="AdamW epsilon")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this 2-norm")
    dropout: PartialShare = Field(0.0, description="dropout probability while training")

    @property
    def drops_units(self) -> bool:
        """Whether results depend on which units each step drops."""
        return self.dropout > 0


class AdaptedSection(OptimizerSection):
    """A training of a model, or of an adapter of a frozen one."""

    adapter: AdapterSpec = Field(NoAdapter(), description="what is trained instead of the model's own weights")
    freeze: Annotated[
        Literal["none", "embeddings", "half"] | Annotated[int, Field(ge=1, le=1000)],
        Counts(lambda section: section.adapted is None and section.freeze != "none", "with an adapter the whole model is frozen"),
    ] = Field("none", description="what is not trained: the embeddings; and the lower half of the layers, or so many of them")
    learning_rate: PositiveFloat | Literal["auto"]

    @property
    def adapted(self) -> AnyAdapter | None:
        """The adapter, where there is one."""
        return None if isinstance(self.adapter, NoAdapter) else self.adapter

    @property
    def drops_units(self) -> bool:
        """Whether results depend on which units of the model or the adapter each step drops."""
        return self.dropout > 0 or getattr(self.adapter, "dropout", 0.0) > 0

    @property
    def in_training(self) -> Self:
        """The settings with the rate of what is trained."""
        return self if self.adapted is None else self.model_copy(update={"learning_rate": self.adapted.learning_rate})


class ContrastiveSpec(Section):
    """Contrastive loss between the rows of a batch: partners come together, others apart."""

    inner = True

    partners: Annotated[Literal["same_label", "masked_view"], Counts(lambda loss: loss.weight > 0, "weight is 0")] = Field(
        "same_label",
        description="rows of the same label (Khosla et al. 2020); or a row and its copy with some tokens hidden (InfoNCE)",
    )
    weight: Weight = Field(0.0, description="weight of the loss added to the main one; 0: off")
    temperature: Annotated[Temperature, Counts(lambda loss: loss.weight > 0, "weight is 0")] = Field(
        0.1, description="divides the cosine similarities"
    )
    masked_share: Annotated[
        PartialShare,
        Counts(lambda loss: loss.weight > 0 and loss.partners == "masked_view", "weight is 0, or partners is not masked_view"),
    ] = Field(0.15, description="share of the row's tokens that masked_view hides")


class ConsistencySpec(Section):
    """The prediction for a row should not change with another wording of the question."""

    inner = True

    kind: Literal["none", "word_masking", "second_pattern"] = Field(
        "none", description="none, word_masking (some tokens of the row hidden), second_pattern (the next pattern of the file)"
    )
    weight: Annotated[Weight, Counts(lambda loss: loss.kind != "none", "kind is none")] = Field(
        1.0, description="weight of the loss added to the main one"
    )
    masked_share: Annotated[PartialShare, Counts(lambda loss: loss.kind == "word_masking", "kind is not word_masking")] = Field(
        0.15, description="share of the row's tokens that word_masking hides"
    )


class TeachersSpec(AdaptedSection):
    """Stage A: one teacher per pattern and seed."""

    rule = in_training

    seeds: Annotated[tuple[Seed, ...], Counts(lambda teachers: False)] = Field(
        (1,), min_length=1, max_length=limits.SEEDS, description="one teacher per pattern and seed"
    )
    scoring: Annotated[Literal["auto", "mask", "replaced_token", "next_token"], Counts(lambda teachers: False)] = Field(
        "auto",
        description="how the model answers: mask; replaced_token: a discriminator (ELECTRA) judges each label word in the slot; "
        "next_token: a causal model; auto: by the head it has",
    )
    steps: Steps = Field(100, description="optimizer steps of each teacher, at most")
    stop_loss: Annotated[
        Weight | Literal["auto"], Counts(lambda teachers: teachers.stops_below > 0 and teachers.steps > _STOP_STEPS)
    ] = Field(
        "auto",
        description="make no further steps once every row was seen and the mean loss of the last 8 steps is below this; "
        "0: make all of them; auto: 0.05 where the loss is plain cross-entropy, otherwise 0",
    )
    batch_size: BatchSize = Field(16, description="labelled rows per step; half of them where there are no more")
    learning_rate: Annotated[PositiveFloat, Counts(lambda teachers: teachers.adapted is None)] = Field(
        3e-5, description="peak rate, without an adapter; falls linearly to 0"
    )
    new_learning_rate: PositiveFloat = Field(
        1e-3, description="peak rate of what is new: soft tokens, and label vectors of soft and prototype verbalizers"
    )
    warmup: Share = Field(0.0, description="share of the steps over which the rate rises from 0")
    loss: Annotated[str, LOSS_NAMES] = Field(
        "cross_entropy",
        description="over label logits; hinge: that of Schick & Schütze 2021b; decoupled_label: ADAPET's; "
        "next_token: of the gold word's tokens over the whole vocabulary (causal models)",
    )
    label_smoothing: PartialShare = Field(0.0, description="share of the gold label given to all labels alike")
    focal_gamma: Weight = Field(0.0, description="exponent of the focal loss; 0: plain cross-entropy")
    class_weights: ClassWeights = Field(
        "none", description="balanced: rare labels weigh more; or label → weight (others: 1) of its rows, or of its yes or no"
    )
    auxiliary_mlm_weight: PartialShare = Field(0.0, description="share of the masked-LM loss on unlabelled rows; the paper: 1e-4")
    label_conditioning_weight: Weight = Field(0.0, description="weight of ADAPET's label-conditioned masked-LM loss")
    unlabeled_batch_size: Annotated[
        BatchSize, Counts(lambda teachers: teachers.auxiliary_mlm_weight > 0, "auxiliary_mlm_weight is 0")
    ] = Field(12, description="unlabelled rows added to each step for the masked-LM loss; half of them where there are no more")
    mlm_share: Annotated[
        float,
        Field(gt=0, lt=1),
        Counts(
            lambda teachers: teachers.auxiliary_mlm_weight > 0 or teachers.label_conditioning_weight > 0,
            "auxiliary_mlm_weight and label_conditioning_weight are 0",
        ),
    ] = Field(0.15, description="share of tokens hidden for masked-LM losses")
    r_drop_weight: Weight = Field(0.0, description="weight of the divergence between two dropout passes; needs dropout")
    consistency: ConsistencySpec = ConsistencySpec()
    contrastive: ContrastiveSpec = ContrastiveSpec()

    @property
    def stops_below(self) -> float:
        """The number that ``stop_loss`` stands for; other losses than plain cross-entropy have other scales."""
        if self.stop_loss != "auto":
            return self.stop_loss
        added = (self.auxiliary_mlm_weight, self.label_conditioning_weight, self.r_drop_weight, self.contrastive.weight)
        changed = self.focal_gamma, self.label_smoothing
        alike = self.class_weights == "none" and self.consistency.kind == "none"
        plain = self.loss == "cross_entropy" and alike and not any((*added, *changed))
        return _STOP_LOSS if plain else 0.0

    def learnt(self, losses: Sequence[float]) -> bool:
        """Return whether the last steps' losses are below ``stop_loss``."""
        last = losses[-_STOP_STEPS:]
        return len(last) == _STOP_STEPS and sum(last) < _STOP_STEPS * self.stops_below

    @property
    def scores_vocabulary(self) -> bool:
        """Whether the loss compares label words with the whole vocabulary, and needs log-probabilities under it."""
        return self.loss == "decoupled_label"


_LATER = Counts(lambda generations: generations.count != 0, "count is 0")


class GenerationsSpec(Section):
    """iPET: teachers of a new generation learn from rows that teachers of the last one labelled (PET, section 3.4)."""

    count: Annotated[int, Field(ge=0, le=20)] | Literal["auto"] = Field(
        0, description="further generations; auto: until the training set would reach 1,000 rows"
    )
    scale: Annotated[float, Field(gt=1, le=1_000_000, allow_inf_nan=False), _LATER] = Field(
        5.0, description="growth of the training set per generation"
    )
    teacher_share: Annotated[float, Field(gt=0, le=1), _LATER] = Field(
        0.25, description="share of the other teachers that label a teacher's rows; at least one"
    )
    per_label_from_zero: Annotated[int, Field(ge=1, le=limits.LABELLED_ROWS)] = Field(
        100, description="rows per label of the first generation where there are no labelled rows"
    )


_OUT_OF_FOLD = Counts(lambda soft: soft.out_of_fold, "neither weighting nor teacher_temperature is out_of_fold")


class SoftLabelsSpec(Section):
    """Stage B: how the teachers' label logits become one soft label per row."""

    rows: Annotated[int, Field(ge=1, le=10**9)] | Literal["auto", "all"] = Field(
        "auto",
        description="unlabelled rows that the teachers label, drawn at random; auto: as many as the student reads three times each, "
        "at least 500, and all of them where generations choose among them",
    )
    combine: Literal["logits", "log_probs", "probs"] = Field("logits", description="what is averaged over the teachers")
    weighting: Literal["uniform", "train_accuracy", "out_of_fold"] = Field(
        "uniform",
        description="weight of each teacher; train_accuracy: of its untrained pattern on the labelled rows; "
        "out_of_fold: of teachers trained without the rows they score",
    )
    teacher_temperature: Literal["one", "out_of_fold"] = Field(
        "one", description="out_of_fold: divide each teacher's logits by the temperature that fits its out-of-fold rows"
    )
    folds: Annotated[int, Field(ge=2, le=20), _OUT_OF_FOLD] = Field(4, description="folds of the out-of-fold scores")
    calibration: Annotated[str, CALIBRATION_NAMES] = Field(
        "none",
        description="subtract each teacher's label prior from its logits: contextual: the log of its mean "
        "answer to empty texts; batch: what makes its mean answer on the unlabelled set even, where labels are about equally frequent",
    )
    drop_collapsed: bool = Field(False, description="leave out teachers that give (nearly) every row the same label")
    temperature: Temperature = Field(2.0, description="divides the combined logits before the softmax")
    prior: Literal["none", "uniform", "train"] | dict[LabelName, Weight] = Field(
        "none", description="shift the soft labels so that their mean (at temperature 1) is this: label → share, or as in train"
    )
    confidence_weights: bool = Field(True, description="weigh a row in stage C by 1 - entropy / ln(labels), at temperature 1")
    min_probability: Share = Field(0.0, description="leave out rows whose best label has a lower probability (at temperature 1)")
    top_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="keep this share of each label's rows, the surest ones"
    )

    @property
    def out_of_fold(self) -> bool:
        """Whether teachers trained without some rows score these."""
        return "out_of_fold" in (self.weighting, self.teacher_temperature)


class StudentSpec(AdaptedSection):
    """Stage C: the classifier distilled from the soft labels."""

    rule = in_student

    model: Annotated[str | None, Counts(lambda student: False)] = Field(
        None, description="backbone of the student; default: the pipeline's model"
    )
    seed: Seed = Field(1, description="seed of the new head, the row order and dropout")
    steps: Steps = Field(150, description="optimizer steps")
    batch_size: BatchSize = Field(16, description="soft-labelled rows per step; half of them where there are no more")
    gold_batch_size: Annotated[BatchSize, Counts(lambda student: student.hard_weight > 0, "hard_weight is 0")] = Field(
        4, description="labelled rows added to each step while hard_weight > 0; half of them where there are no more"
    )
    learning_rate: Annotated[PositiveFloat | Literal["auto"], Counts(lambda student: student.adapted is None)] = Field(
        "auto",
        description="peak rate, without an adapter; falls linearly to 0; auto: 2e-4 up to a width of 384, the embedded model's, "
        "and less by its square for wider models (BERT-base 5e-5, RoBERTa-large 2.8e-5)",
    )
    keep_adapter: Annotated[bool, Counts(lambda student: student.adapter.mergeable)] = Field(
        False, description="keep an adapter that is merged into the model, next to it"
    )
    warmup: Share = Field(0.1, description="share of the steps over which the rate rises from 0")
    temperature: Annotated[Temperature | None, Counts(lambda student: False)] = Field(
        None, description="divides the student's logits in the loss; default: soft_labels.temperature"
    )
    divergence: Annotated[str, DIVERGENCE_NAMES] = Field("kl", description="distance of student and soft labels")
    hard_weight: Share = Field(
        0.0, description="share of the cross-entropy of labelled rows in the loss; 0, as in the paper: soft labels alone"
    )
    label_smoothing: PartialShare = Field(0.0, description="share of the gold label given to all labels alike")
    focal_gamma: Weight = Field(0.0, description="exponent of the focal loss on labelled rows; 0: plain cross-entropy")
    class_weights: ClassWeights = Field("none", description="as that of teachers, for labelled rows")
    feature_weight: Weight = Field(
        0.0,
        description="weight of the distance between the student's first hidden vector, projected, and a teacher's at the mask",
    )
    r_drop_weight: Weight = Field(0.0, description="weight of the divergence between two dropout passes; needs dropout")
    consistency_weight: Weight = Field(0.0, description="weight of the divergence when some tokens of the row are hidden")
    masked_share: Annotated[PartialShare, Counts(lambda student: student.consistency_weight > 0, "consistency_weight is 0")] = (
        Field(0.15, description="share of the row's tokens that consistency hides")
    )
    contrastive: ContrastiveSpec = ContrastiveSpec()
    thresholds: Share | dict[LabelName, Share] = Field(
        EVEN_CHANCE,
        description="label_kind multi: from which probability on a row has a label; one for all, or label → its own (others: 0.5)",
    )

    def for_width(self, hidden: int) -> Self:
        """Return the settings with a number for ``learning_rate: auto``, given the width of a token's vector."""
        if self.learning_rate != "auto" or self.adapted is not None:
            return self
        return self.model_copy(update={"learning_rate": _RATE * min(1.0, (_RATE_WIDTH / hidden) ** 2)})

    def threshold(self, label: str) -> float:
        """Return from which probability on a row has ``label``."""
        return self.thresholds.get(label, EVEN_CHANCE) if isinstance(self.thresholds, dict) else self.thresholds


class AdaptSpec(OptimizerSection):
    """``petkit adapt``: more masked-LM training on the unlabelled set (Gururangan et al. 2020)."""

    seed: Seed = Field(1, description="seed of the row order, of the hidden tokens and of dropout")
    steps: Steps = Field(500, description="optimizer steps")
    batch_size: BatchSize = Field(32, description="rows per step; half of them where there are no more")
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
    words: Annotated[QuestionWords, Counts(lambda prompt: prompt.objective != "masked_lm")] = QuestionWords()
    tokens: Tokens = Field(16, description="virtual tokens; the pipelines that start from them have as many")
    seed: Seed = Field(1, description="seed of the first virtual tokens, of the rows, pairs and hidden tokens, and of dropout")
    steps: Steps = Field(1000, description="optimizer steps")
    batch_size: BatchSize = Field(32, description="pairs of sentences per step, and as many rows for masked_lm")
    learning_rate: PositiveFloat = Field(1e-2, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.06, description="share of the steps over which the rate rises from 0")
    mlm_share: Annotated[
        float, Field(gt=0, lt=1), Counts(lambda prompt: prompt.objective != "next_sentence", "objective is next_sentence")
    ] = Field(0.15, description="share of tokens hidden for masked_lm")
