"""Everything a user can write, with its unit and its default. Defaults live here and nowhere else."""

from petkit.config.schema.adapter import (
    AdapterSpec,
    AnyAdapter,
    DeepPrefixSpec,
    Ia3Spec,
    LoraSpec,
    NoAdapter,
    PromptEncoderSpec,
    PromptTuningSpec,
    TrainedAdapter,
    adapter_class,
)
from petkit.config.schema.pipeline import ComputeSpec, PipelineSpec
from petkit.config.schema.pretraining import AdaptSpec, PretrainPromptSpec, QuestionWords
from petkit.config.schema.section import LabelKindName
from petkit.config.schema.stages import GenerationsSpec, SoftLabelsSpec, StudentSpec, TeachersSpec
from petkit.config.schema.task import AutoVerbalizerSpec, DataSpec, DemonstrationsSpec, PatternSpec, VerbalizerSpec

__all__ = [
    "AdaptSpec",
    "AdapterSpec",
    "AnyAdapter",
    "AutoVerbalizerSpec",
    "ComputeSpec",
    "DataSpec",
    "DeepPrefixSpec",
    "DemonstrationsSpec",
    "GenerationsSpec",
    "Ia3Spec",
    "LabelKindName",
    "LoraSpec",
    "NoAdapter",
    "PatternSpec",
    "PipelineSpec",
    "PretrainPromptSpec",
    "PromptEncoderSpec",
    "PromptTuningSpec",
    "QuestionWords",
    "SoftLabelsSpec",
    "StudentSpec",
    "TeachersSpec",
    "TrainedAdapter",
    "VerbalizerSpec",
    "adapter_class",
]
