"""Search for label words on the labelled rows: PETAL, by likelihood ratio (Schick, Schmid & Schütze, COLING 2020).

The untrained model scores every labelled row under every pattern once. Only these rows, and the word frequencies of the
unlabelled set, are used; test data is never read.

Under a pattern, a masked language model gives every token t a probability q(t | x) at the mask of row x. Take t as the
answer "yes" to the question whether x has label y, and any other token as "no": the t that answers it best for the labelled
rows T has the greatest log-likelihood ratio (arXiv 2010.13641, equation 7), where the rows of all other labels together weigh
as much as the rows T_y of this one (equation 5):

    Σ_{x ∈ T_y} log q(t|x) / (1 − q(t|x))  −  |T_y| / (|T| − |T_y|) · Σ_{x ∉ T_y} log q(t|x) / (1 − q(t|x))

Here it is divided by |T_y|: the mean log-odds of t in the label's rows less those in all others, in nats. That changes no order
within a label and makes labels with different numbers of rows comparable, which settles who gets a word that suits two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from petkit.config.schema.pipeline import AutoVerbalizerSpec, VerbalizerSpec
from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import InvalidInput, Problem
from petkit.models.batch import collate, inference_batches
from petkit.models.loading import load_language_model
from petkit.models.mask_reader import MaskReader, SoftTokens
from petkit.prompt_search.candidates import Candidates, Counts, fitting, frequent_words, named_words, token_counts
from petkit.prompts.pattern import MaskContext
from petkit.task.task import Task

# Candidates per label: the words most probable in its rows (PETAL, section 4.1).
OFFERED = 1000
# Logits in memory at once: 2^23 floats are 32 MB, and a few arrays of that size exist side by side.
_LOGITS_AT_ONCE = 2**23

Array = NDArray[np.float64]


class ScoredWord(NamedTuple):
    """A word and its log-likelihood ratio for its label, in nats per row, summed over the patterns it was searched for."""

    word: str
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Label words with their scores."""

    # Pattern id → label → its words, best first; the same for all patterns where they were searched jointly.
    words: dict[str, dict[str, list[ScoredWord]]]
    # Label → the given words that are one token in every pattern, with sums over all patterns.
    named: dict[str, list[ScoredWord]]


class _Pool:
    """Candidate words of some patterns, and the sum of their mean log-odds over these patterns, shape ``(labels, words)``."""

    def __init__(self, task: Task, patterns: Sequence[int], offered: Candidates) -> None:
        self.labels, self.patterns, self.offered = task.labels, patterns, offered
        self.summed: Array = np.zeros((len(task.labels), len(offered.words)))

    def add(self, pattern: int, mean_log_odds: Array) -> None:
        """Add the log-odds ``(labels, vocabulary)`` of a pattern, if it is one of these."""
        if pattern in self.patterns:
            self.summed += mean_log_odds[:, self.offered.tokens[self.patterns.index(pattern)]]

    def best(self, counts: Counts, per_label: int) -> dict[str, list[ScoredWord]]:
        """Return each label's words with their scores, best first."""
        scores = likelihood_ratio(self.summed, counts)  # (labels, words)
        # Enough words must be left when other labels have taken theirs.
        likely = likeliest(self.summed, max(OFFERED, len(self.labels) * per_label))
        return self._scored(scores, best_words(np.where(likely, scores, -np.inf), per_label))

    def named(self, counts: Counts, verbalizer: VerbalizerSpec) -> dict[str, list[ScoredWord]]:
        """Return a verbalizer's words with their scores, as far as they are in this pool."""
        place = {word: number for number, word in enumerate(self.offered.words)}
        chosen = [[place[word] for word in verbalizer.labels[label] if word in place] for label in self.labels]
        return self._scored(likelihood_ratio(self.summed, counts), chosen)

    def _scored(self, scores: Array, chosen: Sequence[Sequence[int]]) -> dict[str, list[ScoredWord]]:
        return {
            label: [ScoredWord(self.offered.words[word], float(own[word])) for word in words]
            for label, own, words in zip(self.labels, scores, chosen, strict=True)
        }


def search_label_words(
    task: Task,
    device: Device,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    named: VerbalizerSpec | None = None,
) -> SearchResult:
    """Find the label words of a pipeline with ``verbalizer.auto``; logits are computed in float32 on any device.

    Args:
        task: with two labelled rows or more per label.
        progress: called with the number of rows scored and their total.
        named: further words of the same labels to score.

    Raises:
        InvalidInput: fewer words can be tried than are needed.
    """
    auto = task.spec.verbalizer.auto
    assert auto is not None  # the caller searches for words only with verbalizer.auto
    pools, every = _pools(task, auto), range(len(task.pvps))
    given = [] if named is None else [_Pool(task, every, named_words(named, task.tokenizer, _slots(task, every)))]
    counts = np.bincount(task.targets(), minlength=len(task.labels))  # (labels,)
    for pattern, mean_log_odds in enumerate(_mean_log_odds(task, device, counts, progress)):
        for pool in (*pools, *given):
            pool.add(pattern, mean_log_odds)
    best = [(pool, pool.best(counts, auto.per_label)) for pool in pools]
    words = {task.pvps[pattern].id: found for pool, found in best for pattern in pool.patterns}
    return SearchResult(words, {} if named is None else given[0].named(counts, named))


