"""The training loop: AdamW, linear decay, clipping. One screen, for teachers and student alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from petkit.engine.device import Device
from petkit.engine.training_state import Checkpoints, capture, restore, seed_step
from petkit.errors import PetkitError

Rows = TypeVar("Rows")


class TrainingSettings(Protocol):
    """The knobs of the loop; ``TeachersSpec``, ``StudentSpec`` and ``AdaptSpec`` have them."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def adam_epsilon(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def dropout(self) -> float: ...


class TrainingDiverged(PetkitError):
    """The loss became infinite or not a number."""

    exit_code = 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, so that a teacher depends on its own seed only."""
    from accelerate.utils import set_seed  # takes a second to import, as below

    set_seed(seed)


def fit(
    model: nn.Module,
    batches: Iterable[Rows],
    loss_of: Callable[[nn.Module, Rows], Tensor],
    settings: TrainingSettings,
    device: Device,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    *,
    seed: int | None = None,
    checkpoints: Checkpoints | None = None,
    new: Sequence[nn.Parameter] = (),
    new_learning_rate: float = 0.0,
) -> list[float]:
    """Train ``model`` in place on one batch per step.

    With ``checkpoints`` a training that was killed goes on after the last of them. It ends with the same bytes as an
    undisturbed one (on a processor) if every step draws from ``seed`` alone: batches are skipped, never drawn anew.

    Args:
        batches: ``settings.steps`` batches, the same ones in every call.
        loss_of: gives the loss of a batch, shape ``()``; it must call the model it is handed.
        on_step: called after every step with its number and loss.
        seed: where given, torch is seeded anew from it and the step's number before every step.
        checkpoints: where the state between two steps is kept.
        new: parameters that the pretrained model did not come with, and their own peak rate.

    Returns:
        The loss of every step, those before the checkpoint included.

    Raises:
        TrainingDiverged: the loss is no longer finite.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps the first device and precision of a process for ever; a run may follow another one.
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "bf16" if device.precision == "bfloat16" else "no"
    accelerator = Accelerator(cpu=device.name == "cpu", mixed_precision=mixed)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay, new, new_learning_rate),
        lr=settings.learning_rate,
        eps=settings.adam_epsilon,
        fused=True,
    )
    losses = [] if checkpoints is None else _resume(model, optimizer, checkpoints)
    done = len(losses)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: linear_decay(step, settings.steps, settings.warmup), last_epoch=done - 1
    )
    set_dropout(model, settings.dropout)
    prepared, optimizer, schedule = accelerator.prepare(model.train(), optimizer, schedule)
    for step, rows in enumerate(islice(batches, done, None), done + 1):
        if seed is not None:
            seed_step(seed, step)
        loss = loss_of(prepared, rows)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise TrainingDiverged(f"training diverged: the loss is {losses[-1]} at step {step} (lower learning_rate)")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if checkpoints is not None and checkpoints.due(last=step == settings.steps):
            checkpoints.save(step, capture(model, optimizer, losses))
        on_step(step, losses[-1])
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False).eval()
    return losses


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints) -> list[float]:
    """Bring model and optimizer to the last checkpoint, if there is one; return the losses of the steps before it."""
    found = checkpoints.load()
    if found is None:
        return []
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # a schedule that begins in the middle asks for the peak
    return restore(model, optimizer, found)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout layer, and of attention that keeps its own as a plain number (ModernBERT).

    An adapter has its own probability.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = module.p if "lora_dropout" in name else probability
        elif isinstance(vars(module).get("attention_dropout"), float):
            vars(module)["attention_dropout"] = probability


def linear_decay(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at ``step`` (from 0): up over ``warmup · steps``, then down to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (steps - step) / max(1, steps - rising))


def parameter_groups(
    model: nn.Module, weight_decay: float, new: Sequence[nn.Parameter] = (), new_learning_rate: float = 0.0
) -> list[dict[str, object]]:
    """Split the trainable parameters: those that decay, those that do not (bias and norm weights: vectors), and new ones.

    New parameters do not decay: they start where they make sense, not at zero.
    """
    apart = {id(parameter) for parameter in new}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in apart]
    groups: list[dict[str, object]] = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return groups + ([{"params": list(new), "weight_decay": 0.0, "lr": new_learning_rate}] if apart else [])
