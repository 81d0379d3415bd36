"""The kinds of language models: masked ones, which fill masks, causal ones, which predict the next token, and discriminators,
which say which tokens were replaced.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from petkit.errors import ModelRefused, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Scoring: TypeAlias = Literal["mask", "replaced_token", "next_token"]
# What a pipeline asks for; auto: by the one head that the checkpoint has.
WantedScoring: TypeAlias = Scoring | Literal["auto"]
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


def scoring_of(config: PretrainedConfig, weights: Collection[str], wanted: WantedScoring, shown: str) -> Scoring:
    """Return how a checkpoint's head answers a pattern; refuse a way for which it has no head, and a choice that it leaves open."""

    def has(*heads: str) -> bool:
        return any(name.startswith(heads) for name in weights)

    if is_causal(config):
        if wanted not in ("auto", "next_token"):
            raise ModelRefused(
                f"{shown}: teachers.scoring is {wanted}, and a {config.model_type!r} model predicts the next token"
            )
        return "next_token"
    if wanted == "next_token":
        raise ModelRefused(f"{shown}: teachers.scoring is next_token, and a {config.model_type!r} model is not a causal one")
    discriminates, generates = (config.model_type == "electra" and has(f"{head}_") for head in ("discriminator", "generator"))
    if wanted == "replaced_token" and not discriminates:
        why = "the checkpoint has no discriminator head (use one such as google/electra-base-discriminator)"
        if has("mask_predictions."):
            why = f"transformers has no class for the discriminator head of a {config.model_type!r} model"
        raise ModelRefused(f"{shown}: {why}")
    if wanted == "auto" and discriminates and generates:
        heads = "the heads of a generator and of a discriminator"
        raise ModelRefused(f"{shown}: the checkpoint has {heads} (choose with teachers.scoring: mask or replaced_token)")
    return "replaced_token" if wanted == "replaced_token" or (wanted == "auto" and discriminates) else "mask"


def language_model_class(config: PretrainedConfig, scoring: Scoring | None = None) -> Any:
    """Return transformers' auto class of a language model; without ``scoring``, of a causal or masked one."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM, AutoModelForPreTraining

    if scoring == "replaced_token":
        return AutoModelForPreTraining
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
