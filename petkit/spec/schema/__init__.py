"""Everything a user can write, with its unit and its default. Defaults live here and nowhere else."""

from petkit.spec.schema.adapter import (
    AdapterSpec,
    AnyAdapter,
    DeepPrefixSpec,
    Ia3Spec,
    LoraSpec,
    NoAdapter,
    PromptEncoderSpec,
    PromptTuningSpec,
    adapter_class,
)
from petkit.spec.schema.pipeline import PipelineSpec
from petkit.spec.schema.pretrain_prompt import PretrainPromptSpec, QuestionWords
from petkit.spec.schema.section import LabelKind
from petkit.spec.schema.soft_labels import SoftLabelsSpec
from petkit.spec.schema.student import AdaptSpec, ComputeSpec, StudentSpec
from petkit.spec.schema.task import AutoVerbalizerSpec, DataSpec, DemonstrationsSpec, PatternSpec, VerbalizerSpec
from petkit.spec.schema.teachers import GenerationsSpec, TeachersSpec

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
    "LabelKind",
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
    "VerbalizerSpec",
    "adapter_class",
]
