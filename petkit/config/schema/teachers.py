"""Stage A: what trains a teacher, and how later generations follow (iPET)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from petkit import limits
from petkit.config.names import LOSS_NAMES
from petkit.config.rules import in_seeds, in_training
from petkit.config.schema.adapter import AdaptedSection
from petkit.config.schema.section import (
    BatchSize,
    ConsistencySpec,
    ContrastiveSpec,
    Counts,
    PartialShare,
    PositiveFloat,
    Section,
    Seed,
    Share,
    Steps,
    Weight,
    refuse,
)


class TeachersSpec(AdaptedSection):
    """Stage A: one teacher per pattern and seed."""

    seeds: Annotated[tuple[Seed, ...], Counts(lambda teachers: False)] = Field(
        (1, 2, 3), min_length=1, max_length=limits.SEEDS, description="one teacher per pattern and seed"
    )
    steps: Steps = Field(100, description="optimizer steps of each teacher")
    batch_size: BatchSize = Field(16, description="labelled rows per step")
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
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: rows of rare labels weigh more")
    auxiliary_mlm_weight: PartialShare = Field(0.0, description="share of the masked-LM loss on unlabelled rows; the paper: 1e-4")
    label_conditioning_weight: Weight = Field(0.0, description="weight of ADAPET's label-conditioned masked-LM loss")
    unlabeled_batch_size: Annotated[BatchSize, Counts(lambda teachers: teachers.auxiliary_mlm_weight > 0)] = Field(
        12, description="unlabelled rows added to each step for the masked-LM loss"
    )
    mlm_share: Annotated[
        float,
        Field(gt=0, lt=1),
        Counts(lambda teachers: teachers.auxiliary_mlm_weight > 0 or teachers.label_conditioning_weight > 0),
    ] = Field(0.15, description="share of tokens hidden for masked-LM losses")
    r_drop_weight: Weight = Field(0.0, description="weight of the divergence between two dropout passes; needs dropout")
    consistency: ConsistencySpec = ConsistencySpec()
    contrastive: ContrastiveSpec = ContrastiveSpec()

    @model_validator(mode="after")
    def _sound(self) -> TeachersSpec:
        refuse(in_seeds(self.seeds) + in_training(self.model_dump()))
        return self

    @property
    def scores_vocabulary(self) -> bool:
        """Whether the loss compares label words with the whole vocabulary, and needs log-probabilities under it."""
        return self.loss == "decoupled_label"


class GenerationsSpec(Section):
    """iPET: teachers of a new generation learn from rows that teachers of the last one labelled (PET, section 3.4)."""

    count: Annotated[int, Field(ge=0, le=20)] | Literal["auto"] = Field(
        0, description="further generations; auto: until the training set would reach 1,000 rows"
    )
    scale: Annotated[float, Field(gt=1, allow_inf_nan=False)] = Field(
        5.0, description="growth of the training set per generation"
    )
    teacher_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of the other teachers that label a teacher's rows; at least one"
    )
    per_label_from_zero: Annotated[int, Field(ge=1)] = Field(
        100, description="rows per label of the first generation where there are no labelled rows"
    )
