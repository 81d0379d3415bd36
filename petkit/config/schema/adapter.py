"""What is trained instead of a model's own weights, which stay frozen: one kind of adapter, with its own options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field

from petkit.config.schema.section import OptimizerSection, PartialShare, PositiveFloat, Section

Tokens = Annotated[int, Field(ge=1, le=10_000)]
Modules: TypeAlias = (
    Literal["auto", "all-linear"] | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
)


class AdapterSection(Section):
    """One kind of adapter."""

    mergeable: ClassVar[bool] = False  # into the model's own weights

    def fingerprint_settings(self) -> dict[str, Any]:
        """Return the options that can change what is trained; a starting prompt counts by its content, not by its name."""
        return self.model_dump(exclude={"start"})


class NoAdapter(AdapterSection):
    """Every weight of the model is trained."""

    kind: Literal["none"] = "none"


class LoraSpec(AdapterSection):
    """Low-rank updates of linear layers (Hu et al. 2022); ``qlora``: of a backbone held in 4 bits (Dettmers et al. 2023)."""

    mergeable = True

    kind: Literal["lora", "qlora"]
    rank: Annotated[int, Field(ge=1, le=4096)] = Field(8, description="rank of each update")
    alpha: Annotated[int, Field(ge=1)] = Field(16, description="an update is multiplied by alpha / rank")
    dropout: PartialShare = Field(0.0, description="dropout probability before each update while training")
    target_modules: Modules = Field(
        "auto", description="ends of the names of the layers; auto: query and value, or what stands for them; all-linear: all"
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
    projection_size: Annotated[int, Field(ge=1)] = Field(128, description="width of that network")
    learning_rate: PositiveFloat = Field(1e-2, description="peak rate of what is trained; falls linearly to 0")

    def fingerprint_settings(self) -> dict[str, Any]:
        """Return the options that can change what is trained."""
        return self.model_dump(exclude=set() if self.projection else {"projection_size"})


class PromptEncoderSpec(AdapterSection):
    """Virtual tokens from a small network (P-Tuning v1, Liu et al. 2021); those of patterns that have ``{soft:n}`` are meant."""

    kind: Literal["p_tuning_v1"]
    tokens: Tokens = Field(16, description="virtual tokens before every row of a pattern without soft tokens of its own")
    encoder: Literal["mlp", "lstm"] = Field("mlp", description="the network: two hidden layers, or a BiLSTM before one")
    encoder_size: Annotated[int, Field(ge=1)] | None = Field(None, description="its width; default: that of the embeddings")
    learning_rate: PositiveFloat = Field(1e-4, description="peak rate of what is trained; falls linearly to 0")


class PromptTuningSpec(AdapterSection):
    """Virtual tokens before every row (Lester et al. 2021)."""

    kind: Literal["prompt_tuning"]
    start: str | None = Field(
        None,
        min_length=1,
        description="folder of petkit pretrain-prompt to start from (PPT, Gu et al. 2022); default: random words",
    )
    tokens: Tokens = Field(16, description="virtual tokens before every row; with start: as many as there, if given at all")
    learning_rate: PositiveFloat = Field(1e-3, description="peak rate of what is trained; falls linearly to 0")


def _spelt_out(value: Any) -> Any:
    """Let ``adapter: lora`` stand for ``adapter: {kind: lora}``."""
    return {"kind": value} if isinstance(value, str) else value


AnyAdapter: TypeAlias = LoraSpec | Ia3Spec | DeepPrefixSpec | PromptEncoderSpec | PromptTuningSpec
AdapterSpec: TypeAlias = Annotated[NoAdapter | AnyAdapter, Discriminator("kind"), BeforeValidator(_spelt_out)]


class AdaptedSection(OptimizerSection):
    """A training of a model, or of an adapter beside a frozen one."""

    adapter: AdapterSpec = Field(NoAdapter(), description="what is trained instead of the model's own weights")
    learning_rate: PositiveFloat

    @property
    def adapted(self) -> AnyAdapter | None:
        """The adapter, where there is one."""
        return None if isinstance(self.adapter, NoAdapter) else self.adapter

    @property
    def in_training(self) -> Self:
        """The settings with the rate of what is trained."""
        return self if self.adapted is None else self.model_copy(update={"learning_rate": self.adapted.learning_rate})

    @property
    def virtual_tokens(self) -> int:
        """How many tokens the adapter adds to every row."""
        return getattr(self.adapter, "tokens", 0)


def adapter_class(written: Any) -> type[Section]:
    """Return the section that a written adapter means, so that messages know its keys."""
    kind = written.get("kind") if isinstance(written, Mapping) else written
    known: dict[str, type[Section]] = {
        "lora": LoraSpec,
        "qlora": LoraSpec,
        "ia3": Ia3Spec,
        "p_tuning_v2": DeepPrefixSpec,
        "p_tuning_v1": PromptEncoderSpec,
        "prompt_tuning": PromptTuningSpec,
    }
    return known.get(kind, NoAdapter) if isinstance(kind, str) else NoAdapter
