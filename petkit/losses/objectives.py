"""The objectives, as pure functions of tensors. All run in float32 and return one number, the mean over the batch, in nats.

s, t are student and teacher label logits, p, q distributions over labels, T the temperature, C the number of labels.
Logits are finite: a label is masked by a large negative number such as -1e4, never by -inf. Rows can be weighted (``row_weights``,
not negative): Σ w·l / Σ w. ``docs/losses.md`` tells how the objectives hang together and which key selects each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_TINY = torch.finfo(torch.float32).tiny


def cross_entropy(
    label_logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return ``-Σ_c g_c (1 - q_c)^γ log q_c`` with q the softmax and g the smoothed gold label, ``(1 - ε)·[c = y] + ε/C``.

    The plain form ``-log q_y`` is PET's (Schick & Schütze 2021, section 3.1); smoothing ε is Szegedy et al. 2016,
    section 7; the focal factor γ is Lin et al. 2017, equation 4. A row weighs what its gold label weighs and the sum is
    divided by the rows' weights in every case; torch's soft targets are divided by the number of rows instead.

    Args:
        label_logits: shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
        label_smoothing: ε, from 0 to 1.
        class_weights: not negative, shape ``(labels,)``; their scale does not matter.
        focal_gamma: γ, not negative; 0 is plain cross-entropy.
    """
    log_q = functional.log_softmax(label_logits.float(), dim=-1)  # (batch, labels)
    losses = -log_q
    if focal_gamma:
        # The floor is below every 1 - q that is not 0: where γ < 1, the power's slope at 0 is infinite.
        losses = losses * (-torch.expm1(log_q)).clamp_min(_TINY) ** focal_gamma
    rows = losses.gather(1, labels.unsqueeze(1)).squeeze(1)
    if label_smoothing:
        rows = (1 - label_smoothing) * rows + label_smoothing * losses.mean(dim=-1)
    return _mean(rows, None if class_weights is None else class_weights[labels])


def binary_cross_entropy(
    label_logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return ``-Σ_c [g_c (1 - q_c)^γ log q_c + (1 - g_c) q_c^γ log(1 - q_c)]``, q the sigmoid: a sum over labels.

    For texts with several labels. Smoothing is that of two classes, ``g = (1 - ε)·target + ε/2``; focal: Lin et al.
    2017, equation 4. Torch's ``reduction="mean"`` would be C times smaller.

    Args:
        label_logits: shape ``(batch, labels)``.
        targets: 1 where the label holds, 0 where not, or a probability, shape ``(batch, labels)``.
        label_smoothing: ε, from 0 to 1.
        class_weights: not negative, shape ``(labels,)``, for a label's whole term; divided by their mean.
        focal_gamma: γ, not negative.
    """
    log_yes, log_no = _log_sigmoids(label_logits)  # (batch, labels) each
    gold = (1 - label_smoothing) * targets.float() + label_smoothing / 2
    losses = -gold * (focal_gamma * log_no).exp() * log_yes - (1 - gold) * (focal_gamma * log_yes).exp() * log_no
    if class_weights is not None:
        losses = losses * (class_weights.float() / class_weights.float().mean().clamp_min(_TINY))
    return _mean(losses.sum(dim=-1))


def hinge(label_log_scores: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Return ``Σ_{y'≠y} max(0, margin - log q(y) + log q(y'))`` (Schick & Schütze 2021, It's Not Just Size, section 3).

    For label words of several tokens, whose scores are no distribution over the labels.

    Args:
        label_log_scores: log q, shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
        margin: in nats, by which the gold label must win.
    """
    scores, gold = label_log_scores.float(), labels.unsqueeze(1)
    missing = functional.relu(margin - scores.gather(1, gold) + scores)  # (batch, labels)
    return _mean(missing.scatter(1, gold, 0.0).sum(dim=-1))


def distillation(student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None) -> Tensor:
    """Return ``T² · KL(p ‖ softmax(s / T))``, the mean over the batch (Hinton et al. 2015, section 2).

    The factor T² keeps the gradient's size when T changes. It is exactly 0 where ``softmax(s / T)`` equals ``p``.

    Args:
        student_logits: s, shape ``(batch, labels)``.
        soft_labels: log p, shape ``(batch, labels)``: log-probabilities, already at the teachers' temperature.
        temperature: T of the student's logits.
        row_weights: not negative, shape ``(batch,)``.
    """
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    return temperature**2 * _mean(_kl(soft_labels.float(), log_q), row_weights)


def reverse_distillation(
    student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None
) -> Tensor:
    """Return ``T² · KL(softmax(s / T) ‖ p)``: the student settles in one mode of p (Gu et al. 2024, MiniLLM).

    Arguments and the factor T² as in ``distillation``; near equality both have the same value.
    """
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    return temperature**2 * _mean(_kl(log_q, soft_labels.float()), row_weights)


def jensen_shannon(student_logits: Tensor, soft_labels: Tensor, temperature: float, row_weights: Tensor | None = None) -> Tensor:
    """Return ``T² · [KL(p ‖ m) + KL(q ‖ m)] / 2``, ``log m = logaddexp(log p, log q) - ln 2``, at most T² ln 2 (Lin 1991).

    Arguments and the factor T² as in ``distillation``, so that the same keys fit; near equality a quarter of its value.
    """
    log_p = soft_labels.float()
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    # log p - log m = ln 2 + logsigmoid(log p - log q): the same, and exactly 0 at equality.
    from_p = log_p.exp() * (math.log(2) + functional.logsigmoid(log_p - log_q))
    from_q = log_q.exp() * (math.log(2) + functional.logsigmoid(log_q - log_p))
    return temperature**2 * _mean((from_p + from_q).sum(dim=-1) / 2, row_weights)


def binary_distillation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, row_weights: Tensor | None = None
) -> Tensor:
    """Return ``T² · Σ_c [BCE(s_c / T, σ(t_c)) - H(σ(t_c))]``: one binary KL per label, summed over labels.

    Hinton et al. 2015, section 2, for labels that do not exclude each other. Exactly 0 where ``s / T`` equals ``t``.

    Args:
        student_logits: s, shape ``(batch, labels)``.
        teacher_logits: t, shape ``(batch, labels)``: logits, already divided by the teachers' temperature.
        temperature: T of the student's logits.
        row_weights: not negative, shape ``(batch,)``.
    """
    log_p, log_q = _log_probs(teacher_logits, True), _log_probs(student_logits.float() / temperature, True)
    return temperature**2 * _mean(_kl(log_p, log_q), row_weights)


