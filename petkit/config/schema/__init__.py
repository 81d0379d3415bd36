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
from petkit.config.schema.pipeline import (
    AutoVerbalizerSpec,
    ComputeSpec,
    DataSpec,
    DemonstrationsSpec,
    PatternSpec,
    PipelineSpec,
    VerbalizerSpec,
)
from petkit.config.schema.section import LabelKindName
from petkit.config.schema.training import (
    AdaptSpec,
    GenerationsSpec,
    PretrainPromptSpec,
    QuestionWords,
    SoftLabelsSpec,
    StudentSpec,
    TeachersSpec,
)

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
