"""P-Tuning v2: trained keys and values before those of the text, in every layer of a frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PrefixTuningConfig, TaskType
from peft.tuners.prefix_tuning import PrefixEncoder
from torch import Tensor, nn
from transformers import PreTrainedModel

from petkit.config.schema.adapter import DeepPrefixSpec
from petkit.errors import ModelRefused
from petkit.models.adapters.base import Adapter
from petkit.models.adapters.prefixed_attention import PrefixedAttention
from petkit.models.safety.probe import STUMBLES, reads_every

# Of the keys and values a training begins with: that of new weights in BERT and most others. PEFT begins with 1, which
# drowns the text at first; on development rows of SST-2 and AG's News that cost 1 to 2 points.
_SPREAD = 0.02


class DeepPrefix(Adapter):
    """Trained keys and values before those of the text, in every layer (P-Tuning v2, Liu et al. 2022, section 3.2).

    Where the model takes a cache of earlier keys, the prefix also takes the first positions, as in PEFT: rows must leave
    ``spec.tokens`` of the model's positions free. ``soft_tokens`` and ``head`` are of other kinds.
    """

    def __init__(self, model: PreTrainedModel, spec: DeepPrefixSpec, soft_tokens: int = 0, head: Sequence[str] = ()) -> None:
        kind = model.config.model_type
        refusal = f"a {kind!r} model cannot carry p_tuning_v2: its attention takes no further keys (use lora)"
        try:
            config = _config(model.config, spec)
        except STUMBLES:
            raise ModelRefused(refusal) from None
        super().__init__(model, config)
        self.tokens_before = spec.tokens
        self.encoder = PrefixEncoder(config).to(model.device)  # type: ignore[no-untyped-call]
        if not spec.projection:
            with torch.no_grad():
                self.encoder.embedding.weight.mul_(_SPREAD)
        self._attention = PrefixedAttention(model, self._keys_and_values)
        # One token is enough, whatever positions the model has.
        if not reads_every(model, self._attention, self._keys_and_values()[..., :1, :]):
            self.detach()
            raise ModelRefused(refusal)

    def own_state(self) -> dict[str, Tensor]:
        return {"prompt_embeddings": self._vectors().detach()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        vectors = state["prompt_embeddings"]
        if self.encoder.prefix_projection:
            self.encoder.prefix_projection = False
            del self.encoder.transform
            self.encoder.embedding = nn.Embedding(
                len(vectors), vectors.shape[1], _weight=vectors.to(self.model.device, copy=True)
            )
        else:
            with torch.no_grad():
                self.encoder.embedding.weight.copy_(vectors)

    def detach(self) -> None:
        self._attention.remove()

    def _vectors(self) -> Tensor:
        """Return all layers' keys and values, shape ``(tokens, layers · 2 · width)``."""
        places = torch.arange(self.tokens_before, device=self.encoder.embedding.weight.device)
        vectors: Tensor = self.encoder(places[None])[0]
        return vectors

    def _keys_and_values(self) -> Tensor:
        sizes = (self.config.num_layers, 2, self.config.num_attention_heads, -1)
        return torch.unflatten(self._vectors(), 1, sizes).permute(1, 2, 3, 0, 4)  # (layers, 2, heads, tokens, head)


def _config(model: Any, spec: DeepPrefixSpec) -> PrefixTuningConfig:
    """Return PEFT's description; ``width`` is that of all heads' keys, which grouped-query attention has few of."""
    heads = model.num_attention_heads
    size = getattr(model, "head_dim", None) or model.hidden_size // heads
    heads = getattr(model, "num_key_value_heads", None) or heads
    return PrefixTuningConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        num_virtual_tokens=spec.tokens,
        token_dim=heads * size,
        num_transformer_submodules=1,
        num_attention_heads=heads,
        num_layers=model.num_hidden_layers,
        encoder_hidden_size=spec.projection_size if spec.projection else heads * size,
        prefix_projection=spec.projection,
    )
