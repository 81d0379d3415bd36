"""Label logits at the mask: what the model says in the slot, read as labels.

:class:`WordScorer` reads one token per label word (PET, equation 1), :class:`MultiTokenScorer` words of several tokens (Schick &
Schütze 2021, "It's Not Just Size", section 3.1), :class:`NextTokenScorer` the same in causal models, and :class:`VectorScorer` a
trained vector per label (WARP, Hambardzumyan et al. 2021; ProtoVerb, Cui et al. 2022). The first and the last read causal models
as well, at a row's last token; discriminators have a scorer of their own (:mod:`~petkit.models.replaced_token`). Pipelines choose
among them by name; other packages add theirs by entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from petkit.config.registry import LABEL_SCORER_NAMES, Registry
from petkit.errors import ModelRefused
from petkit.models.batch import Batch
from petkit.models.candidate_scorer import CandidateScorer
from petkit.models.label_scorer import VOCABULARY_LOGITS_AT_ONCE, LabelScorer, TokenIds, averaging_of, label_means
from petkit.models.mask_reader import MaskReader
from petkit.models.replaced_token import ReplacedTokenScorer, is_discriminator
from petkit.prompts.pvp import PVP

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROTOTYPE_TEMPERATURE = 0.1


class WordScorer(LabelScorer):
    """Reads label words of one token each; a label's logit is the mean over its words (PET, equation 1)."""

    averaging: Tensor
    tokens: Tensor

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, soft_tokens)
        self.register_buffer("averaging", averaging_of(words), persistent=False)
        self.register_buffer("tokens", torch.tensor([word[0] for label in words for word in label]), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        if self.reader.projection is None:
            word_logits = self.reader.read_masks(batch)[:, self.tokens]  # (batch, words)
        else:
            word_logits = self.reader.read_masks(batch, lambda hidden: self.reader.columns(hidden, self.tokens))
        return label_means(word_logits, self.averaging)


class MultiTokenScorer(LabelScorer):
    """Reads label words of any number of tokens, as log-probabilities under the whole vocabulary.

    A word of k tokens is read at k masks; words of different lengths are read from copies of the row with as many
    masks, all in one forward pass. ``parallel`` reads all tokens of a word at once and takes the mean of their
    log-probabilities, so that long words are not worse for being long. ``max_first`` is the paper's: the product of
    probabilities, which is smaller for long words, where outside of training the surest token is filled in first and the
    others are read again ("It's Not Just Size", section 3.1); training reads them at once. A label's logit is the mean over
    its words.
    """

    averaging: Tensor
    tokens: Tensor
    columns: Tensor
    _features_of = -1  # the longest copy

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
        self.register_buffer("averaging", averaging_of(words), persistent=False)
        self.register_buffer("tokens", torch.tensor(known), persistent=False)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)  # (words, longest): places in ``tokens``
        self._features: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """The encoder's row where each row's slot begins, of one of its copies in the last forward pass, ``(batch, hidden)``."""
        assert self._features is not None
        return self._features

    def forward(self, batch: Batch) -> Tensor:
        one_by_one = self.decoding == "max_first" and not self.reader.model.training
        with torch.no_grad() if one_by_one else nullcontext():
            scores = []
            copies = [batch.with_masks(length) for length in self.lengths]
            for copy, log_probs in zip(copies, self._read(copies, self.lengths), strict=True):
                numbers = self._numbers[copy.masks]
                places = torch.arange(copy.masks, device=log_probs.device)
                own = log_probs[:, places, self.columns[numbers, : copy.masks]]  # (batch, words of this length, tokens)
                if one_by_one and copy.masks > 1:
                    found = [self._surest_first(copy, word, own[:, index]) for index, word in enumerate(numbers)]
                    scores.append(torch.stack(found, dim=1))
                else:
                    scores.append(own.mean(-1) if self.decoding == "parallel" else own.sum(-1))
            order = [number for length in self.lengths for number in self._numbers[length]]
            return label_means(torch.cat(scores, dim=1), self.averaging[order])

    def _read(self, copies: Sequence[Batch], lengths: Sequence[int]) -> list[Tensor]:
        """Return log-probabilities ``(batch, length, known tokens)`` from the first mask on of each copy, in one forward pass."""
        size, device = len(copies[0].input_ids), copies[0].input_ids.device
        rows, columns = [], []
        for number, (copy, length) in enumerate(zip(copies, lengths, strict=True)):
            rows.append(torch.arange(number * size, (number + 1) * size, device=device).repeat_interleave(length))
            columns.append((copy.mask_positions[:, None] + torch.arange(length, device=device)).flatten())
        log_probs = self._log_probs(Batch.stacked(copies), torch.cat(rows), torch.cat(columns))  # (positions, known tokens)
        sizes = [size * length for length in lengths]
        chosen = self._features_of
        self._features = torch.split(super().features, sizes)[chosen][:: lengths[chosen]]  # (batch, hidden)
        return [block.view(size, -1, len(self.tokens)) for block in torch.split(log_probs, sizes)]

    def _surest_first(self, copy: Batch, word: int, own: Tensor) -> Tensor:
        """Return the log-probability ``(batch,)`` of a word whose surest token is filled in first, again and again (section 3.1).

        Args:
            copy: the rows with as many masks as the word has tokens.
            own: log-probabilities of the word's tokens while none is filled in, shape ``(batch, tokens)``.
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
            at_once = max(1, VOCABULARY_LOGITS_AT_ONCE // projection.out_features)
            blocks = torch.split(hidden, at_once)
            normaliser = torch.cat([self.reader.full(block).float().logsumexp(-1, keepdim=True) for block in blocks])
            return self.reader.columns(hidden, self.tokens) - normaliser

        return self.reader.read(batch, rows, columns, answer)


class NextTokenScorer(MultiTokenScorer):
    """Reads label words of any number of tokens after each row: ``1/k Σ_i log p(w_i | row, w_1 … w_{i-1})``, exactly.

    The mean over the k tokens keeps long words from being worse for being long; a label's logit is the mean over its words.
    Each row is scored once per maximal word prefix, all in one forward pass: words of one token, and all with a common
    prefix, share a copy.
    """

    _features_of = 0  # every copy is the same up to the row's end

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, soft_tokens: int = 0) -> None:
        super().__init__(model, words, "parallel", soft_tokens)
        flat = [tuple(word) for label in words for word in label]
        beginnings = sorted({word[:-1] for word in flat})
        self.beginnings = [own for own in beginnings if not any(own == other[: len(own)] for other in beginnings if other != own)]
        self.copies = len(self.beginnings)
        # The copy that scores each word, and the word's tokens as places in ``tokens``.
        self._continuations = [
            (next(number for number, own in enumerate(self.beginnings) if own[: len(word) - 1] == word[:-1]), places[: len(word)])
            for word, places in zip(flat, self.columns.tolist(), strict=True)
        ]

    def forward(self, batch: Batch) -> Tensor:
        size, longest = len(batch.input_ids), max(map(len, self.beginnings))
        copies = [batch.appended([own] * size, longest) for own in self.beginnings]
        blocks = self._read(copies, [len(own) + 1 for own in self.beginnings])
        scores = [blocks[copy][:, range(len(own)), own].mean(-1) for copy, own in self._continuations]  # (batch,) each
        return label_means(torch.stack(scores, dim=1), self.averaging)


class VectorScorer(LabelScorer):
    """Reads one trained vector per label, which starts as the mean of the label words' output vectors.

    ``soft``: the inner product plus a bias, a verbalizer without chosen words (WARP). ``prototype``: the
    cosine divided by a fixed temperature of 0.1, so that only directions count (ProtoVerb).
    """

    def __init__(self, model: PreTrainedModel | MaskReader, words: TokenIds, kind: str, soft_tokens: int = 0) -> None:
        super().__init__(model, soft_tokens)
        projection = self.reader.projection
        if projection is None:
            model_type = self.reader.model.config.model_type
            raise ModelRefused(f"a {model_type!r} model has no output vectors to start label vectors from (use kind: words)")
        averaging = averaging_of(words).to(projection.weight.device)  # (words, labels)
        tokens = [word[0] for label in words for word in label]
        with torch.no_grad():
            self.vectors = nn.Parameter(averaging.T @ projection.weight[tokens].float())  # (labels, hidden)
            bias = averaging.T @ projection.bias[tokens].float() if projection.bias is not None else torch.zeros(len(words))
        self.bias = nn.Parameter(bias.to(averaging.device)) if kind == "soft" else None  # (labels,)

    def forward(self, batch: Batch) -> Tensor:
        return self.reader.read_masks(batch, self._answer)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        bias = {} if self.bias is None else {"label_bias": self.bias}
        return {**super().own_parameters(), "label_vectors": self.vectors, **bias}

    def _answer(self, hidden: Tensor) -> Tensor:  # (batch, 1, hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            if self.bias is not None:
                return functional.linear(hidden.float(), self.vectors, self.bias)
            cosine = functional.normalize(hidden.float(), dim=-1) @ functional.normalize(self.vectors, dim=-1).T
            return cosine / PROTOTYPE_TEMPERATURE


def _of_words(model: Any, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    words = pvp.words.token_ids
    if pvp.verbalizer.candidates is not None:
        return CandidateScorer(model, pvp.verbalizer.decoding, soft_tokens)
    if is_discriminator(model.model if isinstance(model, MaskReader) else model):
        return ReplacedTokenScorer(model, words, soft_tokens)
    if pvp.words.longest == 1 and not normalised:
        return WordScorer(model, words, soft_tokens)
    if pvp.pattern.open_ended:
        return NextTokenScorer(model, words, soft_tokens)
    return MultiTokenScorer(model, words, pvp.verbalizer.decoding, soft_tokens)


def _of_vectors(kind: str, model: Any, pvp: PVP, soft_tokens: int, normalised: bool) -> LabelScorer:
    return VectorScorer(model, pvp.words.token_ids, kind, soft_tokens)


# Called with a model (or the mask reader of another scorer's), a PVP, the number of soft tokens, and whether to give
# log-probabilities under the whole vocabulary where plain logits would do.
LABEL_SCORERS: Final[Registry[Callable[[Any, PVP, int, bool], LabelScorer]]] = Registry(
    LABEL_SCORER_NAMES,
    {"words": _of_words, "soft": partial(_of_vectors, "soft"), "prototype": partial(_of_vectors, "prototype")},
)
