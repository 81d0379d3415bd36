"""Trained tokens at the input: prompt tuning, and P-Tuning v1's, which a small network makes.

They precede the row, in front of its first special token, as PEFT puts them; the encoder's output at their positions is
cut off, so that positions keep their numbers for readers of the model. A pattern's own ``{soft:n}`` are P-Tuning v1's
virtual tokens where it has any: then nothing precedes the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftConfig, PromptEncoderConfig, PromptTuningConfig, TaskType
from peft.tuners.p_tuning import PromptEncoder
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from petkit.config.schema.adapter import PromptEncoderSpec, PromptTuningSpec
from petkit.errors import ModelRefused
from petkit.models.adapters.base import Adapter
from petkit.models.mask_reader import SoftTokens
from petkit.models.safety.probe import reads_every

# Ids of virtual tokens are -FIRST, -FIRST - 1, …: far from those of soft tokens in patterns.
FIRST = 2**16


class VirtualTokens(Adapter):
    """Virtual tokens before every row, or, where there are any, for the ``soft_tokens`` in it."""

    def __init__(
        self, model: PreTrainedModel, spec: PromptTuningSpec | PromptEncoderSpec, soft_tokens: int = 0, head: Sequence[str] = ()
    ) -> None:
        count = soft_tokens or spec.tokens
        embeddings: Any = model.get_input_embeddings()
        config = _config(spec, count, embeddings.weight.shape[1])
        super().__init__(model, config)
        self.soft = SoftTokens(model, count, 1 if soft_tokens else FIRST)
        self.encoder: PromptEncoder | None = None
        if isinstance(config, PromptEncoderConfig):
            self.encoder = PromptEncoder(config)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                self.encoder.embedding.weight.copy_(self.soft.vectors)
            self.soft.vectors.requires_grad_(False)
            self.soft.source = self._encoded
        self._hooks = []
        if not soft_tokens:
            self.tokens_before = count
            base = model.base_model
            self._hooks = [
                base.register_forward_pre_hook(self._put_before, with_kwargs=True),
                base.register_forward_hook(self._cut_off, prepend=True),  # before existing readers of the rows
            ]
            if not reads_every(model, self.soft, self.soft.vectors):
                self.detach()
                why = "its answers do not depend on every virtual token, or rows change their length"
                raise ModelRefused(f"a {model.config.model_type!r} model cannot carry {spec.kind}: {why} (use lora)")

    def own_state(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"prompt_embeddings": self.soft.values().detach()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        self.encoder = None
        self.soft.source = None
        with torch.no_grad():
            self.soft.vectors.copy_(state["prompt_embeddings"])

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self.soft.detach()

    def _encoded(self) -> Tensor:
        assert self.encoder is not None
        places = torch.arange(len(self.soft.vectors), device=self.soft.vectors.device)
        made: Tensor = self.encoder(places[None])[0]  # (count, embedding)
        return made

    def _put_before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]  # (batch, length)
        virtual = -FIRST - torch.arange(len(self.soft.vectors), device=ids.device)
        inputs = {**kwargs, "input_ids": torch.cat([virtual.expand(len(ids), -1), ids], dim=1)}
        for name, filling in (("attention_mask", 1), ("token_type_ids", 0)):
            if inputs.get(name) is not None:
                inputs[name] = functional.pad(inputs[name], (len(virtual), 0), value=filling)
        return args[1:], inputs

    def _cut_off(self, module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0][:, len(self.soft.vectors) :]  # (batch, length, hidden)
        output["last_hidden_state"] = hidden
        if output.get("pooler_output") is not None:  # it was taken from the first virtual token
            base: Any = module
            albert = isinstance(base.pooler, nn.Linear)
            pooled = base.pooler_activation(base.pooler(hidden[:, 0])) if albert else base.pooler(hidden)
            output["pooler_output"] = pooled  # (batch, hidden)
        return output


def _config(spec: PromptTuningSpec | PromptEncoderSpec, count: int, width: int) -> PeftConfig:
    shape: dict[str, Any] = {"task_type": TaskType.FEATURE_EXTRACTION, "num_virtual_tokens": count, "token_dim": width}
    shape |= {"num_transformer_submodules": 1, "num_attention_heads": 1, "num_layers": 1}
    if spec.kind == "prompt_tuning":
        return PromptTuningConfig(**shape)
    kind, size = spec.encoder.upper(), spec.encoder_size or width
    return PromptEncoderConfig(**shape, encoder_reparameterization_type=kind, encoder_hidden_size=size)
