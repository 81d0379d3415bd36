"""Everything a user can write, with its unit and its default. Defaults live here and nowhere else."""

from petkit.spec.schema.pipeline import PipelineSpec
from petkit.spec.schema.section import LabelKind
from petkit.spec.schema.soft_labels import SoftLabelsSpec
from petkit.spec.schema.student import AdaptSpec, ComputeSpec, StudentSpec
from petkit.spec.schema.task import AutoVerbalizerSpec, DataSpec, DemonstrationsSpec, PatternSpec, VerbalizerSpec
from petkit.spec.schema.teachers import GenerationsSpec, TeachersSpec

__all__ = [
    "AdaptSpec",
    "AutoVerbalizerSpec",
    "ComputeSpec",
    "DataSpec",
    "DemonstrationsSpec",
    "GenerationsSpec",
    "LabelKind",
    "PatternSpec",
    "PipelineSpec",
    "SoftLabelsSpec",
    "StudentSpec",
    "TeachersSpec",
    "VerbalizerSpec",
]
