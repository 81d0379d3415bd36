"""LoRA and IA³: PEFT's own layers in place of some of the model's linear layers."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from peft import IA3Config, LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from petkit.errors import ModelRefused
from petkit.lm.adapter import Adapter
from petkit.spec.schema import Ia3Spec, LoraSpec

# Families PEFT has no defaults for: query and value, or the layer that holds them; then IA³'s, feed-forward output last.
_LORA_TARGETS = {
    "distilbert": ["q_lin", "v_lin"],
    "albert": ["query", "value"],
    "modernbert": ["Wqkv"],
    "mpnet": ["attn.q", "attn.v"],
}
_IA3_TARGETS = {
    "electra": ["key", "value", "output.dense"],
    "xlm-roberta": ["key", "value", "output.dense"],
    "distilbert": ["k_lin", "v_lin", "ffn.lin2"],
    "albert": ["key", "value", "ffn_output"],
    "modernbert": ["Wqkv", "mlp.Wo"],
    "mpnet": ["attn.k", "attn.v", "output.dense"],
}


class LayerAdapter(Adapter):
    """LoRA or IA³: PEFT's layers in place of some of the model's linear layers.

    Args:
        model: any encoder or decoder.
        spec: which layers, and what stands there.
        spared: names of modules that stay as they are.

    Raises:
        ModelRefused: no layer is called as the targets say, or they cannot carry the adapter.
    """

    mergeable = True

    def __init__(self, model: PreTrainedModel, spec: LoraSpec | Ia3Spec, spared: Collection[str] = ()) -> None:
        kind = model.config.model_type
        super().__init__(model, _lora(spec, kind, spared) if isinstance(spec, LoraSpec) else _ia3(spec, kind, spared))
        if isinstance(spec.target_modules, tuple):
            names = [name for name, _ in model.named_modules() if name not in spared]
            unknown = [end for end in spec.target_modules if not any(f".{name}".endswith(f".{end}") for name in names)]
            if unknown:
                message = f"no layer of this {kind!r} model is called {', '.join(unknown)}"
                raise ModelRefused(f"{message} (its layers: {', '.join(_layers(model))})")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT's hints are for its own users
                self._peft: list[Any] = [get_peft_model(model, self.config)]
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ModelRefused(f"{str(error).splitlines()[0]} (name layers in target_modules)") from None

    def own_state(self) -> dict[str, Tensor]:
        """Return the updates or factors of every layer."""
        state: dict[str, Tensor] = get_peft_model_state_dict(self._peft[0], save_embedding_layers=False)
        return {name: value.detach() for name, value in state.items()}

    def put_own(self, state: Mapping[str, Tensor]) -> None:
        """Take over the updates or factors of every layer."""
        set_peft_model_state_dict(self._peft[0], dict(state))

    def detach(self) -> None:
        """Put the model's own layers back."""
        self._peft[0].base_model.unload()
        _forget(self.model)

    def merge(self) -> None:
        """Add the updates to the weights, or multiply them by the factors."""
        self._peft[0].base_model.merge_and_unload()
        _forget(self.model)


def _lora(spec: LoraSpec, model_type: str, spared: Collection[str]) -> LoraConfig:
    targets = _LORA_TARGETS.get(model_type) if spec.target_modules == "auto" else _listed(spec.target_modules)
    return LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        exclude_modules=sorted(spared) or None,
    )


def _ia3(spec: Ia3Spec, model_type: str, spared: Collection[str]) -> IA3Config:
    targets = _IA3_TARGETS.get(model_type) if spec.target_modules == "auto" else _listed(spec.target_modules)
    scaled = spec.feedforward_modules
    if scaled is not None:
        forward: list[str] | None = list(scaled)
    elif targets is None:
        forward = None  # PEFT knows both
    else:
        forward = targets[-1:] if spec.target_modules == "auto" else []
    return IA3Config(
        task_type=TaskType.FEATURE_EXTRACTION,
        target_modules=targets,
        exclude_modules=sorted(spared) or None,
        feedforward_modules=forward,
    )


def _layers(model: PreTrainedModel) -> list[str]:
    """Return what the model's linear layers are called, each name once."""
    ends = (".".join(name.split(".")[-2:]) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    return list(dict.fromkeys(end.lstrip("0123456789.") for end in ends))


def _listed(targets: str | tuple[str, ...]) -> Any:
    return targets if isinstance(targets, str) else list(targets)


def _forget(model: Any) -> None:
    """Remove what PEFT notes on a model, so that a further adapter finds it plain."""
    for name in ("peft_config", "peft_type", "_hf_peft_config_loaded"):
        vars(model).pop(name, None)
