"""The last layer at chosen positions only.

A head reads one position of an encoder's last layer, or a few. Their queries need the keys and values of every position;
everything after the attention needs the chosen positions alone. In layers like BERT's, queries, output and feed-forward of the
others are ten of the layer's twelve parts of matrix products. The chosen rows equal those of the whole layer but for rounding
(and, in training, for which units dropout draws). Other architectures, and models with an adapter that puts tokens or keys
before each row, are narrowed after the attention, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

# Wider than this share of the rows, the copies of the chosen positions cost more than they save.
_MOST_SHARE = 0.5


class LastLayer:
    """The last layer of a model, which :meth:`reading` narrows; a model of another architecture is left as it is."""

    def __init__(self, model: Any) -> None:
        self._columns: Tensor | None = None  # (batch, chosen): the positions wanted of each row
        self._rank = torch.zeros(0, dtype=torch.int64)  # (positions,): the number of each among those of its row
        self._length = 0  # of the batch as the model is given it
        self._narrowed = False
        narrow = None if getattr(model.config, "is_decoder", False) else _NARROW.get(model.config.model_type)
        self._undo: list[Callable[[], None]] = [] if narrow is None else narrow(self, model.base_model)

    @contextmanager
    def reading(self, rows: Tensor, columns: Tensor, shape: torch.Size) -> Iterator[None]:
        """Narrow the layer, in one forward pass on a batch of ``shape``, to given positions ``(positions,)``."""
        self._narrowed = False
        if self._undo:
            self._rank, self._length = _rank(rows), shape[1]
            self._columns = _by_row(rows, columns, self._rank, shape)
        try:
            yield
        finally:
            self._columns = None

    def pick(self, hidden: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the last layer's output at the positions given to :meth:`reading`, shape ``(positions, hidden)``."""
        return hidden[rows, self._rank if self._narrowed else columns]

    def detach(self) -> None:
        """Let the layer work on every position again."""
        for undo in self._undo:
            undo()
        self._undo = []

    # -- hooks -----------------------------------------------------------------------------------

    def attend(self, attention: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """BERT's self-attention, with queries of the chosen positions only; shape ``(batch, chosen, hidden)``."""
        columns = self._columns
        # Tokens or keys that an adapter puts before each row are for the attention of transformers.
        prefixed = options.get("past_key_values") is not None or attention.config._attn_implementation not in ("eager", "sdpa")
        if columns is None or prefixed or self._length != hidden_states.shape[1]:
            return type(attention).forward(attention, hidden_states, attention_mask, **options)

        def heads(projected: Tensor) -> Tensor:  # (batch, heads, positions, head)
            return projected.view(*projected.shape[:-1], -1, attention.attention_head_size).transpose(1, 2)

        query = heads(attention.query(_gather(hidden_states, columns)))
        key, value = heads(attention.key(hidden_states)), heads(attention.value(hidden_states))
        scores = query @ key.mT / math.sqrt(attention.attention_head_size)  # (batch, heads, chosen, length)
        if attention_mask is not None:
            mask = attention_mask[:, :, :1]  # every position sees the same ones
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        weights = attention.dropout(functional.softmax(scores, dim=-1))
        return (weights @ value).transpose(1, 2).flatten(2), None

    def narrow(self, hidden: Tensor) -> Tensor:
        """Return the chosen positions of ``(batch, length, hidden)``; what is narrow already, or not of the batch, as it is."""
        if self._columns is None or hidden.shape[1] != self._length:
            return hidden
        self._narrowed = True
        return _gather(hidden, self._columns)


def _by_row(rows: Tensor, columns: Tensor, rank: Tensor, shape: torch.Size) -> Tensor | None:
    """Return the columns of each row ``(batch, most of a row)``, filled up with 0; None where there are none, or too many."""
    batch, length = shape
    most = int(torch.bincount(rows, minlength=batch).max())
    if not 0 < most <= length * _MOST_SHARE:
        return None
    found = columns.new_zeros(batch, most)
    found[rows, rank] = columns
    return found


def _rank(rows: Tensor) -> Tensor:
    """Return the number of each position among those of its row, shape ``(positions,)``."""
    order = rows.argsort(stable=True)
    first = torch.searchsorted(rows[order], rows.contiguous())  # where the positions of the same row begin in that order
    return order.argsort() - first


def _gather(hidden: Tensor, columns: Tensor) -> Tensor:
    """Return the vectors of each row's columns, shape ``(batch, chosen, hidden)``."""
    return hidden.gather(1, columns.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))


def _like_bert(layer: LastLayer, base: Any) -> list[Callable[[], None]]:
    attention = base.encoder.layer[-1].attention
    own = attention.self

    def attend(*given: Any, **options: Any) -> Any:
        return layer.attend(own, *given, **options)

    own.forward = attend
    return [lambda: own.__dict__.pop("forward"), *_after_attention(layer, attention.output)]


def _like_deberta(layer: LastLayer, base: Any) -> list[Callable[[], None]]:
    return _after_attention(layer, base.encoder.layer[-1].attention.output)


def _after_attention(layer: LastLayer, output: nn.Module) -> list[Callable[[], None]]:
    """Narrow what a module of the attention's output and the residual stream is given."""
    return [output.register_forward_pre_hook(lambda module, given: tuple(map(layer.narrow, given))).remove]


def _like_mpnet(layer: LastLayer, base: Any) -> list[Callable[[], None]]:
    attention = base.encoder.layer[-1].attention
    return [attention.register_forward_hook(lambda module, given, output: (layer.narrow(output[0]), *output[1:])).remove]


def _like_distilbert(layer: LastLayer, base: Any) -> list[Callable[[], None]]:
    norm = base.transformer.layer[-1].sa_layer_norm
    return [norm.register_forward_hook(lambda module, given, output: layer.narrow(output)).remove]


_NARROW: Final = {
    "bert": _like_bert,
    "camembert": _like_bert,
    "electra": _like_bert,
    "roberta": _like_bert,
    "xlm-roberta": _like_bert,
    "deberta": _like_deberta,
    "deberta-v2": _like_deberta,
    "mpnet": _like_mpnet,
    "distilbert": _like_distilbert,
}
