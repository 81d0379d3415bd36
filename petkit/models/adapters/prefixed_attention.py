"""Further keys and values before those of the text, in every attention layer of a transformers model.

With a prefix of keys P_k and values P_v a head answers ``softmax(Q [P_k; K]ᵀ / √d) [P_v; V]`` (Li & Liang 2021; He et al.
2022, "Towards a Unified View", equation 5): every token reads the prefix, and no row of the output belongs to it. Models
that take a cache of earlier keys get the prefix as one, as PEFT does; the text's positions then begin behind it. In all
others the attention itself is led to the prefix, and positions stay what they are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention, scaled_size_sqrt
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

# Each layer's keys and values, shape (2, heads, tokens, head), in the order of the forward pass that now runs. ALBERT's layers
# are one and the same module, so that only their order distinguishes them.
_LAYERS: ContextVar[Iterator[Tensor] | None] = ContextVar("petkit_prefix", default=None)


class PrefixedAttention:
    """Puts the prefix ``source()``, shape ``(layers, 2, heads, tokens, head)``, before every row, until :meth:`remove`."""

    def __init__(self, model: PreTrainedModel, source: Callable[[], Tensor]) -> None:
        self.source = source
        base, config = model.base_model, model.config
        if "past_key_values" in signature(base.forward).parameters:
            self._undo: list[Callable[[], None]] = [base.register_forward_pre_hook(self._give_cache, with_kwargs=True).remove]
            return
        self._undo = [
            base.register_forward_pre_hook(self._begin).remove,
            base.register_forward_hook(self._end, always_call=True).remove,
        ]
        own = [module for module in base.modules() if type(module) in _OWN_ATTENTION]
        for module in own:
            module.forward = partial(_OWN_ATTENTION[type(module)], module)
            self._undo.append(partial(delattr, module, "forward"))
        if not own:
            before = config._attn_implementation
            plain = "eager" if before == "eager" else "sdpa"
            config._attn_implementation = name = f"petkit_prefix_{plain}"
            AttentionInterface.register(name, partial(_attend, plain))
            AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[plain])  # without it padding would be read
            self._undo.append(partial(setattr, config, "_attn_implementation", before))

    def remove(self) -> None:
        """Make the model plain again."""
        while self._undo:
            self._undo.pop()()

    def _give_cache(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids = args[0] if args else kwargs["input_ids"]  # (batch, length)
        prefix = self.source()
        every_row = prefix.unsqueeze(2).expand(-1, -1, len(ids), -1, -1, -1)  # (layers, 2, batch, heads, tokens, head)
        inputs = {**kwargs, "past_key_values": _PrefixCache(every_row)}
        if kwargs.get("attention_mask") is not None:
            inputs["attention_mask"] = functional.pad(kwargs["attention_mask"], (prefix.shape[-2], 0), value=1)
        return args, inputs

    def _begin(self, module: nn.Module, args: Any) -> None:
        _LAYERS.set(iter(self.source()))

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        _LAYERS.set(None)


class _PrefixCache(DynamicCache):
    """A cache of the prefix alone: layers read it and leave nothing in it, so that no layer's text is kept."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        layer: Any = self.layers[layer_idx]
        key = torch.cat([layer.keys.to(key_states.dtype), key_states], dim=2)  # (batch, heads, tokens + length, head)
        return key, torch.cat([layer.values.to(value_states.dtype), value_states], dim=2)