def feature_distillation(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return the mean over rows and dimensions of ``(projected student - teacher)²`` (Romero et al. 2015, FitNets).

    Args:
        student_features: already projected to the teacher's size, shape ``(batch, hidden)``.
        teacher_features: shape ``(batch, hidden)``; no gradient flows into them.
    """
    return functional.mse_loss(student_features.float(), teacher_features.detach().float())


def student_loss(distilled: Tensor, gold: Tensor | None, hard_weight: float) -> Tensor:
    """Return ``(1 - hard_weight) · distilled + hard_weight · gold``; without gold rows, ``distilled`` alone."""
    return distilled if gold is None else (1 - hard_weight) * distilled + hard_weight * gold


def r_drop(first_logits: Tensor, second_logits: Tensor, *, binary: bool = False) -> Tensor:
    """Return ``[KL(p ‖ q) + KL(q ‖ p)] / 2 = Σ (p - q)(log p - log q) / 2`` of two dropout passes (Wu et al. 2021, section 2).

    Args:
        first_logits: of p, shape ``(batch, labels)``; gradients flow into both passes.
        second_logits: of q, shape ``(batch, labels)``.
        binary: the labels do not exclude each other: one binary divergence per label, summed.
    """
    log_p, log_q = _log_probs(first_logits, binary), _log_probs(second_logits, binary)
    return _mean(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1) / 2)


def consistency(clean_logits: Tensor, perturbed_logits: Tensor, *, binary: bool = False) -> Tensor:
    """Return ``KL(p(x) ‖ p(x'))``, the first held fixed (Xie et al. 2020, UDA, section 2).

    Args:
        clean_logits: of x, shape ``(batch, labels)``; no gradient flows into them.
        perturbed_logits: of x', the same row with words masked or in a second pattern, shape ``(batch, labels)``.
        binary: the labels do not exclude each other: one binary divergence per label, summed.
    """
    return _mean(_kl(_log_probs(clean_logits.detach(), binary), _log_probs(perturbed_logits, binary)))


def supervised_contrastive(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return ``-1/|P(i)| Σ_{j∈P(i)} log [exp(z_i·z_j / T) / Σ_{k≠i} exp(z_i·z_k / T)]`` (Khosla et al. 2020, equation 2).

    P(i) are the other rows with i's label. The mean is over rows that have a partner; without any, it is 0.

    Args:
        vectors: shape ``(rows, dim)``; z are these at length 1.
        labels: class indices, shape ``(rows,)``.
        temperature: T of the cosines, usually 0.07 to 0.3.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    partners = (labels.unsqueeze(1) == labels) & ~itself  # (rows, rows)
    cosines = _cosines(vectors, vectors) / temperature
    log_probs = functional.log_softmax(cosines.masked_fill(itself, torch.finfo(torch.float32).min), dim=-1)
    counts = partners.sum(dim=-1)
    rows = -log_probs.masked_fill(~partners, 0.0).sum(dim=-1) / counts.clamp_min(1)
    return _mean(rows, counts > 0)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return ``-log [exp(q_i·k_i / T) / Σ_j exp(q_i·k_j / T)]`` (van den Oord et al. 2018, equation 4).

    ``ln rows`` less this value is a lower bound on the mutual information of queries and keys.

    Args:
        queries: shape ``(rows, dim)``, brought to length 1 here.
        keys: shape ``(rows, dim)``, brought to length 1 here; row i is the partner of query i.
        temperature: T of the cosines, usually 0.07 to 0.3.
    """
    partners = torch.arange(len(queries), device=queries.device)
    return cross_entropy(_cosines(queries, keys) / temperature, partners)


def decoupled_label(word_log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return ``-log q(y) - Σ_{y'≠y} log(1 - q(y'))`` (Tam et al. 2021, ADAPET, section 3.1).

    q is over the whole vocabulary, so the gold word must also win against words of no label.

    Args:
        word_log_probs: log q of each label's word, shape ``(batch, labels)``.
        labels: class indices, shape ``(batch,)``.
    """
    log_q, gold = word_log_probs.float(), labels.unsqueeze(1)
    terms = _log1mexp(log_q).scatter(1, gold, log_q.gather(1, gold))  # (batch, labels)
    return _mean(-terms.sum(dim=-1))


def label_conditioning(token_log_probs: Tensor, correct: Tensor) -> Tensor:
    """Return ``-log p`` where the text is filled with its own label, ``-log(1 - p)`` where with another; the mean over tokens.

    Tam et al. 2021, ADAPET, section 3.2. It is 0 without tokens.

    Args:
        token_log_probs: log p of the original token at each masked position, shape ``(tokens,)``.
        correct: whether the label filled in is the right one, bool, shape ``(tokens,)``.
    """
    log_p = token_log_probs.float()
    return _mean(-torch.where(correct, log_p, _log1mexp(log_p)), torch.ones_like(log_p))


def masked_lm(token_logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the cross-entropy over the vocabulary, the mean over masked tokens (Devlin et al. 2019, section 3.1).

    It is 0 without masked tokens.

    Args:
        token_logits: shape ``(..., vocabulary)``.
        targets: the original token ids, shape ``(...)``; ``ignore_index`` where nothing was masked.
        ignore_index: the id that marks such places.
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
        ignore_index: the id that marks such places.
    """
    return masked_lm(logits[:, :-1], labels[:, 1:], ignore_index)


def auxiliary(main: Tensor, auxiliary_loss: Tensor, weight: float) -> Tensor:
    """Return ``(1 - weight) · main + weight · auxiliary_loss`` (Schick & Schütze 2021, PET, section 3.2)."""
    return (1 - weight) * main + weight * auxiliary_loss


def _mean(rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``Σ w·l / Σ w`` over the rows (the plain mean without weights); 0, with gradient 0, where all weights are 0."""
    if weights is None:
        return rows.mean()
    # The weights are divided, not the sum: 1 over the floor, times a gradient above 1, would overflow.
    shares = weights.float() / weights.float().sum().clamp_min(_TINY)
    return (shares * rows).sum()


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return ``Σ p (log p - log q)`` over the last axis, per row."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _log_sigmoids(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log σ`` and ``log(1 - σ)``."""
    return functional.logsigmoid(logits.float()), functional.logsigmoid(-logits.float())


def _log_probs(logits: Tensor, binary: bool) -> Tensor:
    """Return log-probabilities of every outcome, ``(batch, labels)``, or yes and no of each label, ``(batch, 2 · labels)``."""
    return torch.cat(_log_sigmoids(logits), dim=-1) if binary else functional.log_softmax(logits.float(), dim=-1)


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosines of all pairs, shape ``(rows of left, rows of right)``."""
    with torch.autocast(left.device.type, enabled=False):  # a mixed-precision run would multiply in bfloat16
        return functional.normalize(left.float(), dim=-1) @ functional.normalize(right.float(), dim=-1).T


def _log1mexp(log_prob: Tensor) -> Tensor:
    """Return ``log(1 - p)`` from log p, accurate at both ends (Mächler 2012) and finite at p = 1.

    In float32 p next to 1 is 1: there ``log(1 - p)`` is taken half a step below it and has no gradient, as the logits'
    softmax would make it 0 anyway.
    """
    capped = log_prob.clamp_max(-torch.finfo(torch.float32).eps / 2)
    # Each branch is kept where it is finite: torch.where lets NaN gradients of the branch not taken through.
    far = torch.log1p(-capped.clamp_max(-math.log(2)).exp())
    return torch.where(capped > -math.log(2), torch.log(-torch.expm1(capped)), far)
