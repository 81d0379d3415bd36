"""How large a model is, by its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from petkit.models.architectures import language_model_class
from petkit.models.loading import load_config
from petkit.models.safety.weight_files import numbers_built


@dataclass(frozen=True)
class ModelSize:
    """The numbers that memory and disk depend on: all parameters (tied ones count once), and the widths of single parts."""

    parameters: int
    layers: int
    heads: int
    hidden: int  # width of a token's vector
    inner: int  # width of the feed-forward layers
    vocabulary: int


def model_size(name: str, labels: int | None = None) -> ModelSize:
    """Return the size of a language model, or of a classifier over so many ``labels``, by its configuration alone."""
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
