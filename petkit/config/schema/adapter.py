"""What is trained instead of a model's own weights, which stay frozen: one kind of adapter, with its own options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Discriminator, Field, PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator

from petkit import limits
from petkit.config.registry import ADAPTER_NAMES
from petkit.config.schema.section import Counts, PartialShare, PositiveFloat, Section

Tokens = Annotated[int, Field(ge=1, le=10_000)]
Width = Annotated[int, Field(ge=1, le=limits.ADAPTER_WIDTH)]
Modules: TypeAlias = (
    Literal["auto", "all-linear"] | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
)


class AdapterSection(Section):
    """One kind of adapter: its ``kind``, a ``learning_rate`` and options of its own."""

    mergeable: ClassVar[bool] = False  # into the model's own weights
    inner = True


class NoAdapter(AdapterSection):
    """Every weight of the model is trained."""

    kind: Literal["none"] = "none"


class LoraSpec(AdapterSection):
    """Low-rank updates of linear layers (Hu et al. 2022); ``qlora``: of a backbone held in 4 bits (Dettmers et al. 2023)."""

    mergeable = True

    kind: Literal["lora", "qlora"]
    rank: Width = Field(8, description="rank of each update")
    alpha: Annotated[int, Field(ge=1, le=1_000_000)] = Field(16, description="an update is multiplied by alpha / rank")
    dropout: PartialShare = Field(0.0, description="dropout probability before each update while training")
    target_modules: Modules = Field(
        "auto", description="ends of the names of the layers; auto: query and value, or their counterparts; all-linear: all"
    )
    learning_rate: PositiveFloat = Field(5e-4, description="peak rate of what is trained; falls linearly to 0")


class Ia3Spec(AdapterSection):
    """A trained factor per key, value and feed-forward unit (IA³, Liu et al. 2022)."""

    mergeable = True

    kind: Literal["ia3"]
    target_modules: Modules = Field(
        "auto", description="ends of the names of the layers; auto: key, value and feed-forward output"
    )
    feedforward_modules: tuple[str, ...] | None = Field(
        None, description="those of target_modules whose input is scaled instead of their output; default: as auto says"
    )
    learning_rate: PositiveFloat = Field(5e-3, description="peak rate of what is trained; falls linearly to 0")


class DeepPrefixSpec(AdapterSection):
    """Trained keys and values before those of the text, in every layer (P-Tuning v2, Liu et al. 2022; prefix tuning)."""

    kind: Literal["p_tuning_v2"]
    tokens: Tokens = Field(16, description="trained keys and values per layer")
    projection: bool = Field(False, description="draw them from short vectors by a two-layer network while training")
    projection_size: Annotated[Width, Counts(lambda adapter: adapter.projection, "projection is false")] = Field(
        128, description="width of that network"
    )
    learning_rate: PositiveFloat = Field(1e-2, description="peak rate of what is trained; falls linearly to 0")


class PromptEncoderSpec(AdapterSection):
    """Virtual tokens from a small network (P-Tuning v1, Liu et al. 2021); those of patterns that have ``{soft:n}`` are meant."""

    kind: Literal["p_tuning_v1"]
    tokens: Tokens = Field(16, description="virtual tokens before every row of a pattern without soft tokens of its own")
    encoder: Literal["mlp", "lstm"] = Field("mlp", description="the network: two hidden layers, or a BiLSTM before one")
    encoder_size: Width | None = Field(None, description="its width; default: that of the embeddings")
    learning_rate: PositiveFloat = Field(1e-4, description="peak rate of what is trained; falls linearly to 0")


class PromptTuningSpec(AdapterSection):
    """Virtual tokens before every row (Lester et al. 2021)."""

    kind: Literal["prompt_tuning"]
    # A starting prompt counts by its content, not by its name.
    start: Annotated[str | None, Field(min_length=1), Counts(lambda adapter: False)] = Field(
        None, description="folder of petkit pretrain-prompt to start from (PPT, Gu et al. 2022); default: random words"
    )
    tokens: Tokens = Field(16, description="virtual tokens before every row; with start: as many as there, if given at all")
    learning_rate: PositiveFloat = Field(1e-3, description="peak rate of what is trained; falls linearly to 0")


def adapter_class(written: Any) -> type[Section]:
    """Return the section of an adapter as written: its kind, or a mapping with its kind and options."""
    kind = written.get("kind") if isinstance(written, Mapping) else written
    if not isinstance(kind, str) or kind == "none" or kind not in ADAPTER_NAMES:
        return NoAdapter
    named = {name: section for section in get_args(AnyAdapter) for name in get_args(section.model_fields["kind"].annotation)}
    section: type[Section] = named[kind] if kind in named else ADAPTER_NAMES.load(kind).settings
    return section


def _validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Let ``adapter: lora`` stand for ``adapter: {kind: lora}``, and know the kinds that other packages add."""
    value = {"kind": value} if isinstance(value, str) else value
    section = type(value) if isinstance(value, AdapterSection) else adapter_class(value)
    return validate(value) if section in (NoAdapter, *get_args(AnyAdapter)) else section.model_validate(value)


def _mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping")
    return value


AnyAdapter: TypeAlias = LoraSpec | Ia3Spec | DeepPrefixSpec | PromptEncoderSpec | PromptTuningSpec
# As records have it: written out, never by its kind alone.
TrainedAdapter: TypeAlias = Annotated[AnyAdapter, Discriminator("kind"), WrapValidator(_validated), BeforeValidator(_mapping)]
AdapterSpec: TypeAlias = Annotated[
    NoAdapter | AnyAdapter,
    Discriminator("kind"),
    WrapValidator(_validated),
    PlainSerializer(lambda adapter: adapter.model_dump()),  # a section of another package is none of the union
]
