"""Stage C, the masked-LM training of ``petkit adapt``, and where arithmetic runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from petkit.config.names import DIVERGENCE_NAMES
from petkit.config.rules import in_student
from petkit.config.schema.adapter import AdaptedSection
from petkit.config.schema.section import (
    BatchSize,
    ContrastiveSpec,
    Counts,
    LabelName,
    OptimizerSection,
    PartialShare,
    PositiveFloat,
    Section,
    Seed,
    Share,
    Steps,
    Weight,
    refuse,
)

EVEN_CHANCE = 0.5
DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"


class StudentSpec(AdaptedSection):
    """Stage C: the classifier distilled from the soft labels."""

    model: Annotated[str | None, Counts(lambda student: False)] = Field(
        None, description="backbone of the student; default: the pipeline's model"
    )
    seed: Seed = Field(1, description="seed of the new head, the row order and dropout")
    steps: Steps = Field(400, description="optimizer steps")
    batch_size: BatchSize = Field(16, description="soft-labelled rows per step")
    gold_batch_size: Annotated[BatchSize, Counts(lambda student: student.hard_weight > 0)] = Field(
        4, description="labelled rows added to each step while hard_weight > 0"
    )
    learning_rate: Annotated[PositiveFloat, Counts(lambda student: student.adapted is None)] = Field(
        5e-5, description="peak rate, without an adapter; falls linearly to 0"
    )
    keep_adapter: Annotated[bool, Counts(lambda student: student.adapter.mergeable)] = Field(
        False, description="keep an adapter that is merged into the model, next to it"
    )
    warmup: Share = Field(0.1, description="share of the steps over which the rate rises from 0")
    temperature: Annotated[PositiveFloat | None, Counts(lambda student: False)] = Field(
        None, description="divides the student's logits in the loss; default: soft_labels.temperature"
    )
    divergence: Annotated[str, DIVERGENCE_NAMES] = Field("kl", description="distance of student and soft labels")
    hard_weight: Share = Field(0.2, description="share of the gold-label cross-entropy in the loss")
    label_smoothing: PartialShare = Field(0.0, description="share of the gold label given to all labels alike")
    focal_gamma: Weight = Field(0.0, description="exponent of the focal loss on labelled rows; 0: plain cross-entropy")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: labelled rows of rare labels weigh more")
    feature_weight: Weight = Field(
        0.0,
        description="weight of the distance between the student's first hidden vector, projected, and a teacher's at the mask",
    )
    r_drop_weight: Weight = Field(0.0, description="weight of the divergence between two dropout passes; needs dropout")
    consistency_weight: Weight = Field(0.0, description="weight of the divergence when some tokens of the row are hidden")
    masked_share: Annotated[PartialShare, Counts(lambda student: student.consistency_weight > 0)] = Field(
        0.15, description="share of the row's tokens that consistency hides"
    )
    contrastive: ContrastiveSpec = ContrastiveSpec()
    thresholds: Share | dict[LabelName, Share] = Field(
        EVEN_CHANCE,
        description="label_kind multi: from which probability on a row has a label; one for all, or label → its own (others: 0.5)",
    )

    def threshold(self, label: str) -> float:
        """Return from which probability on a row has ``label``."""
        return self.thresholds.get(label, EVEN_CHANCE) if isinstance(self.thresholds, dict) else self.thresholds

    @model_validator(mode="after")
    def _sound(self) -> StudentSpec:
        refuse(in_student(self.model_dump()))
        return self


class AdaptSpec(OptimizerSection):
    """``petkit adapt``: more masked-LM training on the unlabelled set (Gururangan et al. 2020)."""

    seed: Seed = Field(1, description="seed of the row order, of the hidden tokens and of dropout")
    steps: Steps = Field(500, description="optimizer steps")
    batch_size: BatchSize = Field(32, description="rows per step")
    learning_rate: PositiveFloat = Field(5e-5, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.06, description="share of the steps over which the rate rises from 0")
    mlm_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="share of tokens hidden")


class ComputeSpec(Section):
    """Where and how arithmetic runs. Only ``precision`` can change a result beyond rounding."""

    device: Annotated[str, StringConstraints(pattern=DEVICE)] = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where this processor multiplies faster in it"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="processor threads; default: all this process may use"
    )
    tokens_per_batch: Annotated[int, Field(ge=1)] = Field(4096, description="padded tokens per inference batch")
    checkpoint_minutes: Weight = Field(5.0, description="minutes between the points from which a killed training goes on")