def _pools(task: Task, auto: AutoVerbalizerSpec) -> list[_Pool]:
    """Return the words to choose from, for each pattern or for all of them together."""
    every = range(len(task.pvps))
    needed = len(task.labels) * auto.per_label
    words = frequent_words(task.tokenizer, token_counts(task.tokens("unlabeled"), task.tokenizer), needed)
    pools: list[_Pool] = []
    problems: list[Problem] = []
    for patterns in [every] if auto.scope == "joint" else [range(number, number + 1) for number in every]:
        fit = fitting(words, task.tokenizer, _slots(task, patterns))
        pools.append(_Pool(task, patterns, Candidates(fit.words[: auto.candidates], fit.tokens[:, : auto.candidates])))
        if (count := len(pools[-1].offered.words)) < needed:
            where = "in every pattern" if len(patterns) > 1 else f"in pattern {task.pvps[patterns[0]].id!r}"
            message = f"{count} words can be tried {where}; {len(task.labels)} labels of {auto.per_label} words need {needed}"
            problems.append(task.pipeline.problem(("verbalizer", "auto"), message, "lower per_label"))
    if problems:
        raise InvalidInput(problems)
    return pools


def _mean_log_odds(task: Task, device: Device, counts: Counts, progress: Callable[[int, int], None]) -> Iterator[Array]:
    """Yield for every pattern the mean log-odds of every token in the rows of every label, shape ``(labels, vocabulary)``."""
    device = replace(device, precision="float32")
    reader = MaskReader(load_language_model(task.spec.model))
    prepare_for_inference(reader, device)
    tokens, gold = task.tokens("train"), torch.from_numpy(task.targets())  # (rows,)
    most = max(1, _LOGITS_AT_ONCE // reader.model.config.get_text_config().vocab_size)
    done, total = 0, tokens.rows * len(task.pvps)
    for pvp in task.pvps:
        rows = [pvp.encode(tokens.row(index), own=index) for index in range(tokens.rows)]
        summed = torch.zeros(0)
        if pvp.pattern.soft_tokens:
            with torch.random.fork_rng(devices=[]):  # the same initial vectors every time
                torch.manual_seed(0)
                SoftTokens(reader.model, pvp.pattern.soft_tokens)
        with inference(device):
            batches = inference_batches([len(row.ids) for row in rows], task.spec.compute.tokens_per_batch)
            for indices in (batch[start : start + most] for batch in batches for start in range(0, len(batch), most)):
                inputs = collate([rows[index] for index in indices], task.tokenizer).to(device.name)
                odds = log_odds(reader.vocabulary_logits(inputs)).cpu().double()  # (rows of the batch, vocabulary)
                if not len(summed):
                    summed = torch.zeros(len(task.labels), odds.shape[1], dtype=torch.float64)  # (labels, vocabulary)
                summed.index_add_(0, gold[indices], odds)
                done += len(indices)
                progress(done, total)
        yield summed.numpy() / counts[:, None]


def _slots(task: Task, patterns: Sequence[int]) -> list[MaskContext]:
    contexts = [task.pvps[pattern].pattern.mask_context for pattern in patterns]
    return [context for context in contexts if context is not None]  # no pattern is without a mask


def log_odds(logits: Tensor) -> Tensor:
    """Return ``log q / (1 - q)`` with q the softmax over the vocabulary, in float32, of logits ``(rows, vocabulary)``.

    Only the most probable token of a row can have q > 1/2. Its 1 - q is the sum of all others, so nothing is lost where
    q rounds to 1.
    """
    logits = logits.float()
    log_q = functional.log_softmax(logits, dim=-1)  # (rows, vocabulary)
    highest, best = logits.max(dim=-1, keepdim=True)  # (rows, 1) each
    others = logits.scatter(-1, best, -torch.inf).logsumexp(dim=-1, keepdim=True)  # (rows, 1)
    odds = log_q - torch.log1p(-log_q.exp())  # (rows, vocabulary), right but for the most probable token
    return odds.scatter(-1, best, highest - others)


def likelihood_ratio(mean_log_odds: Array, counts: Counts) -> Array:
    """Return each word's log-likelihood ratio for each label (equation 7), in nats per row of the label.

    Mean log-odds are over the rows of each label, ``(labels, words)``, and counts the number of these rows. It is linear:
    the sum over patterns may be taken before or after (a verbalizer for all patterns, section 4.2).
    """
    rows = counts[:, None]  # (labels, 1)
    summed = mean_log_odds * rows  # (labels, words)
    return np.asarray(mean_log_odds - (summed.sum(axis=0) - summed) / (rows.sum() - rows))


def likeliest(mean_log_odds: Array, count: int) -> NDArray[np.bool_]:
    """Return which words ``(labels, words)`` are among the ``count`` most probable in rows of the label (section 4.1).

    Without this, very improbable words win: their probabilities vary most. Of equally probable words, the lower numbers.
    """
    order = np.argsort(-mean_log_odds, axis=1, kind="stable")[:, :count]  # (labels, count)
    found = np.zeros(mean_log_odds.shape, bool)
    np.put_along_axis(found, order, True, axis=1)
    return found


def best_words(scores: Array, per_label: int) -> list[list[int]]:
    """Return ``per_label`` words for every label, best first, none for two labels.

    Words go to labels in the order of their scores, the best of all first, so that a word that suits two labels goes to the
    one it suits better while that still lacks words. Equal scores: the word with the lower number goes first. Scores
    ``(labels, words)`` are finite for at least ``labels * per_label`` words of each label, -inf where a word is none for it.
    """
    chosen: list[list[int]] = [[] for _ in scores]
    taken: set[int] = set()
    for place in np.argsort(-scores.T, axis=None, kind="stable"):
        word, label = divmod(int(place), len(scores))
        if word not in taken and len(chosen[label]) < per_label:
            chosen[label].append(word)
            taken.add(word)
            if len(taken) == len(scores) * per_label:
                break
    return chosen
