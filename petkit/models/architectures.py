"""The two kinds of language models: masked ones, which fill masks, and causal ones, which predict the next token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from petkit.errors import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Vision-language models that read text alone as the language model in them does.
VISION_LANGUAGE = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})


def is_masked_lm(config: PretrainedConfig) -> bool:
    """Say whether a model has a masked-LM form."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_causal(config: PretrainedConfig) -> bool:
    """Say whether a model predicts the next token: a causal language model without a masked-LM form or an encoder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if is_masked_lm(config) or getattr(config, "is_encoder_decoder", False):
        return False
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or config.model_type in VISION_LANGUAGE


def language_model_class(config: PretrainedConfig) -> Any:
    """Return transformers' auto class of a language model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM

    if not is_causal(config):
        return AutoModelForMaskedLM
    return AutoModelForImageTextToText if config.model_type in VISION_LANGUAGE else AutoModelForCausalLM


def forward_options(model: Any) -> dict[str, bool]:
    """Return extra forward arguments: ``use_cache=False`` for causal models."""
    return {"use_cache": False} if is_causal(model.config) else {}


def why_not_left_to_right(model: Any) -> str:
    """Return why a causal model cannot continue a text, empty if it can.

    Transformers lists some models as causal that look at later tokens by default (XLNet), and some that need more than a text.
    """
    try:
        with torch.inference_mode():
            first = model(input_ids=torch.tensor([[1, 2], [1, 3]])).logits[:, 0].float()  # (2, vocabulary)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError) as error:
        return f"cannot read text alone: {first_line(error)}"
    return "" if torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-4) else "looks at later tokens"
