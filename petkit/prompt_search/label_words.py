"""Search for label words on the labelled rows: PETAL, by likelihood ratio (Schick, Schmid & Schütze, COLING 2020).

The untrained model scores every labelled row under every pattern once. Only these rows, and the word frequencies of the
unlabelled set, are used; test data is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from petkit.config.schema.pipeline import AutoVerbalizerSpec, VerbalizerSpec
from petkit.engine.device import Device, inference, prepare_for_inference
from petkit.errors import InvalidInput, Problem
from petkit.models.batch import collate, inference_batches
from petkit.models.loading import load_language_model
from petkit.models.mask_reader import MaskReader, SoftTokens
from petkit.prompt_search.candidates import Candidates, Counts, fitting, frequent_words, named_words, token_counts
from petkit.prompt_search.likelihood_ratio import Array, best_words, likeliest, likelihood_ratio, log_odds
from petkit.prompts.pattern import MaskContext
from petkit.task.task import Task

# Candidates per label: the words most probable in its rows (PETAL, section 4.1).
OFFERED = 1000
# Logits in memory at once: 2^23 floats are 32 MB, and a few arrays of that size exist side by side.
_LOGITS_AT_ONCE = 2**23


class ScoredWord(NamedTuple):
    """A word and its log-likelihood ratio for its label, in nats per row, summed over the patterns it was searched for."""

    word: str
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Label words with their scores.

    Attributes:
        words: pattern id → label → its words, best first; the same for all patterns where they were searched jointly.
        named: label → the given words that are one token in every pattern, with sums over all patterns.
    """

    words: dict[str, dict[str, list[ScoredWord]]]
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
    words: dict[str, dict[str, list[ScoredWord]]] = {}
    for pool in pools:
        words |= dict.fromkeys((task.pvps[pattern].id for pattern in pool.patterns), pool.best(counts, auto.per_label))
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
