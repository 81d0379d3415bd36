"""Everything a user can write, with its unit and its default. Defaults live here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from petkit.spec.rules import Mistakes, in_labels, in_pattern, in_pattern_ids, in_seeds

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LabelWord = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _refuse(found: Mistakes) -> None:
    """Raise one validation error that tells all mistakes; do nothing for none.

    ``petkit.spec.loader`` finds each again by ``mistakes_between_values`` and gives it its own line.
    """
    if found:
        raise PydanticCustomError("petkit", "{text}", {"text": "; ".join(message for _, message in found)})


class Section(BaseModel):
    """A frozen part of the specification that refuses unknown keys and silent type changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataSpec(Section):
    """Where the rows are and which columns hold what."""

    train: str = Field(description="few-shot examples: jsonl, csv, tsv or parquet file, or hf://owner/name[/config]/split")
    unlabeled: str = Field(description="unlabelled set, same formats; read as a stream")
    test: str | None = Field(None, description="optional test set; nothing is ever selected on it")
    columns: dict[str, str] = Field(
        default_factory=dict, description="field name → column name; 'label' and 'id' name those columns"
    )
    label_names: tuple[LabelName, ...] | None = Field(
        None, description="label of each class number, where labels are numbers 0, 1, …"
    )

    def column(self, field: str) -> str:
        """Return the column that holds ``field`` (the field's own name unless mapped)."""
        return self.columns.get(field, field)


class PatternSpec(Section):
    """One cloze pattern: one text, or two for models with sentence pairs."""

    id: Name = Field(description="short name, used in tables and folder names")
    text: str | tuple[str, ...] = Field(description="one segment, or a list of two")

    @property
    def segments(self) -> tuple[str, ...]:
        """The segment texts, one or two."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @model_validator(mode="after")
    def _parse(self) -> PatternSpec:
        _refuse(in_pattern(self.id, self.segments))
        return self


class VerbalizerSpec(Section):
    """The label words: how each label is said in the slot."""

    labels: dict[LabelName, tuple[LabelWord, ...]] = Field(description="label → its words, in the order of class numbers")

    @model_validator(mode="after")
    def _words_tell_labels_apart(self) -> VerbalizerSpec:
        _refuse(in_labels(self.labels))
        return self


class TeachersSpec(Section):
    """Stage A: one masked-LM teacher per pattern and seed."""

    seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1, description="one teacher per pattern and seed")
    steps: Steps = Field(100, description="optimizer steps of each teacher")
    batch_size: BatchSize = Field(16, description="labelled rows per step")
    learning_rate: PositiveFloat = Field(3e-5, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.0, description="share of the steps over which the rate rises from 0")
    weight_decay: Decay = Field(0.01, description="AdamW decay; bias and norm weights are exempt")
    adam_epsilon: PositiveFloat = Field(1e-8, description="AdamW epsilon")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this 2-norm")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout probability while training")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> TeachersSpec:
        _refuse(in_seeds(self.seeds))
        return self


class SoftLabelsSpec(Section):
    """Stage B: how the teachers' label logits become one soft label per row."""

    combine: Literal["logits", "log_probs", "probs"] = Field("logits", description="what is averaged over the teachers")
    weighting: Literal["uniform", "train_accuracy"] = Field(
        "uniform", description="weight of each teacher; train_accuracy is that of its untrained pattern on the few-shot examples"
    )
    temperature: PositiveFloat = Field(2.0, description="divides the combined logits before the softmax")


class StudentSpec(Section):
    """Stage C: the classifier distilled from the soft labels."""

    model: str | None = Field(None, description="backbone of the student; default: the pipeline's model")
    seed: Seed = Field(1, description="seed of the new head, the row order and dropout")
    steps: Steps = Field(400, description="optimizer steps")
    batch_size: BatchSize = Field(16, description="soft-labelled rows per step")
    gold_batch_size: BatchSize = Field(4, description="labelled rows added to each step while hard_weight > 0")
    learning_rate: PositiveFloat = Field(5e-5, description="peak rate; falls linearly to 0")
    warmup: Share = Field(0.1, description="share of the steps over which the rate rises from 0")
    weight_decay: Decay = Field(0.01, description="AdamW decay; bias and norm weights are exempt")
    adam_epsilon: PositiveFloat = Field(1e-8, description="AdamW epsilon")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this 2-norm")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout probability while training")
    temperature: PositiveFloat | None = Field(
        None, description="divides the student's logits in the loss; default: soft_labels.temperature"
    )
    hard_weight: Share = Field(0.2, description="share of the gold-label cross-entropy in the loss")


class ComputeSpec(Section):
    """Where and how arithmetic runs. Only ``precision`` can change a result beyond rounding."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda, cuda:N or mps"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where this processor multiplies faster in it"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="processor threads; default: all this process may use"
    )
    tokens_per_batch: Annotated[int, Field(ge=1)] = Field(4096, description="padded tokens per inference batch")


class PipelineSpec(Section):
    """A whole pipeline; what ``petkit run`` needs to know."""

    task: Name = Field(description="short name of the task; the run folder is runs/<task>")
    data: DataSpec
    patterns: tuple[PatternSpec, ...] = Field(min_length=1, description="a pattern file, or the patterns themselves")
    verbalizer: VerbalizerSpec = Field(description="a verbalizer file, or the verbalizer itself")
    model: str = Field("embedded", min_length=1, description="embedded, a model folder, or a hub name")
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = Field(256, description="tokens per row, special tokens included")
    truncate: Literal["tail", "head", "middle"] = Field("tail", description="which end of a too long field is cut off")
    # Sections are strict about their own keys; an absent section means all of its defaults.
    teachers: TeachersSpec = TeachersSpec()
    soft_labels: SoftLabelsSpec = SoftLabelsSpec()
    student: StudentSpec = StudentSpec()
    compute: ComputeSpec = ComputeSpec()

    @model_validator(mode="after")
    def _distinct_patterns(self) -> PipelineSpec:
        _refuse(in_pattern_ids(pattern.id for pattern in self.patterns))
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of class numbers (the verbalizer's order)."""
        return tuple(self.verbalizer.labels)

    @property
    def student_model(self) -> str:
        """The student's backbone."""
        return self.student.model or self.model

    @property
    def student_temperature(self) -> float:
        """The temperature of the student's logits in the distillation loss."""
        return self.student.temperature or self.soft_labels.temperature
