"""LoRA and IA³: PEFT's own layers in place of some of the model's linear layers."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from peft import IA3Config, LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from petkit.config.schema.adapter import Ia3Spec, LoraSpec
from petkit.errors import ModelRefused, first_line
from petkit.models.adapters.base import Adapter
from petkit.models.mask_reader import vocabulary_projection

# Families PEFT has no defaults for: query and value, or the layer that contains them; then IA³'s, feed-forward output last.
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
# What each can stand in for: GPT-2's Conv1D is a linear layer, SqueezeBERT's nn.Conv1d works as one.
_IA3_LAYERS = (nn.Linear, Conv1D)
_LORA_LAYERS = (*_IA3_LAYERS, nn.Embedding, nn.Conv1d)


class LayerAdapter(Adapter):
    """LoRA or IA³: PEFT's layers in place of some of the model's linear layers; the modules of ``head`` stay as they are."""

    mergeable = True

    def __init__(
        self, model: PreTrainedModel, spec: LoraSpec | Ia3Spec, soft_tokens: int = 0, head: Collection[str] = ()
    ) -> None:
        spared = {name.rpartition(".")[0] for name in head}
        if wrong := _mistakes(model, spec, spared):
            raise ModelRefused(f"{'; '.join(wrong)} (its layers: {', '.join(_layers(model, spared))})")
        try:
            super().__init__(model, _config(spec, model.config.model_type, spared))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT's hints are for its own users
                self._peft: list[Any] = [get_peft_model(model, self.config)]
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ModelRefused(f"{first_line(error)} (name layers in target_modules)") from None

    def own_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = get_peft_model_state_dict(self._peft[0], save_embedding_layers=False)
        return {name: value.detach() for name, value in state.items()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        set_peft_model_state_dict(self._peft[0], dict(state))

    def detach(self) -> None:
        self._peft[0].base_model.unload()
        _forget(self.model)

    def merge(self) -> None:
        self._peft[0].base_model.merge_and_unload()
        _forget(self.model)


def _config(spec: LoraSpec | Ia3Spec, model_type: str, spared: Collection[str]) -> LoraConfig | IA3Config:
    targets = _targets(spec, model_type)
    common: dict[str, Any] = {"task_type": TaskType.FEATURE_EXTRACTION, "exclude_modules": sorted(spared) or None}
    if isinstance(spec, LoraSpec):
        sizes: dict[str, Any] = {"r": spec.rank, "lora_alpha": spec.alpha, "lora_dropout": spec.dropout}
        return LoraConfig(target_modules=targets, **sizes, **common)
    if spec.feedforward_modules is not None:
        scaled: list[str] | None = list(spec.feedforward_modules)
    elif spec.target_modules != "auto":
        scaled = []
    else:
        scaled = _IA3_TARGETS.get(model_type, [])[-1:] or None  # None: PEFT knows
    return IA3Config(target_modules=targets, feedforward_modules=scaled, **common)


def _targets(spec: LoraSpec | Ia3Spec, model_type: str) -> Any:
    """Return the layers to adapt: names, PEFT's word for all, or None where PEFT knows those of LoRA."""
    if spec.target_modules != "auto":
        return spec.target_modules if isinstance(spec.target_modules, str) else list(spec.target_modules)
    if isinstance(spec, LoraSpec):
        return _LORA_TARGETS.get(model_type)
    return _IA3_TARGETS.get(model_type) or TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(model_type)


def _mistakes(model: PreTrainedModel, spec: LoraSpec | Ia3Spec, spared: Collection[str]) -> list[str]:
    """Say which of the layers named are not there, or cannot carry the adapter."""
    kind = f"{model.config.model_type!r} model"
    modules = [(f".{name}", module) for name, module in model.named_modules() if name not in spared]
    # The mask reader evaluates only some columns of the output projection, so it cannot carry an adapter.
    vocabulary = vocabulary_projection(model)
    carriers = _LORA_LAYERS if isinstance(spec, LoraSpec) else _IA3_LAYERS
    found, unknown = [], []
    for end in spec.target_modules if isinstance(spec.target_modules, tuple) else ():
        meant = [module for name, module in modules if name.endswith(f".{end}")]
        if not meant:
            unknown.append(end)
        elif vocabulary is not None and any(module is vocabulary for module in meant):
            found.append(f"{end} is the vocabulary's own layer, which cannot be adapted")
        elif not all(isinstance(module, carriers) for module in meant):
            found.append(f"{end} is not a linear layer of this {kind}")
    if unknown:
        found.append(f"no layer of this {kind} is called {', '.join(unknown)}")
    if isinstance(spec, Ia3Spec) and spec.feedforward_modules:
        targets = _targets(spec, model.config.model_type)
        if isinstance(targets, list):
            if strange := [end for end in spec.feedforward_modules if end not in targets]:
                found.append(f"feedforward_modules: {', '.join(strange)} is none of the layers adapted, {', '.join(targets)}")
        elif targets is not None:  # all-linear
            names = [name for name, module in modules if isinstance(module, carriers) and module is not vocabulary]
            if strange := [end for end in spec.feedforward_modules if not any(name.endswith(f".{end}") for name in names)]:
                found.append(f"feedforward_modules: no layer of this {kind} is called {', '.join(strange)}")
    return found


def _layers(model: PreTrainedModel, spared: Collection[str]) -> list[str]:
    """Return what the model's linear layers are called, each name once, but for the vocabulary's own and the new head's."""
    vocabulary = vocabulary_projection(model)
    layers = [(name, layer) for name, layer in model.named_modules() if layer is not vocabulary and name not in spared]
    linear = [name for name, layer in layers if isinstance(layer, _IA3_LAYERS)]
    ends = (".".join(name.split(".")[-2:]) for name in linear)
    return list(dict.fromkeys(end.lstrip("0123456789.") for end in ends))


def _forget(model: Any) -> None:
    """Remove what PEFT notes on a model, so that a further adapter finds it plain."""
    for name in ("peft_config", "peft_type", "_hf_peft_config_loaded"):
        vars(model).pop(name, None)
