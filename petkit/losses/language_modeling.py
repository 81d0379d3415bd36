"""Losses on tokens: masked and next-token language modelling, and ADAPET's label conditioning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from petkit.losses.numerics import log1mexp, weighted_mean


def masked_lm(token_logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the cross-entropy over the vocabulary, the mean over masked tokens (Devlin et al. 2019, section 3.1); 0 without any.

    Args:
        token_logits: shape ``(..., vocabulary)``.
        targets: the original token ids, shape ``(...)``; ``ignore_index`` where nothing was masked.

    >>> masked_lm(torch.zeros(3, 8), torch.tensor([5, -100, 2])).item()  # two masked tokens, each one of 8: ln 8
    2.0794...
    """
    masked = targets != ignore_index
    # Selected before the conversion: most places are not masked, and the vocabulary is wide.
    total = functional.cross_entropy(token_logits[masked].float(), targets[masked], reduction="sum")
    return total / masked.sum().clamp_min(1)


def next_token_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Return ``-log p(token | tokens before it)``, the mean over answer tokens; 0 without any. For causal models.

    The logits at one place predict the token at the next: ``logits[:, :-1]`` meet ``labels[:, 1:]``.

    Args:
        logits: shape ``(batch, length, vocabulary)``.
        labels: token ids, shape ``(batch, length)``; ``ignore_index`` outside the answer.

    >>> next_token_cross_entropy(torch.zeros(1, 4, 8), torch.tensor([[-100, -100, 3, 6]])).item()  # ln 8
    2.0794...
    """
    return masked_lm(logits[:, :-1], labels[:, 1:], ignore_index)


def label_conditioning(token_log_probs: Tensor, correct: Tensor) -> Tensor:
    """Return ``-log p`` where the text is filled with its own label, ``-log(1 - p)`` where with another; the mean over tokens.

    Tam et al. 2021, ADAPET, section 3.2. It is 0 without tokens.

    Args:
        token_log_probs: log p of the original token at each masked position, shape ``(tokens,)``.
        correct: whether the label filled in is the right one, bool, shape ``(tokens,)``.

    >>> label_conditioning(torch.tensor([0.5, 0.2]).log(), torch.tensor([True, False])).item()  # (-ln 0.5 - ln 0.8) / 2
    0.4581...
    """
    log_p = token_log_probs.float()
    return weighted_mean(-torch.where(correct, log_p, log1mexp(log_p)), torch.ones_like(log_p))


def auxiliary(main: Tensor, auxiliary_loss: Tensor, weight: float) -> Tensor:
    """Return ``(1 - weight) · main + weight · auxiliary_loss`` (Schick & Schütze 2021, PET, section 3.2).

    >>> auxiliary(torch.tensor(1.0), torch.tensor(2.0), weight=0.25).item()
    1.25
    """
    return (1 - weight) * main + weight * auxiliary_loss
