"""The language-model head at chosen positions only.

PET, equation 1: ``s(l | x) = M(v(l) | P(x))``. The head of a masked language model maps every position to the whole vocabulary;
a PVP needs one position and a handful of columns. A forward hook replaces the encoder's output by the wanted rows, so every
architecture's own head runs on those rows alone, and something smaller can replace the vocabulary projection: the label words'
columns, a vector per label. No tensor of shape ``(batch, length, vocabulary)`` ever exists; the result equals the full forward.
A causal model is read where its answer would come next: at the row's last token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from petkit.models.architectures import forward_options
from petkit.models.batch import Batch
from petkit.models.last_layer import LastLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MaskReader(nn.Module):
    """A masked or causal language model that answers at chosen positions, until :meth:`detach` makes it plain again."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        self.features: Tensor | None = None  # (positions, hidden): the encoder's rows at the positions last read
        self._where: tuple[Tensor, Tensor] | None = None
        self._answer: Callable[[Tensor], Tensor] | None = None
        self._options = forward_options(model)
        self._last_layer = LastLayer(model)
        self._hook = model.base_model.register_forward_hook(self._keep_rows)
        self.projection = vocabulary_projection(model)
        if self.projection is not None:
            self.projection.forward = self._project

    def read(self, batch: Batch, rows: Tensor, columns: Tensor, answer: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the model's logits at the given positions, shape ``(positions, vocabulary)`` or ``(positions, answer's width)``.

        Args:
            rows, columns: of each position in the batch, shape ``(positions,)``.
            answer: takes the head's last hidden rows ``(positions, 1, hidden)`` in the vocabulary projection's place
                (only for models with such a projection); default: the projection itself.
        """
        self._where, self._answer = (rows, columns), answer
        try:
            with self._last_layer.reading(rows, columns, batch.input_ids.shape):
                logits: Tensor = self.model(**batch.model_inputs, **self._options).logits  # (positions, 1, width)
        finally:
            self._where = self._answer = None
        return logits[:, 0]

    forward = read

    def read_masks(self, batch: Batch, answer: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Read each row at its (first) mask, as :meth:`read` does."""
        return self.read(batch, torch.arange(len(batch.input_ids), device=batch.input_ids.device), batch.mask_positions, answer)

    def vocabulary_logits(self, batch: Batch) -> Tensor:
        """Return the logits of the whole vocabulary at each row's (first) mask, shape ``(batch, vocabulary)``, float32."""
        return self.read_masks(batch).float()

    def columns(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Project ``hidden (…, hidden)`` on some tokens only, shape ``(…, tokens)``; bfloat16 logits would be 1/256 apart at best."""
        assert self.projection is not None
        weight, bias = self.projection.weight[tokens], self.projection.bias
        with torch.autocast(hidden.device.type, enabled=False):
            return functional.linear(hidden.float(), weight.float(), None if bias is None else bias[tokens].float())

    def full(self, hidden: Tensor) -> Tensor:
        """Project ``hidden (…, hidden)`` on the whole vocabulary, shape ``(…, vocabulary)``."""
        assert self.projection is not None
        return functional.linear(hidden, self.projection.weight, self.projection.bias)

    def detach(self) -> PreTrainedModel:
        """Undo all hooks and return the plain model."""
        self._hook.remove()
        self._last_layer.detach()
        if self.projection is not None:
            del self.projection.forward
            self.projection = None
        model: PreTrainedModel = self.model
        return model

    def _keep_rows(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._where is None:
            return output
        rows, columns = self._where
        self.features = self._last_layer.pick(output[0], rows, columns)  # (positions, hidden)
        output["last_hidden_state"] = self.features.unsqueeze(1)  # (positions, 1, hidden)
        return output

    def _project(self, hidden: Tensor) -> Tensor:
        return self.full(hidden) if self._answer is None else self._answer(hidden)


class SoftTokens(nn.Module):
    """Trained embeddings for token ids below 0 (P-Tuning, Liu et al. 2021): ids ``-first``, ``-first - 1``, … in a batch.

    They start as the embeddings of random words, drawn from torch's current random state. Several may read one model's ids,
    each its own; the last to come must be the first to go. Where there is a ``source``, it makes their embeddings.
    """

    def __init__(self, model: PreTrainedModel, count: int, first: int = 1) -> None:
        super().__init__()
        self._embeddings: list[Any] = [model.get_input_embeddings()]  # in a list, so as not to own its parameters
        self._before = vars(self._embeddings[0]).get("forward")
        self.first = first
        self.source: Callable[[], Tensor] | None = None
        weight = self._embeddings[0].weight
        drawn = torch.randint(weight.shape[0], (count,))
        self.vectors = nn.Parameter(weight[drawn.to(weight.device)].detach().clone().float())  # (count, embedding)
        self._embeddings[0].forward = self._embed

    def values(self) -> Tensor:
        """Return the embeddings of the soft tokens, shape ``(count, embedding)``."""
        return self.vectors if self.source is None else self.source()

    def detach(self) -> None:
        """Let the model's embeddings answer as before."""
        if self._before is None:
            del self._embeddings[0].forward
        else:
            self._embeddings[0].forward = self._before

    def _embed(self, ids: Tensor) -> Tensor:
        layer = self._embeddings[0]
        number = -self.first - ids
        own = (number >= 0) & (number < len(self.vectors))  # (batch, length)
        others = ids.masked_fill(own, 0)
        embedded: Tensor = type(layer).forward(layer, others) if self._before is None else self._before(others)
        if not own.any():
            return embedded
        chosen = self.values()[number.masked_fill(~own, 0)].to(embedded.dtype)  # (batch, length, embedding)
        return torch.where(own.unsqueeze(-1), chosen, embedded)


def vocabulary_projection(model: Any) -> Any:
    """Return the head's last linear layer if it maps to the vocabulary, else None (read the columns afterwards)."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        return None
    return layer if layer.out_features == model.get_input_embeddings().weight.shape[0] else None
