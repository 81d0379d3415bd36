"""The training loop of teachers and students: AdamW, linear decay, clipping, checkpoints."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from petkit.engine.device import Device
from petkit.engine.training_state import Checkpoints, capture, restore, seed_step
from petkit.errors import PetkitError

Rows = TypeVar("Rows")


class TrainingSettings(Protocol):
    """What the loop reads of ``TeachersSpec``, ``StudentSpec`` and ``AdaptSpec``."""

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
    """The loss became NaN or infinite."""

    exit_code = 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, so that a teacher depends on its own seed only."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


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

    With ``checkpoints`` a killed training continues after the last of them. On a processor it ends with the same bytes as
    an uninterrupted one if every step draws from ``seed`` alone: batches are skipped, never drawn again.

    Args:
        batches: ``settings.steps`` batches, the same ones in every call.
        loss_of: gives the loss of a batch, shape ``()``; it must call the model it is handed.
        on_step: called after every step with its number and loss.
        seed: where given, torch is seeded from it and the step's number before every step.
        checkpoints: where the state between two steps is kept.
        new: parameters that the pretrained model does not have; their peak rate is ``new_learning_rate``.

    Returns:
        The loss of every step, those before the checkpoint included.

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
    """
    model.to(device.name).train()
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
    parameters = list(model.parameters())
    for step, rows in enumerate(islice(batches, done, None), done + 1):
        if seed is not None:
            seed_step(seed, step)
        with _autocast_forward(model, device):
            loss = loss_of(model, rows)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise TrainingDiverged(f"training diverged: the loss is {losses[-1]} at step {step} (lower learning_rate)")
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if checkpoints is not None and checkpoints.due(last=step == settings.steps):
            checkpoints.save(step, capture(model, optimizer, losses))
        on_step(step, losses[-1])
    model.eval()
    return losses


@contextmanager
def _autocast_forward(model: nn.Module, device: Device) -> Iterator[None]:
    """Run the model's forward pass, and nothing else of the loss, in the device's number format; its outputs are float32."""
    if device.precision == "float32":
        yield
        return
    forward = model.forward

    def in_format(*args: Any, **options: Any) -> Tensor | tuple[Tensor, ...]:
        with device.autocast:
            output: Tensor | tuple[Tensor, ...] = forward(*args, **options)
        return output.float() if isinstance(output, Tensor) else tuple(part.float() for part in output)

    vars(model)["forward"] = in_format
    try:
        yield
    finally:
        del vars(model)["forward"]


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints) -> list[float]:
    """Load the last checkpoint, if there is one, into model and optimizer; return the losses of the steps before it."""
    found = checkpoints.load()
    if found is None:
        return []
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # a schedule that starts in the middle needs the peak rate
    return restore(model, optimizer, found)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout layer but an adapter's, and of attention that stores it as a number (ModernBERT)."""
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
    """Split the trainable parameters into matrices, which decay, vectors (biases and norms) and new ones, which do not."""
    apart = {id(parameter) for parameter in new}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in apart]
    groups: list[dict[str, object]] = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return groups + ([{"params": list(new), "weight_decay": 0.0, "lr": new_learning_rate}] if apart else [])
