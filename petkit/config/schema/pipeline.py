"""A whole pipeline: the task as written (rows, patterns, label words), where arithmetic runs, and the sections together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from petkit import limits
from petkit.config.mistakes import Mistakes
from petkit.config.pattern_syntax import field_names, parse_pattern
from petkit.config.registry import BASELINE_NAMES, LABEL_SCORER_NAMES
from petkit.config.rules import in_pattern, in_pipeline, in_verbalizer
from petkit.config.schema import training
from petkit.config.schema.section import (
    CandidateColumns,
    Counts,
    LabelKindName,
    LabelName,
    LabelSeparator,
    LabelWord,
    Name,
    RowTokens,
    Section,
    Weight,
)

DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
PatternText: TypeAlias = Annotated[str, StringConstraints(max_length=limits.TEXT_CHARACTERS)]


class DataSpec(Section):
    """Where the rows are and which columns hold what."""

    train: str | None = Field(
        None,
        description="labelled rows: jsonl, json, csv, tsv or parquet file, or hf://owner/name[/config]/split; null: none at all",
    )
    unlabeled: str = Field(description="unlabelled set, same formats; read as a stream")
    test: str | None = Field(None, description="optional test set; nothing is ever selected on it")
    columns: dict[str, str] = Field(
        default_factory=dict,
        max_length=limits.ENTRIES,
        description="field name → column name; 'label' and 'id' name those columns",
    )
    label_names: Annotated[tuple[LabelName, ...], Field(max_length=limits.LABELS)] | None = Field(
        None, description="label of each class number; where it is given, a whole number 0, 1, … in the data is a class number"
    )
    label_separator: LabelSeparator = Field(
        "|", description="between the labels of a row in text, as in good|sports, where label_kind is multi"
    )

    group: Annotated[str, StringConstraints(min_length=1, max_length=limits.KEY_CHARACTERS)] | None = Field(
        None,
        description="column of the test set that says which rows belong together, as the answers to a question do; evaluated "
        "together, and drawn together for intervals",
    )
    empty: Literal["skip", "refuse"] | None = Field(
        None,
        description="rows without a text: left out, or refused; default: skip in the unlabelled set, refuse in train and test",
    )

    def column(self, field: str) -> str:
        """Return the column that holds ``field`` (the field's own name unless mapped)."""
        return self.columns.get(field, field)


class AutoVerbalizerSpec(Section):
    """Label words found on the labelled rows by likelihood ratio (PETAL, Schick et al. 2020)."""

    per_label: Annotated[int, Field(ge=1, le=limits.WORDS_PER_LABEL)] = Field(3, description="words per label")
    candidates: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        10_000, description="how many of the most frequent words of the unlabelled set are tried"
    )
    scope: Literal["pattern", "joint"] = Field("pattern", description="words of each pattern's own, or the same for all patterns")


_MadeUp: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# A row made up for a label: its text, or the text of each field where patterns use several.
Described: TypeAlias = _MadeUp | dict[str, _MadeUp]


class VerbalizerSpec(Section):
    """The label words: how each label is said in the slot."""

    rule = in_verbalizer

    labels: dict[LabelName, Annotated[tuple[LabelWord, ...], Field(max_length=limits.WORDS_PER_LABEL)]] = Field(
        default_factory=dict,
        max_length=limits.LABELS,
        description="label → its words, in the order of class numbers; left out with auto",
    )
    candidates: CandidateColumns | None = Field(
        None,
        description="instead of labels: every row has candidate answers of its own, in these columns, or in one column of lists; "
        "its label is the number of the right one, from 0, or its text",
    )
    multi_token: bool = Field(False, description="allow words of several tokens; each token gets a mask of its own")
    decoding: Literal["parallel", "max_first"] = Field(
        "parallel",
        description="words of several tokens: all read at once, mean log-probability; or surest token first, read again after "
        "each, and probabilities multiplied, as the paper does, so that long words score lower; causal models: mean "
        "log-probability of each token after those before it (parallel)",
    )
    kind: Annotated[str, LABEL_SCORER_NAMES] = Field(
        "words", description="read the words; or train a vector per label that starts as their mean, by product or by cosine"
    )
    auto: AutoVerbalizerSpec | None = Field(None, description="find the words instead of naming them; labels are those of train")
    descriptions: dict[LabelName, tuple[Described, ...]] = Field(
        default_factory=dict,
        max_length=limits.LABELS,
        description="label → texts made up for it, and for no other; every teacher trains on them too, without labelled rows "
        "on them alone",
    )


class PatternSpec(Section):
    """One cloze pattern: one text, or two for models with sentence pairs."""

    rule = in_pattern

    id: Name = Field(description="short name, used in tables and folder names")
    text: PatternText | tuple[PatternText, ...] = Field(description="one segment, or a list of two")
    verbalizer: VerbalizerSpec | None = Field(
        None, description="label words of its own, for the same labels: a verbalizer file, or the verbalizer itself"
    )

    @property
    def segments(self) -> tuple[str, ...]:
        """The segment texts, one or two."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the text."""
        return field_names(parse_pattern(self.segments)[0])


class DemonstrationsSpec(Section):
    """Filled-in labelled examples before the text (Brown et al. 2020; LM-BFF, Gao et al. 2021)."""

    per_label: Annotated[int, Field(ge=0, le=100)] = Field(0, description="examples per label before each row; 0: none")
    max_tokens: Annotated[int, Field(ge=4, le=limits.ROW_TOKENS), Counts(lambda shown: shown.per_label > 0, "per_label is 0")] = (
        Field(40, description="longest example in tokens; its text is cut to fit")
    )


