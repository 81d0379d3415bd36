"""Label logits at the mask: what the model says in the slot, read as labels.

Three ways to answer, one interface: :class:`WordScorer` reads one token per label word (PET, equation 1),
:class:`MultiTokenScorer` words of several tokens (Schick & Schütze 2021, "It's Not Just Size", section 3.1),
:class:`VectorScorer` a trained vector per label (WARP, Hambardzumyan et al. 2021; ProtoVerb, Cui et al. 2022).
The first and the last read causal models as well; :mod:`petkit.models.next_token_scorer` reads their words of several tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from petkit.errors import ModelRefused
from petkit.models.adapters.base import Adapter
from petkit.models.batch import Batch
from petkit.models.mask_reader import MaskReader, SoftTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Labels → words → tokens.
TokenIds: TypeAlias = Sequence[Sequence[Sequence[int]]]
PROTOTYPE_TEMPERATURE = 0.1
# Vocabulary rows held at once while normalising: 2^25 floats are 128 MB.
_LOGITS_AT_ONCE = 2**25


class LabelScorer(nn.Module, ABC):
    """A language model that answers with label logits; every ``forward`` returns ``(batch, labels)`` in float32.

    Built on a :class:`~petkit.models.mask_reader.MaskReader` instead of a model, it shares the model with that reader's own scorer.

    Attributes:
        adapter: parameters trained in addition to the model (see :mod:`petkit.models.adapters.base`).
    """

    def __init__(self, model: PreTrainedModel | MaskReader, soft_tokens: int = 0) -> None:
        super().__init__()
        self.reader = model if isinstance(model, MaskReader) else MaskReader(model)
        self.soft = SoftTokens(self.reader.model, soft_tokens) if soft_tokens else None
        self.adapter: Adapter | None = None

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32."""

    @property
    def features(self) -> Tensor:
        """The encoder's row at each (first) mask in the last forward pass, shape ``(batch, hidden)``."""
        assert self.reader.features is not None
        return self.reader.features

    def own_state(self) -> dict[str, Tensor]:
        """Return the parameters trained in addition to the model: soft tokens, label vectors."""
        return {} if self.soft is None else {"soft_tokens": self.soft.vectors.detach()}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`own_state` gave.

        Raises:
            ModelRefused: it was made for other soft tokens or labels.
        """
        expected = self.own_state()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
            raise ModelRefused("the teacher's soft tokens or label vectors are missing or made for another pattern")
        with torch.no_grad():
            for name, value in state.items():
                expected[name].copy_(value)

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters the model did not come with."""
        return [] if self.soft is None else [self.soft.vectors]

    def release(self) -> None:
        """Leave the reader to another scorer."""
        if self.soft is not None:
            self.soft.detach()

    def detach(self) -> PreTrainedModel:
        """Undo all hooks and return the plain model."""
        self.release()
        return self.reader.detach()


