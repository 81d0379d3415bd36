"""Label logits at the mask: the masked-LM head on one row per text, read at the label words only.

PET, equation 1: ``s(l | x) = M(v(l) | P(x))``. The head of a masked language model maps every position
to the whole vocabulary; a PVP needs one position and a handful of columns. A forward hook replaces the
encoder's output by its rows at the mask, so every architecture's own head runs on those rows alone,
and the vocabulary projection multiplies the label words' columns alone. No tensor of shape
``(batch, length, vocabulary)`` ever exists; the result equals the full forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from petkit.lm.batching import Batch


class LabelScorer(nn.Module):
    """A masked language model that answers with label logits.

    While a scorer is attached, ``model`` gives word logits at the mask rows only; :meth:`detach` makes it plain again.

    Args:
        model: any ``AutoModelForMaskedLM``.
        label_token_ids: the vocabulary columns of each label's words, labels in class order.
    """

    averaging: Tensor
    columns: Tensor

    def __init__(self, model: PreTrainedModel, label_token_ids: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.model: Any = model
        flat = [token for words in label_token_ids for token in words]
        averaging = torch.zeros(len(flat), len(label_token_ids))  # (words, labels)
        row = 0
        for label, words in enumerate(label_token_ids):
            averaging[row : row + len(words), label] = 1 / len(words)
            row += len(words)
        self.register_buffer("averaging", averaging, persistent=False)
        self.register_buffer("columns", torch.tensor(flat), persistent=False)
        self._positions: Tensor | None = None
        self._hook = model.base_model.register_forward_hook(self._keep_mask_rows)
        self._projection = _vocabulary_projection(model)
        if self._projection is not None:
            self._projection.forward = self._project_columns

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32: the mean over each label's words."""
        self._positions = batch.mask_positions
        try:
            logits = self.model(**batch.model_inputs).logits  # (batch, 1, words) or (batch, 1, vocabulary)
        finally:
            self._positions = None
        word_logits = logits[:, 0] if self._projection is not None else logits[:, 0, self.columns]  # (batch, words)
        with torch.autocast(word_logits.device.type, enabled=False):  # it would round the sums to bfloat16 again
            label_logits: Tensor = word_logits.float() @ self.averaging  # (batch, labels)
        return label_logits

    def detach(self) -> PreTrainedModel:
        """Undo all hooks and return the plain model."""
        self._hook.remove()
        if self._projection is not None:
            del self._projection.forward
            self._projection = None
        model: PreTrainedModel = self.model
        return model

    def _keep_mask_rows(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._positions is None:
            return output
        hidden = output[0]  # (batch, length, hidden)
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        output["last_hidden_state"] = hidden[rows, self._positions].unsqueeze(1)  # (batch, 1, hidden)
        return output

    def _project_columns(self, hidden: Tensor) -> Tensor:
        assert self._projection is not None
        weight, bias = self._projection.weight[self.columns], self._projection.bias
        # A few columns cost nothing in float32, and label logits in bfloat16 would be 1/256 apart at best.
        with torch.autocast(hidden.device.type, enabled=False):
            return functional.linear(hidden.float(), weight.float(), None if bias is None else bias[self.columns].float())


def _vocabulary_projection(model: Any) -> Any:
    """Return the head's last linear layer if it maps to the vocabulary, else None (read the columns afterwards)."""
    layer = model.get_output_embeddings()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return layer if isinstance(layer, nn.Linear) and layer.out_features == vocabulary else None
