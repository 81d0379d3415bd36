"""Which kind of language model an architecture is: one that fills masks, or a causal one, which says what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petkit.errors import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Vision-language models that read text alone as the language model they hold does.
VISION_LANGUAGE = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})


def is_causal(config: PretrainedConfig) -> bool:
    """Say whether a model answers with the next token: one of transformers' causal language models, and no masked one."""
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or getattr(config, "is_encoder_decoder", False):
        return False  # an encoder reads both ways
    return config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or config.model_type in VISION_LANGUAGE


def forward_options(model: Any) -> dict[str, bool]:
    """Return what a forward pass is told beside its inputs: causal models keep no keys and values of a row they read once."""
    return {"use_cache": False} if is_causal(model.config) else {}


def why_not_left_to_right(model: Any) -> str:
    """Return what keeps a causal model from answering after a text; nothing where nothing does.

    Transformers lists some models as causal that look at later tokens unless told otherwise (XLNet), and some that want more
    than a text.
    """
    import torch

    try:
        with torch.inference_mode():
            first = model(input_ids=torch.tensor([[1, 2], [1, 3]])).logits[:, 0].float()  # (2, vocabulary)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError) as error:
        return f"cannot read text alone: {first_line(error)}"
    return "" if torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-4) else "looks at later tokens"
