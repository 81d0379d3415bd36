"""Logits to try the losses on, and how their numbers are compared."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def number(value: float) -> object:
    return pytest.approx(value, abs=5e-6)


def naive_softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
