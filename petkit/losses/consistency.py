"""Losses between two forward passes of the same rows."""

from __future__ import annotations

from torch import Tensor

from petkit.losses.numerics import kl, log_probs, weighted_mean


def r_drop(first_logits: Tensor, second_logits: Tensor, *, binary: bool = False) -> Tensor:
    """Return ``[KL(p ‖ q) + KL(q ‖ p)] / 2 = Σ (p - q)(log p - log q) / 2`` of two dropout passes (Wu et al. 2021, section 2).

    Args:
        first_logits: of p, shape ``(batch, labels)``; gradients flow into both passes.
        second_logits: of q, shape ``(batch, labels)``.
        binary: the labels do not exclude each other: one binary divergence per label, summed.

    >>> first, second = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    >>> r_drop(first, second).item()  # (0.1927 + 0.2231) / 2
    0.2079...
    """
    log_p, log_q = log_probs(first_logits, binary), log_probs(second_logits, binary)
    return weighted_mean(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1) / 2)


def consistency(clean_logits: Tensor, perturbed_logits: Tensor, *, binary: bool = False) -> Tensor:
    """Return ``KL(p(x) ‖ p(x'))``, the first held fixed (Xie et al. 2020, UDA, section 2).

    Args:
        clean_logits: of x, shape ``(batch, labels)``; no gradient flows into them.
        perturbed_logits: of x', the same row with words masked or in a second pattern, shape ``(batch, labels)``.
        binary: as in ``r_drop``.

    >>> clean, perturbed = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.5, 0.5]]).log()
    >>> consistency(clean, perturbed).item()  # 0.2 ln 0.4 + 0.8 ln 1.6
    0.1927...
    """
    return weighted_mean(kl(log_probs(clean_logits.detach(), binary), log_probs(perturbed_logits, binary)))
