"""The training loop of teachers and students: AdamW, linear decay, clipping, and the state with which a killed training resumes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from petkit.engine.device import Device
from petkit.errors import PetkitError

Rows = TypeVar("Rows")


class TrainingSettings(Protocol):
    """What the loop reads of ``TeachersSpec``, ``StudentSpec`` and ``AdaptSpec``."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float | str: ...
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


class Checkpoints(Protocol):
    """Keeps the state of a training between two steps; ``petkit.runs.checkpoint`` does so in a run folder."""

    def load(self) -> Mapping[str, Tensor] | None:
        """Return the last state kept, or None to start from scratch."""

    def due(self, *, last: bool) -> bool:
        """Return whether to keep the state now; called after every step, with ``last`` after the last one."""

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep the state after ``step`` steps, whole or not at all."""


class TrainingDiverged(PetkitError):
    """The loss became NaN or infinite."""

    exit_code = 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, so that a teacher depends on its own seed only."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def own_random_numbers(device: Device) -> Iterator[None]:
    """Leave the generators of Python, NumPy and torch as the calling program has them, whatever is seeded in the block."""
    before, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device.name] if device.name.startswith("cuda") else []):
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(of_numpy)


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
    finished: Callable[[Sequence[float]], bool] = lambda losses: False,
) -> list[float]:
    """Train ``model`` in place on one batch per step; return the loss of every step, those before the checkpoint included.

    With ``checkpoints`` a killed training continues after the last of them. On a processor it ends with the same bytes as
    an uninterrupted one if every step draws from ``seed`` alone: batches are skipped, never drawn again.

    Args:
        batches: ``settings.steps`` batches, the same ones in every call.
        loss_of: gives the loss of a batch, shape ``()``; it must call the model it is handed.
        on_step: called after every step with its number and loss.
        seed: where given, torch is seeded from it and the step's number before every step.
        new: parameters that the pretrained model does not have; their peak rate is ``new_learning_rate``.
        finished: asked before every step, with the losses so far, whether to leave it and all later ones out.
    """
    model.to(device.name).train()
    groups = parameter_groups(model, settings.weight_decay, new, new_learning_rate)
    rate = settings.learning_rate
    assert not isinstance(rate, str), "auto is a number once the model is known"
    optimizer = torch.optim.AdamW(groups, lr=rate, eps=settings.adam_epsilon, fused=True)
    found = None if checkpoints is None else checkpoints.load()
    losses = [] if found is None else restore(model, optimizer, found)
    done = len(losses)
    if done:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # a schedule that starts in the middle needs the peak rate
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: linear_decay(step, settings.steps, settings.warmup), last_epoch=done - 1
    )
    set_dropout(model, settings.dropout)
    parameters = list(model.parameters())
    norm: Tensor | None = None
    for step, rows in enumerate(islice(batches, done, None), done + 1):
        if finished(losses):
            break
        if seed is not None:
            seed_step(seed, step)
        with _autocast_forward(model, device):
            loss = loss_of(model, rows)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            hint = _hint(
                rate * settings.weight_decay,
                before_any_update=step == 1 or (step == 2 and norm is not None and not norm.isfinite()),
            )
            raise TrainingDiverged(f"training diverged: the loss is {losses[-1]} at step {step} ({hint})")
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if checkpoints is not None and checkpoints.due(last=step == settings.steps):
            checkpoints.save(step, capture(model, optimizer, losses))
        on_step(step, losses[-1])
    model.eval()
    return losses


def _hint(decay: float, *, before_any_update: bool) -> str:
    """Return which setting to change where a loss, or its gradient, is not finite."""
    if before_any_update:
        return "before any update: lower the weights of the loss or focal_gamma, or check the model's own weights"
    if decay >= 1:  # each update takes more than the whole weight away
        return "lower weight_decay"
    return "lower learning_rate"


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


def capture(model: nn.Module, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> dict[str, Tensor]:
    """Return everything that training changes: trained parameters, the optimizer's moments, the losses so far.

    Frozen parameters and buffers are those the model was built with. Tied parameters come once.
    """
    state = {f"model.{name}": value.detach() for name, value in model.named_parameters() if value.requires_grad}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    state["losses"] = torch.tensor(losses, dtype=torch.float64)
    return state


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> list[float]:
    """Put back what :func:`capture` gave into a model and an optimizer built as they were then; return the losses so far."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.copy_(state[f"model.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor.clone()  # what is loaded may still be mapped from its file
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    losses: list[float] = state["losses"].tolist()
    return losses


def seed_step(seed: int, step: int) -> None:
    """Seed torch for one step, so that its dropout does not depend on the steps before it or on where training began."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))
