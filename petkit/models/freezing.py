"""The lower part of a model left as it was pretrained: its embeddings, and its lowest layers.

Nothing below the lowest trained layer needs a gradient (unless soft tokens are trained), so the backward pass ends there; and AdamW
passes over fewer numbers.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import nn

from petkit.errors import ModelRefused

Frozen: TypeAlias = Literal["none", "embeddings", "half"] | int


# What lies below the lowest layer, next to the list of layers: position tables that all layers share, and projections to them.
_BELOW = ("rel_embeddings", "LayerNorm", "relative_attention_bias", "embedding_hidden_mapping_in")


def freeze_lower(model: Any, frozen: Frozen) -> None:
    """Freeze the embeddings, and with ``half`` or a number so many of the lowest layers too.

    Embeddings that are tied to the output keep the output as it is.

    Raises:
        ModelRefused: the model has no list of layers.
    """
    if frozen == "none":
        return
    base = getattr(model.base_model, "language_model", None) or getattr(model.base_model, "decoder", None) or model.base_model
    parts = [
        module for name, module in base.named_children() if name.startswith("embeddings") or isinstance(module, nn.Embedding)
    ]
    parts.append(model.get_input_embeddings())
    if frozen != "embeddings":
        holder, layers = _layers(base)
        parts += layers[: len(layers) // 2 if frozen == "half" else frozen]
        parts += [module for name, module in holder.named_children() if name in _BELOW]
    for part in parts:
        part.requires_grad_(False)


def _layers(base: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Return the layers, and the module that they are in."""
    count = layer_count(base.config)
    for holder in base.modules():
        for module in holder.children():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return holder, list(module)
    raise ModelRefused(f"a {base.config.model_type!r} model has no list of layers to freeze (set freeze: none)")


def layer_count(config: Any) -> int:
    """Return how many layers with weights of their own a model has; 1 where one is applied several times (ALBERT)."""
    text = config.get_text_config()
    groups: int | None = getattr(text, "num_hidden_groups", None)
    return text.num_hidden_layers if groups is None else groups