def _attend(
    plain: str, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> Any:
    """Attend as ``plain`` does, to the prefix as well; all shapes are ``(batch, heads, length, head)``."""
    prefix = _next_prefix(key)
    key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
    attention_mask = _widened(attention_mask, prefix.shape[-2])
    if plain == "eager":  # every model's file has its own
        attention = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attention = ALL_ATTENTION_FUNCTIONS[plain]
    return attention(module, query, key, value, attention_mask, **options)


def _attend_disentangled(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Any = None,
) -> tuple[Tensor, Tensor | None]:
    """DeBERTa-v2's attention (He et al. 2021, equation 4); a prefix has content, but no distance from any token.

    Takes and returns what transformers' ``DisentangledSelfAttention`` does, bit for bit where the prefix is empty.
    """
    heads, batch = module.num_attention_heads, len(hidden_states)
    query = module.transpose_for_scores(module.query_proj(hidden_states if query_states is None else query_states), heads)
    key = module.transpose_for_scores(module.key_proj(hidden_states), heads)  # (batch · heads, length, head)
    value = module.transpose_for_scores(module.value_proj(hidden_states), heads)
    prefix = _next_prefix(torch.unflatten(key, 0, (batch, heads))).flatten(1, 2)  # (2, batch · heads, tokens, head)
    tokens = prefix.shape[-2]
    factor = 1 + ("c2p" in module.pos_att_type) + ("p2c" in module.pos_att_type)
    scale = scaled_size_sqrt(query, factor).to(query.dtype)
    scores = torch.bmm(query, torch.cat([prefix[0], key], dim=1).transpose(-1, -2) / scale)
    if module.relative_attention:
        bias = module.disentangled_attention_bias(query, key, relative_pos, module.pos_dropout(rel_embeddings), factor)
        scores = scores + _widened(bias, tokens)
    scores = torch.unflatten(scores, 0, (batch, heads))  # (batch, heads, length, tokens + length)
    hidden = ~_widened(attention_mask.bool(), tokens)
    shares = module.dropout(functional.softmax(scores.masked_fill(hidden, torch.finfo(query.dtype).min), dim=-1))
    read = torch.bmm(shares.flatten(0, 1), torch.cat([prefix[1], value], dim=1))  # (batch · heads, length, head)
    return torch.unflatten(read, 0, (batch, heads)).transpose(1, 2).flatten(2), shares if output_attentions else None


def _attend_mpnet(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool = False,
    **options: Any,
) -> tuple[Tensor, ...]:
    """MPNet's attention, whose position bias is the text's alone.

    Takes and returns what transformers' ``MPNetSelfAttention`` does, bit for bit where the prefix is empty.
    """
    shape = (*hidden_states.shape[:-1], -1, module.attention_head_size)
    query, key, value = (layer(hidden_states).view(shape).transpose(1, 2) for layer in (module.q, module.k, module.v))
    prefix = _next_prefix(key)
    scores = query @ torch.cat([prefix[0], key], dim=2).transpose(-1, -2) / math.sqrt(module.attention_head_size)
    for bias in (position_bias, attention_mask):
        if bias is not None:
            scores = scores + _widened(bias, prefix.shape[-2])  # (batch, heads, length, tokens + length)
    shares = module.dropout(functional.softmax(scores, dim=-1))
    read = shares @ torch.cat([prefix[1], value], dim=2)  # (batch, heads, length, head)
    answer = module.o(read.transpose(1, 2).flatten(2))
    return (answer, shares) if output_attentions else (answer,)


# Attention without a pluggable implementation: replaced as a whole.
_OWN_ATTENTION: dict[type[nn.Module], Callable[..., Any]] = {
    DisentangledSelfAttention: _attend_disentangled,
    MPNetSelfAttention: _attend_mpnet,
}


def _next_prefix(key: Tensor) -> Tensor:
    """Return the next layer's prefix ``(2, batch, heads, tokens, head)`` for ``key (batch, heads, length, head)``."""
    layers = _LAYERS.get()
    assert layers is not None, "layers must be called by their base model"
    return next(layers).to(key.dtype).unsqueeze(1).expand(-1, len(key), -1, -1, -1)


def _widened(mask: Any, tokens: int) -> Any:
    """Return a mask or bias ``(…, length)`` with the prefix before the text: visible, and not biased."""
    return None if mask is None else functional.pad(mask, (tokens, 0), value=int(mask.dtype == torch.bool))
