"""Stage B: how the teachers' label logits become soft labels, and which rows count."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from petkit.config.names import CALIBRATION_NAMES
from petkit.config.schema.section import LabelName, PositiveFloat, Section, Share, Weight


class SoftLabelsSpec(Section):
    """Stage B: how the teachers' label logits become one soft label per row."""

    combine: Literal["logits", "log_probs", "probs"] = Field("logits", description="what is averaged over the teachers")
    weighting: Literal["uniform", "train_accuracy", "out_of_fold"] = Field(
        "uniform",
        description="weight of each teacher; train_accuracy: of its untrained pattern on the labelled rows; "
        "out_of_fold: of teachers trained without the rows they score",
    )
    teacher_temperature: Literal["one", "out_of_fold"] = Field(
        "one", description="out_of_fold: divide each teacher's logits by the temperature that fits its out-of-fold rows"
    )
    folds: Annotated[int, Field(ge=2, le=20)] = Field(4, description="folds of the out-of-fold scores")
    calibration: Annotated[str, CALIBRATION_NAMES] = Field(
        "none",
        description="subtract each teacher's label prior from its logits: contextual: the log of its mean "
        "answer to empty texts; batch: what makes its mean answer on the unlabelled set even, where labels are about equally frequent",
    )
    drop_collapsed: bool = Field(False, description="leave out teachers that give (nearly) every row the same label")
    temperature: PositiveFloat = Field(2.0, description="divides the combined logits before the softmax")
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
