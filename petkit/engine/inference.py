"""Label logits of many rows, in order, as fast as the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from petkit.engine.device import Device, inference
from petkit.errors import PetkitError
from petkit.models.adapters.base import Adapter
from petkit.models.architectures import forward_options, is_causal
from petkit.models.batch import Batch, collate, inference_batches
from petkit.models.last_layer import LastLayer
from petkit.prompts.pattern import Encoded
from petkit.prompts.tokenizer import PieceTokenizer

FloatArray = NDArray[np.float32]


_NOT_FINITE = (
    "the model produced NaN or infinite logits: its weights are too large "
    "(if they were trained here, train again with a lower learning_rate)"
)


class NotFinite(PetkitError):
    """A model's logits are NaN or infinite."""

    exit_code = 1


class ClassifierLogits(nn.Module):
    """A sequence classifier that reads a :class:`Batch`, as :class:`~petkit.models.label_scorers.LabelScorer` does.

    Its ``features`` are the first hidden vector of each row in the last forward pass, shape ``(batch, hidden)``; of causal
    models the last one, which alone has seen the whole row.
    """

    features: Tensor

    def __init__(self, model: Any, adapter: Adapter | None = None) -> None:
        super().__init__()
        self.model, self.adapter = model, adapter
        self._causal, self._options = is_causal(model.config), forward_options(model)
        self._ends = torch.zeros(0, dtype=torch.int64)
        self._last_layer = LastLayer(model)
        self._hook = model.base_model.register_forward_hook(self._keep_one)

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32."""
        self._ends = batch.attention_mask.sum(1) - 1  # (batch,)
        rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
        with self._last_layer.reading(rows, torch.zeros_like(rows), batch.input_ids.shape):
            logits: Tensor = self.model(**batch.model_inputs, **self._options).logits
        return logits.float()

    def detach(self) -> Any:
        """Undo the hook and return the plain transformers model."""
        self._hook.remove()
        self._last_layer.detach()
        return self.model

    def _keep_one(self, module: nn.Module, args: Any, output: Any) -> None:
        hidden = output[0]  # (batch, length, hidden)
        rows = torch.arange(len(hidden), device=hidden.device)
        self.features = hidden[rows, self._ends] if self._causal else hidden[:, 0]  # (batch, hidden)


class MultipleChoiceLogits(ClassifierLogits):
    """A multiple-choice model that reads a :class:`Batch` of rows with candidates, one sequence each."""

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of each row's candidates, shape ``(batch, candidates)``, float32; absent behind the last one."""
        choices = batch.choices
        assert choices is not None
        rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
        # One candidate each: (sequences, 1, length).
        inputs = {name: value[:, None] for name, value in batch.model_inputs.items()}
        with self._last_layer.reading(rows, torch.zeros_like(rows), batch.input_ids.shape):
            logits: Tensor = self.model(**inputs, **self._options).logits  # (sequences, 1)
        return choices.grid(logits[:, 0][choices.sequences])


def label_logits(
    scorer: Callable[[Batch], Tensor],
    rows: Sequence[Encoded],
    tokenizer: PieceTokenizer,
    device: Device,
    tokens_per_batch: int,
    on_rows: Callable[[int], None] = lambda done: None,
) -> FloatArray:
    """Return the label logits of rows, shape ``(rows, labels)``, in their order; they are scored in batches of similar length.

    Args:
        scorer: a prepared :class:`~petkit.models.label_scorers.LabelScorer` or :class:`ClassifierLogits`.
        on_rows: called with the number of rows of every finished batch.
    """
    logits: FloatArray | None = None
    budget = tokens_per_batch // getattr(scorer, "copies", 1)
    adapter: Adapter | None = getattr(scorer, "adapter", None)
    before = 0 if adapter is None else adapter.tokens_before
    with inference(device):
        lengths, sequences = [row.longest for row in rows], [len(row.sequences) for row in rows]
        for indices in inference_batches(lengths, budget, before, sequences):
            batch = collate([rows[index] for index in indices], tokenizer).to(device.name)
            values = scorer(batch).to("cpu", torch.float32).numpy()  # (batch, labels)
            if not np.isfinite(values).all():
                raise NotFinite(_NOT_FINITE)
            if logits is None:
                logits = np.empty((len(rows), values.shape[1]), np.float32)
            logits[indices] = values
            on_rows(len(indices))
    return np.zeros((0, 0), np.float32) if logits is None else logits
