"""The state of a training between two steps, as named tensors: what a killed training needs to go on as if nothing had been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


class Checkpoints(Protocol):
    """Where the training loop leaves its state and finds it again; ``petkit.runs.checkpoint`` keeps it in a run folder."""

    def load(self) -> Mapping[str, Tensor] | None:
        """Return the last state kept, or None to start from scratch."""

    def due(self, *, last: bool) -> bool:
        """Return whether to keep the state now; called after every step, with ``last`` after the last one."""

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep the state after ``step`` steps, whole or not at all."""


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
    """Put back what :func:`capture` gave, into a model and an optimizer built as they were then.

    Returns:
        The losses so far, one per step done.
    """
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.copy_(state[f"model.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor.clone()  # what is loaded may still lie in its file
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    losses: list[float] = state["losses"].tolist()
    return losses


def seed_step(seed: int, step: int) -> None:
    """Seed torch for one step, so that its dropout does not depend on the steps before it or on where training began."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))
