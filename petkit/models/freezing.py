"""The lower part of a model left as it was pretrained: its embeddings, and its lowest layers.

Nothing below the lowest trained layer needs a gradient, so the backward pass ends there; and AdamW passes over fewer numbers.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import nn

from petkit.errors import ModelRefused

Frozen: TypeAlias = Literal["none", "embeddings", "half"] | int


def freeze_lower(model: Any, frozen: Frozen) -> None:
    """Freeze the embeddings, and with ``half`` or a number so many of the lowest layers too.

    Embeddings that are tied to the output keep the output as it is. Position biases that all layers share are trained.
    """
    if frozen == "none":
        return
    base = model.base_model
    embeddings = [module for name, module in base.named_children() if name.startswith("embeddings")]
    parts = embeddings or [module for module in base.children() if isinstance(module, nn.Embedding)]
    if frozen != "embeddings":
        layers = _layers(base)
        parts += layers[: len(layers) // 2 if frozen == "half" else frozen]
    for part in parts:
        part.requires_grad_(False)


def _layers(base: Any) -> list[nn.Module]:
    count = layer_count(base.config)
    for module in base.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise ModelRefused(f"a {base.config.model_type!r} model has no list of layers to freeze (set freeze: none)")


def layer_count(config: Any) -> int:
    """Return how many layers with weights of their own a model has; 1 where one is applied several times (ALBERT)."""
    text = config.get_text_config()
    groups: int | None = getattr(text, "num_hidden_groups", None)
    return text.num_hidden_layers if groups is None else groups
