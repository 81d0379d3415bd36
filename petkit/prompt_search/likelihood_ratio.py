"""Words that separate one label from the others, by likelihood ratio: PETAL (Schick, Schmid & Schütze, COLING 2020).

Under a pattern, a masked language model gives every token t a probability q(t | x) at the mask of row x. Take t as the
answer "yes" to the question whether x has label y, and any other token as "no": the t that answers it best for the labelled
rows T has the greatest log-likelihood ratio (arXiv 2010.13641, equation 7), where the rows of all other labels together weigh
as much as the rows T_y of this one (equation 5):

    Σ_{x ∈ T_y} log q(t|x) / (1 − q(t|x))  −  |T_y| / (|T| − |T_y|) · Σ_{x ∉ T_y} log q(t|x) / (1 − q(t|x))

Here it is divided by |T_y|: the mean log-odds of t in the label's rows less those in all others, in nats. That changes no order
within a label and makes labels with different numbers of rows comparable, which settles who gets a word that suits two.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Array = NDArray[np.float64]


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


def likelihood_ratio(mean_log_odds: Array, counts: NDArray[np.int64]) -> Array:
    """Return each word's log-likelihood ratio for each label (equation 7), in nats per row of the label.

    It is linear: the sum over patterns may be taken before or after (a verbalizer for all patterns, section 4.2).

    Args:
        mean_log_odds: over the rows of each label, shape ``(labels, words)``.
        counts: number of rows of each label, shape ``(labels,)``.
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
    one it suits better while that still lacks words. Equal scores: the word with the lower number goes first.

    Args:
        scores: shape ``(labels, words)``; finite for at least ``labels * per_label`` words of each label, -inf where a word
            is none for a label.
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