class ComputeSpec(Section):
    """Where and how arithmetic runs. Only ``precision`` can change a result beyond rounding."""

    device: Annotated[str, StringConstraints(pattern=DEVICE)] = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor has instructions for it; a run, and its student, keep theirs"
    )
    threads: Annotated[int, Field(ge=1, le=limits.THREADS)] | None = Field(
        None, description="processor threads; default: all that the process which began the run may use"
    )
    tokens_per_batch: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(4096, description="padded tokens per inference batch")
    checkpoint_minutes: Weight = Field(5.0, description="minutes between the points from which a killed training goes on")


class EvaluationSpec(Section):
    """The last step, on the test set; the student is always evaluated on all of its rows."""

    teachers: Literal["sample", "all", "none"] = Field(
        "sample",
        description="test rows for the patterns untrained, the teachers and their ensemble; sample: at most 250 of them; "
        "none: the student alone is evaluated",
    )


class PipelineSpec(Section):
    """A whole pipeline; what ``petkit run`` needs to know."""

    rule = in_pipeline

    task: Name = Field(description="short name of the task; the run folder is runs/<task>")
    label_kind: LabelKindName = Field("single", description="one label per row; any number of them; or one of an ordered scale")
    data: DataSpec
    patterns: tuple[PatternSpec, ...] = Field(
        min_length=1, max_length=limits.PATTERNS, description="a pattern file, or the patterns themselves"
    )
    keep_patterns: Literal["all"] | Annotated[int, Field(ge=1, le=limits.PATTERNS)] = Field(
        "all", description="how many of the patterns to use, best first in the ranking of petkit rank-patterns"
    )
    verbalizer: VerbalizerSpec = Field(
        description="a verbalizer file, or the verbalizer itself; in its place verbalizers: a list of files, each of which goes "
        "with every pattern; or candidates: the columns of each row's own answers"
    )
    model: str = Field(
        "embedded",
        min_length=1,
        description="embedded, a folder or hub name (name@revision pins one) of a masked or causal model",
    )
    max_length: RowTokens = Field(256, description="tokens per row, special tokens included")
    truncate: Literal["tail", "head", "middle"] = Field("tail", description="which end of a too long field is cut off")
    # Sections are strict about their own keys; an absent section means all of its defaults.
    demonstrations: DemonstrationsSpec = DemonstrationsSpec()
    teachers: training.TeachersSpec = training.TeachersSpec()
    generations: training.GenerationsSpec = training.GenerationsSpec()
    soft_labels: training.SoftLabelsSpec = training.SoftLabelsSpec()
    student: training.StudentSpec = training.StudentSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    baselines: tuple[Annotated[str, BASELINE_NAMES], ...] = Field(
        (), description="compared on the same rows: without petkit's method, what would one have?"
    )
    adapt: training.AdaptSpec = training.AdaptSpec()
    pretrain_prompt: training.PretrainPromptSpec = training.PretrainPromptSpec()
    compute: ComputeSpec = ComputeSpec()

    def without_effect(self) -> Mistakes:
        """Return the settings that can change nothing because of another section."""
        segments = (segment for pattern in self.patterns for segment in pattern.segments)
        vectors = any((pattern.verbalizer or self.verbalizer).kind != "words" for pattern in self.patterns)
        new = vectors or any("{soft" in segment for segment in segments)
        idle: dict[tuple[str, str], tuple[bool, str]] = {
            ("data", "label_separator"): (self.label_kind != "multi", f"label_kind is {self.label_kind}"),
            ("teachers", "new_learning_rate"): (not new, "no pattern has soft tokens, and verbalizer.kind is words"),
            ("generations", "per_label_from_zero"): (self.data.train is not None, "there are labelled rows"),
            ("student", "gold_batch_size"): (self.data.train is None, "data.train names no labelled rows"),
            ("data", "group"): (self.data.test is None, "data.test names no rows to evaluate on"),
            ("evaluation", "teachers"): (self.data.test is None, "data.test names no rows to evaluate on"),
        }
        return super().without_effect() + [
            (place, getattr(self, place[0]).idle(place[1], why))
            for place, (applies, why) in idle.items()
            if applies and not getattr(self, place[0]).is_default(place[1])
        ]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels named in the verbalizer, in the order of class numbers (none where auto takes those of train)."""
        return tuple(self.verbalizer.labels)

    def verbalizer_of(self, pattern: PatternSpec) -> VerbalizerSpec:
        """Return the verbalizer that a pattern answers with, its labels in the order of class numbers."""
        if (own := pattern.verbalizer) is None:
            return self.verbalizer
        return own.model_copy(update={"labels": {label: own.labels[label] for label in self.labels}})

    def verbalizer_place(self, index: int) -> tuple[str | int, ...]:
        """Return where the verbalizer of the pattern with this number is written."""
        return ("verbalizer",) if self.patterns[index].verbalizer is None else ("patterns", index, "verbalizer")

    @property
    def hub_names(self) -> tuple[str, ...]:
        """What comes from the Hugging Face hub: datasets, and models that are no folder here."""
        sources = (self.data.train or "", self.data.unlabeled, self.data.test or "")
        models = (name for name in (self.model, self.student_model) if name != "embedded" and not Path(name).is_absolute())
        return (*(name for name in sources if name.startswith("hf://")), *(name for name in models if not Path(name).is_dir()))

    @property
    def student_model(self) -> str:
        """The student's backbone."""
        return self.student.model or self.model

    @property
    def student_temperature(self) -> float:
        """The temperature of the student's logits in the distillation loss."""
        return self.student.temperature or self.soft_labels.temperature
