"""How large a model is by its configuration; no weight is read or takes memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from petkit.models.architectures import language_model_class
from petkit.models.loading import load_config
from petkit.models.safety.weight_files import numbers_built


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


def model_size(name: str, labels: int | None = None) -> ModelSize:
    """Return the size of a language model, or of a classifier over so many ``labels``.

    Raises:
        ModelRefused: its configuration is missing or cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification

    config: Any = load_config(name)
    kind = language_model_class(config)
    if labels is not None:
        kind, config.num_labels = AutoModelForSequenceClassification, labels
    text = config.get_text_config()
    return ModelSize(
        parameters=numbers_built(kind, config).parameters,
        layers=text.num_hidden_layers,
        heads=getattr(text, "num_attention_heads", None) or 1,  # not every model has attention
        hidden=text.hidden_size,
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
    )
