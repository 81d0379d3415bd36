"""A whole pipeline: the sections together, and what follows from more than one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from petkit import limits
from petkit.config.names import BASELINE_NAMES
from petkit.config.rules import in_pipeline
from petkit.config.schema.pretraining import AdaptSpec, PretrainPromptSpec
from petkit.config.schema.section import LabelKindName, Name, Section, Weight
from petkit.config.schema.stages import GenerationsSpec, SoftLabelsSpec, StudentSpec, TeachersSpec
from petkit.config.schema.task import DataSpec, DemonstrationsSpec, PatternSpec, VerbalizerSpec

DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"


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


class PipelineSpec(Section):
    """A whole pipeline; what ``petkit run`` needs to know."""

    rule = in_pipeline

    task: Name = Field(description="short name of the task; the run folder is runs/<task>")
    label_kind: LabelKindName = Field("single", description="one label per row; any number of them; or one of an ordered scale")
    data: DataSpec
    patterns: tuple[PatternSpec, ...] = Field(
        min_length=1, max_length=limits.PATTERNS, description="a pattern file, or the patterns themselves"
    )
    keep_patterns: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all", description="how many of the patterns to use, best first in the ranking of petkit rank-patterns"
    )
    verbalizer: VerbalizerSpec = Field(description="a verbalizer file, or the verbalizer itself")
    model: str = Field("embedded", min_length=1, description="embedded, a folder or hub name of a masked or causal model")
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = Field(256, description="tokens per row, special tokens included")
    truncate: Literal["tail", "head", "middle"] = Field("tail", description="which end of a too long field is cut off")
    # Sections are strict about their own keys; an absent section means all of its defaults.
    demonstrations: DemonstrationsSpec = DemonstrationsSpec()
    teachers: TeachersSpec = TeachersSpec()
    generations: GenerationsSpec = GenerationsSpec()
    soft_labels: SoftLabelsSpec = SoftLabelsSpec()
    student: StudentSpec = StudentSpec()
    baselines: tuple[Annotated[str, BASELINE_NAMES], ...] = Field(
        (), description="compared on the same rows: without petkit's method, what would one have?"
    )
    adapt: AdaptSpec = AdaptSpec()
    pretrain_prompt: PretrainPromptSpec = PretrainPromptSpec()
    compute: ComputeSpec = ComputeSpec()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels named in the verbalizer, in the order of class numbers (none where auto takes those of train)."""
        return tuple(self.verbalizer.labels)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From which probability on a row has each label, in the order of ``labels`` (label_kind multi)."""
        return tuple(self.student.threshold(label) for label in self.labels)

    @property
    def hub_names(self) -> tuple[str, ...]:
        """What is to be had from the Hugging Face hub: datasets, and models that are no folder here."""
        sources = (self.data.train, self.data.unlabeled, self.data.test)
        models = (name for name in (self.model, self.student_model) if name != "embedded" and not Path(name).is_absolute())
        named = [source for source in sources if source is not None and source.startswith("hf://")]
        return (*named, *(name for name in models if not Path(name).is_dir()))

    @property
    def student_model(self) -> str:
        """The student's backbone."""
        return self.student.model or self.model

    @property
    def student_temperature(self) -> float:
        """The temperature of the student's logits in the distillation loss."""
        return self.student.temperature or self.soft_labels.temperature