class WordScorer(LabelScorer):
    """Reads label words of one token each; a label's logit is the mean over its words (PET, equation 1).

    Args:
        model: any ``AutoModelForMaskedLM``, or a reader of one.
        words: labels in class order → words → their one token.
    """

    averaging: Tensor
    tokens: Tensor

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, soft_tokens)
        self.register_buffer("averaging", _averaging(words), persistent=False)
        self.register_buffer("tokens", torch.tensor([word[0] for label in words for word in label]), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32: the mean over each label's words."""
        rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
        if self.reader.projection is None:
            word_logits = self.reader.read(batch, rows, batch.mask_positions)[:, self.tokens]  # (batch, words)
        else:
            word_logits = self.reader.read(
                batch, rows, batch.mask_positions, lambda hidden: self.reader.columns(hidden, self.tokens)
            )
        with torch.autocast(word_logits.device.type, enabled=False):  # it would round the sums to bfloat16 again
            label_logits: Tensor = word_logits.float() @ self.averaging  # (batch, labels)
        return label_logits


class MultiTokenScorer(LabelScorer):
    """Reads label words of any number of tokens, as log-probabilities under the whole vocabulary.

    A word of k tokens is read at k masks; words of different lengths are read from copies of the row with as many
    masks, all in one forward pass. ``parallel`` reads all tokens of a word at once and takes the mean of their
    log-probabilities, so that long words are not worse for being long. ``max_first`` is the paper's: the sum of
    log-probabilities, where outside of training the surest token is filled in first and the others are read again
    ("It's Not Just Size", section 3.1); training reads them at once. A label's logit is the mean over its words.

    Args:
        model: any ``AutoModelForMaskedLM``, or a reader of one.
        words: labels in class order → words → tokens.
        decoding: how the tokens of one word are read.
    """

    averaging: Tensor
    tokens: Tensor
    columns: Tensor

    def __init__(
        self,
        model: PreTrainedModel | MaskReader,
        words: TokenIds,
        decoding: Literal["parallel", "max_first"] = "parallel",
        soft_tokens: int = 0,
    ) -> None:
        super().__init__(model, soft_tokens)
        self.decoding = decoding
        flat = [list(word) for label in words for word in label]
        lengths = [len(word) for word in flat]
        self.lengths = sorted(set(lengths))
        self.copies = len(self.lengths)
        self._numbers = {length: [number for number, own in enumerate(lengths) if own == length] for length in self.lengths}
        known = sorted({token for word in flat for token in word})
        places = {token: place for place, token in enumerate(known)}
        columns = [[places[token] for token in word] + [0] * (max(lengths) - len(word)) for word in flat]
        self.register_buffer("averaging", _averaging(words), persistent=False)
        self.register_buffer("tokens", torch.tensor(known), persistent=False)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)  # (words, longest): places in ``tokens``
        self._features: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """The encoder's row at the first mask of each row's longest copy in the last forward pass, ``(batch, hidden)``."""
        assert self._features is not None
        return self._features

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32: mean over a label's words of their log-probabilities."""
        one_by_one = self.decoding == "max_first" and not self.reader.model.training
        with torch.no_grad() if one_by_one else nullcontext():
            scores = []
            for copy, log_probs in self._copies(batch):
                numbers = self._numbers[copy.masks]
                places = torch.arange(copy.masks, device=log_probs.device)
                own = log_probs[:, places, self.columns[numbers, : copy.masks]]  # (batch, words of this length, tokens)
                if one_by_one and copy.masks > 1:
                    found = [self._surest_first(copy, word, own[:, index]) for index, word in enumerate(numbers)]
                    scores.append(torch.stack(found, dim=1))
                else:
                    scores.append(own.mean(-1) if self.decoding == "parallel" else own.sum(-1))
            order = [number for length in self.lengths for number in self._numbers[length]]
            with torch.autocast(scores[0].device.type, enabled=False):
                label_logits: Tensor = torch.cat(scores, dim=1) @ self.averaging[order]  # (batch, labels)
        return label_logits

    def _copies(self, batch: Batch) -> list[tuple[Batch, Tensor]]:
        """Read each row once per word length, in one forward pass.

        Returns:
            Per length, the rows with as many masks, and log-probabilities ``(batch, masks, known tokens)`` there.
        """
        size, device = len(batch.input_ids), batch.input_ids.device
        copies = [batch.with_masks(length) for length in self.lengths]
        rows, columns = [], []
        for number, copy in enumerate(copies):
            every = torch.arange(number * size, (number + 1) * size, device=device)
            rows.append(every.repeat_interleave(copy.masks))
            columns.append((copy.mask_positions[:, None] + torch.arange(copy.masks, device=device)).flatten())
        log_probs = self._log_probs(Batch.stacked(copies), torch.cat(rows), torch.cat(columns))  # (positions, known tokens)
        sizes = [size * copy.masks for copy in copies]
        self._features = torch.split(super().features, sizes)[-1][:: copies[-1].masks]  # (batch, hidden)
        blocks = torch.split(log_probs, sizes)
        return [(copy, block.view(size, copy.masks, -1)) for copy, block in zip(copies, blocks, strict=True)]

    def _surest_first(self, copy: Batch, word: int, own: Tensor) -> Tensor:
        """Return the log-probability of a word whose surest token is filled in first, again and again (section 3.1).

        Args:
            copy: the rows with as many masks as the word has tokens.
            word: its number.
            own: log-probabilities of its tokens while none is filled in, shape ``(batch, tokens)``.

        Returns:
            Shape ``(batch,)``.
        """
        size, length = own.shape
        columns = self.columns[word, :length]  # (tokens,)
        target = self.tokens[columns]  # (tokens,)
        every = torch.arange(size, device=own.device)
        left = torch.ones_like(own, dtype=torch.bool)
        ids = copy.input_ids.clone()
        total = torch.zeros_like(own[:, 0])
        while True:
            surest = own.argmax(1)  # (batch,)
            total += own[every, surest]
            ids[every, copy.mask_positions + surest] = target[surest]
            left[every, surest] = False
            rows, places = left.nonzero(as_tuple=True)
            if not len(rows):
                return total
            read = self._log_probs(copy.with_ids(ids), rows, copy.mask_positions[rows] + places)  # (left over, known tokens)
            own = torch.full_like(own, -torch.inf)
            own[rows, places] = read.gather(1, columns[places, None])[:, 0]

    def _log_probs(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """Return log-probabilities of the label words' tokens under the whole vocabulary, ``(positions, known tokens)``."""
        projection = self.reader.projection
        if projection is None:
            logits = self.reader.read(batch, rows, columns).float()  # (positions, vocabulary)
            return logits[:, self.tokens] - logits.logsumexp(-1, keepdim=True)

        def answer(hidden: Tensor) -> Tensor:  # (positions, 1, hidden)
            at_once = max(1, _LOGITS_AT_ONCE // projection.out_features)
            blocks = torch.split(hidden, at_once)
            normaliser = torch.cat([self.reader.full(block).float().logsumexp(-1, keepdim=True) for block in blocks])
            return self.reader.columns(hidden, self.tokens) - normaliser

        return self.reader.read(batch, rows, columns, answer)


class VectorScorer(LabelScorer):
    """Reads one trained vector per label, which starts as the mean of the label words' output vectors.

    ``soft``: the inner product plus a bias, a verbalizer without chosen words (WARP). ``prototype``: the
    cosine divided by a fixed temperature of 0.1, so that only directions count (ProtoVerb).

    Args:
        model: any ``AutoModelForMaskedLM`` whose head ends in a projection to the vocabulary, or a reader of one.
        words: labels in class order → words → their one token.

    Raises:
        ModelRefused: the model's head does not end in a projection to the vocabulary.
    """

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, kind: str, soft_tokens: int = 0) -> None:
        super().__init__(model, soft_tokens)
        projection = self.reader.projection
        if projection is None:
            model_type = self.reader.model.config.model_type
            raise ModelRefused(f"a {model_type!r} model has no output vectors to start label vectors from (use kind: words)")
        averaging = _averaging(words).to(projection.weight.device)  # (words, labels)
        tokens = [word[0] for label in words for word in label]
        with torch.no_grad():
            self.vectors = nn.Parameter(averaging.T @ projection.weight[tokens].float())  # (labels, hidden)
            bias = averaging.T @ projection.bias[tokens].float() if projection.bias is not None else torch.zeros(len(words))
        self.bias = nn.Parameter(bias.to(averaging.device)) if kind == "soft" else None  # (labels,)

    def forward(self, batch: Batch) -> Tensor:
        """Return label logits, shape ``(batch, labels)``, float32."""
        rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
        return self.reader.read(batch, rows, batch.mask_positions, self._answer)

    def own_state(self) -> dict[str, Tensor]:
        """Return the label vectors and what every scorer has."""
        bias = {} if self.bias is None else {"label_bias": self.bias.detach()}
        return {**super().own_state(), "label_vectors": self.vectors.detach(), **bias}

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the label vectors and what every scorer has."""
        return [*super().new_parameters(), self.vectors, *([] if self.bias is None else [self.bias])]

    def _answer(self, hidden: Tensor) -> Tensor:  # (batch, 1, hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            if self.bias is not None:
                return functional.linear(hidden.float(), self.vectors, self.bias)
            cosine = functional.normalize(hidden.float(), dim=-1) @ functional.normalize(self.vectors, dim=-1).T
            return cosine / PROTOTYPE_TEMPERATURE


def _averaging(words: TokenIds) -> Tensor:
    """Return the matrix ``(words, labels)`` that turns word scores into their mean per label."""
    matrix = torch.zeros(sum(len(label) for label in words), len(words))
    row = 0
    for label, label_words in enumerate(words):
        matrix[row : row + len(label_words), label] = 1 / len(label_words)
        row += len(label_words)
    return matrix
