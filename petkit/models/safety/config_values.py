"""Values of ``config.json`` with which no model works: what transformers finds late, or without the name of the key."""

from __future__ import annotations

import math
import re
from typing import Any

_EPSILON = re.compile(r"(^|_)(eps|epsilon)$")
_COUNTS = frozenset(
    {"hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "n_head", "n_heads"}
    | {"n_embd", "d_model"}
)
_VALIDATION = re.compile(r"Validation error for field '(\w+)':\s*\w+: (?:Field '\w+' )?(.+)")


def config_mistake(key: str, value: Any) -> str:
    """Say why a model cannot have this value under this key; empty if nothing is known against it.

    >>> config_mistake("layer_norm_eps", 0), config_mistake("num_attention_heads", -2), config_mistake("hidden_size", 64)
    ('must be above 0 and below 1, not 0', 'must be at least 1, not -2', '')
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, float) and math.isnan(value):
        return "must be a number, not NaN"
    if number and _EPSILON.search(key) and not 0 < value < 1:
        return f"must be above 0 and below 1, not {value}"
    if key in _COUNTS and number and value < 1:
        return f"must be at least 1, not {value}"
    if key in ("dtype", "torch_dtype") and isinstance(value, str) and not _is_number_format(value):
        return f"must be a number format of torch, such as float32, not {value!r:.50}"
    if key == "return_dict" and value is False:
        return "must be true, for petkit reads a model's outputs by name"
    if key == "chunk_size_feed_forward" and number and value != 0:
        return f"must be 0, for rows have any number of tokens, not {value}"
    return ""


def validation_mistake(text: str) -> str:
    """Return the key and what is wrong with it, of a message of transformers about one value; empty for other messages.

    >>> validation_mistake("Validation error for field 'hidden_size':\\n    TypeError: Field 'hidden_size' expected int, got str")
    'config.json: hidden_size: expected int, got str'
    """
    found = _VALIDATION.match(text.strip())
    return f"config.json: {found[1]}: {found[2]}" if found else ""


def _is_number_format(name: str) -> bool:
    import torch

    return name == "auto" or isinstance(getattr(torch, name.removeprefix("torch."), None), torch.dtype)
