"""How large a model is, told by its configuration alone: no weight is read, and none takes memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from petkit.models.architectures import VISION_LANGUAGE, is_causal
from petkit.models.loading import load_config
from petkit.models.safety.weight_files import without_numbers


@dataclass(frozen=True)
class ModelSize:
    """The numbers that memory and disk depend on.

    Attributes:
        parameters: all of them, the head's included; tied ones count once.
        hidden: width of a token's vector.
        inner: width of the feed-forward layers.
        vocabulary: number of tokens.
    """

    parameters: int
    layers: int
    heads: int
    hidden: int
    inner: int
    vocabulary: int


@lru_cache(maxsize=8)
def model_size(name: str, labels: int | None = None) -> ModelSize:
    """Return the size of a language model, or of a classifier over so many ``labels``.

    Raises:
        ModelRefused: its configuration is not to be had.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
    )

    config: Any = load_config(name)
    kind: Any = AutoModelForMaskedLM
    if labels is not None:
        kind, config.num_labels = AutoModelForSequenceClassification, labels
    elif is_causal(config):
        kind = AutoModelForImageTextToText if config.model_type in VISION_LANGUAGE else AutoModelForCausalLM
    model = without_numbers(kind, config)
    text = config.get_text_config()
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=text.num_hidden_layers,
        heads=getattr(text, "num_attention_heads", None) or 1,  # not every model has attention
        hidden=text.hidden_size,
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
    )
