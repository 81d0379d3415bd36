"""Logits of a row's own candidates: what a model says of each in the slot ("It's Not Just Size", Schick & Schütze 2021, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from petkit.models.batch import Batch, Choices
from petkit.models.label_scorer import VOCABULARY_LOGITS_AT_ONCE, LabelScorer
from petkit.models.mask_reader import MaskReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CandidateScorer(LabelScorer):
    """Reads candidates of any number of tokens, of every row others, as log-probabilities under the whole vocabulary.

    ``parallel`` reads all tokens of a candidate at once and takes the mean of their log-probabilities; in causal models each
    token is read after those before it. ``max_first`` is the paper's: the product of probabilities, where outside of training the
    surest token is filled in first and the others are read again. Training reads all tokens at once. ``features`` are the vectors
    of the places read last: a row has none of its own, so that losses that compare rows do not go with candidates.
    """

    def __init__(
        self,
        model: PreTrainedModel | MaskReader,
        decoding: Literal["parallel", "max_first"] = "parallel",
        soft_tokens: int = 0,
    ) -> None:
        super().__init__(model, soft_tokens)
        self.decoding = decoding

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of each row's candidates, shape ``(batch, candidates)``, float32; absent behind the last one."""
        choices = batch.choices
        assert choices is not None
        log_probs = self._at_once(batch, choices)  # (candidates, tokens)
        if self.decoding == "max_first" and not self.reader.model.training:
            with torch.no_grad():
                return choices.grid(self._surest_first(batch, choices, log_probs))
        total = log_probs.sum(1)
        return choices.grid(total / choices.lengths if self.decoding == "parallel" else total)

    def _at_once(self, batch: Batch, choices: Choices) -> Tensor:
        """Return the log-probability of every token while no other is filled in (causal models: after those before it), or 0."""
        there, number = choices.there.nonzero(as_tuple=True)  # (tokens of all candidates,) each
        sequences = choices.sequences[there]
        columns = batch.mask_positions[sequences] + number
        read = self._log_probs(batch, sequences, columns, choices.tokens[there, number])
        return torch.zeros(choices.there.shape, device=read.device).index_put((there, number), read)

    def _surest_first(self, batch: Batch, choices: Choices, log_probs: Tensor) -> Tensor:
        """Return the log-probability ``(candidates,)`` of candidates whose surest token is filled in first, again and again.

        As many copies of rows are read at once as the batch has sequences.
        """
        at_once = len(batch.input_ids)
        every = torch.arange(len(log_probs), device=log_probs.device)
        return torch.cat([self._piece_surest_first(batch, choices, log_probs, piece) for piece in torch.split(every, at_once)])

    def _piece_surest_first(self, batch: Batch, choices: Choices, log_probs: Tensor, piece: Tensor) -> Tensor:
        sequences, tokens, left = choices.sequences[piece], choices.tokens[piece], choices.there[piece].clone()
        starts, every = batch.mask_positions[sequences], torch.arange(len(piece), device=piece.device)
        copies = batch.sequences(sequences)
        ids = copies.input_ids.clone()
        own = log_probs[piece].masked_fill(~left, -torch.inf)  # (candidates, tokens)
        total = torch.zeros_like(own[:, 0])
        while True:
            found, surest = own.max(1)  # (candidates,) each
            open_ones = left.any(1)
            total = total + torch.where(open_ones, found, 0)
            ids[every[open_ones], (starts + surest)[open_ones]] = tokens[every, surest][open_ones]
            left[every, surest] = False
            rows, places = left.nonzero(as_tuple=True)
            if not len(rows):
                return total
            read = self._log_probs(copies.with_ids(ids), rows, starts[rows] + places, tokens[rows, places])
            own = torch.full_like(own, -torch.inf)
            own[rows, places] = read

    def _log_probs(self, batch: Batch, rows: Tensor, columns: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probability of each token at its place, shape ``(tokens,)``; a place is read once for all its tokens."""
        width, projection = batch.input_ids.shape[1], self.reader.projection
        places, place_of = torch.unique(rows * width + columns, return_inverse=True)
        rows, columns = places // width, places % width
        if projection is None:
            logits = self.reader.read(batch, rows, columns).float()  # (places, vocabulary)
            return logits[place_of, tokens] - logits.logsumexp(-1)[place_of]

        def answer(hidden: Tensor) -> Tensor:  # (places, 1, hidden)
            at_once = max(1, VOCABULARY_LOGITS_AT_ONCE // projection.out_features)
            blocks = torch.split(hidden[:, 0], at_once)
            normaliser = torch.cat([self.reader.full(block).float().logsumexp(-1) for block in blocks])  # (places,)
            weight, bias = projection.weight[tokens], projection.bias
            with torch.autocast(hidden.device.type, enabled=False):
                scores = (hidden[place_of, 0].float() * weight.float()).sum(-1)
                scores = scores if bias is None else scores + bias[tokens].float()
            log_probs: Tensor = scores - normaliser[place_of]
            return log_probs.view(-1, 1, 1)

        read: Tensor = self.reader.read(batch, rows, columns, answer)  # (tokens, 1)
        return read[:, 0]
