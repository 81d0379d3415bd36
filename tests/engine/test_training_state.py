"""The state of a training: all of it, once, and enough to go on with the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from petkit.engine.device import Device
from petkit.engine.sampling import training_batches
from petkit.engine.token_masking import TokenMasking
from petkit.engine.training_loop import capture, fit, restore, seed_step
from petkit.losses import masked_lm
from petkit.models.batch import Batch, collate
from petkit.models.loading import load_masked_lm, load_tokenizer
from petkit.models.mask_reader import MaskReader
from tests.engine.test_training_loop import Line, Settings, steepness, tiny_batch

STEPS = 9
_drawn_before = itertools.count()


class Killed(Exception):
    """Stands for the end of the process."""


class Answers(MaskReader):
    """A masked LM that answers at the places it is asked for."""

    def forward(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        return self.read(batch, rows, columns)


@dataclass
class Kept:
    """Checkpoints in memory, as bytes; ``saved`` are the steps that were kept."""

    every: int = 2
    content: bytes | None = None
    saved: list[int] = field(default_factory=list)
    asked: int = 0

    def load(self) -> Mapping[str, Tensor] | None:
        self.asked = self.saved[-1] if self.saved else 0
        return None if self.content is None else load(self.content)

    def due(self, *, last: bool) -> bool:
        self.asked += 1
        return self.asked % self.every == 0 and not last

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        self.content = save(dict(state))
        self.saved.append(step)


def train(
    folder: Path, kept: Kept | None, *, killed_at: int = 0, dropout: float = 0.2, precision: str = "float32", steps: int = STEPS
) -> tuple[dict[str, Tensor], list[float]]:
    """Train a tiny masked LM with everything that draws numbers; return its weights and losses."""
    tokenizer = load_tokenizer(str(folder))
    rows = tiny_batch(folder, 12)[0]
    masking = TokenMasking(tokenizer, 0.5)
    torch.manual_seed(next(_drawn_before))  # must not matter
    model = Answers(load_masked_lm(str(folder), "eager"))

    def loss_of(trained: nn.Module, batch: tuple[int, np.ndarray]) -> Tensor:
        step, indices = batch
        masked = masking(collate([rows[index] for index in indices], tokenizer), np.random.default_rng([3, step]))
        return masked_lm(trained(masked.batch, masked.rows, masked.columns), masked.targets)

    def on_step(step: int, loss: float) -> None:
        if step == killed_at:
            raise Killed

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        return iter(enumerate(training_batches([len(row.ids) for row in rows], 4, steps, 3), 1))

    settings = Settings(steps=steps, learning_rate=3e-3, warmup=0.3, dropout=dropout)
    device = Device("cpu", precision, 1)  # type: ignore[arg-type]
    losses = fit(model, batches(), loss_of, settings, device, on_step, seed=3, checkpoints=kept)
    return {name: value.detach().clone() for name, value in model.named_parameters()}, losses


def assert_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [name for name, value in one.items() if not torch.equal(value, two[name])] == []


@pytest.mark.parametrize("arch", ["bert", "modernbert", "deberta-v2", "albert"])
@pytest.mark.parametrize("killed_at", [2, 5, 8])
def test_killed_and_resumed_is_undisturbed(arch: str, killed_at: int, model_folder: Callable[[str], Path]) -> None:
    """With dropout, warm-up and new masks at every step."""
    undisturbed, losses = train(model_folder(arch), None)
    kept = Kept()
    with pytest.raises(Killed):
        train(model_folder(arch), kept, killed_at=killed_at)
    assert kept.saved == list(range(2, killed_at + 1, 2))
    resumed, resumed_losses = train(model_folder(arch), kept)
    assert kept.saved == [2, 4, 6, 8]
    assert resumed_losses == losses
    assert_same(resumed, undisturbed)


def test_killed_and_resumed_in_bfloat16(model_folder: Callable[[str], Path]) -> None:
    undisturbed, losses = train(model_folder("bert"), None, precision="bfloat16")
    kept = Kept()
    with pytest.raises(Killed):
        train(model_folder("bert"), kept, killed_at=5, precision="bfloat16")
    resumed, resumed_losses = train(model_folder("bert"), kept, precision="bfloat16")
    assert resumed_losses == losses
    assert_same(resumed, undisturbed)


def test_killed_again_and_again(model_folder: Callable[[str], Path]) -> None:
    undisturbed, _ = train(model_folder("bert"), None)
    kept = Kept(every=1)
    for step in (1, 3, 4, 7):
        with pytest.raises(Killed):
            train(model_folder("bert"), kept, killed_at=step)
    assert kept.saved == [1, 2, 3, 4, 5, 6, 7]
    assert_same(train(model_folder("bert"), kept)[0], undisturbed)


def test_keeping_the_state_changes_nothing_and_none_is_kept_after_the_last_step(model_folder: Callable[[str], Path]) -> None:
    kept = Kept(every=3)
    assert_same(train(model_folder("bert"), kept)[0], train(model_folder("bert"), None)[0])
    assert kept.saved == [3, 6]


def test_every_step_draws_its_own_dropout() -> None:
    """The seed of a step depends on both numbers, and on nothing drawn before."""

    def drawn(seed: int, step: int) -> list[float]:
        seed_step(seed, step)
        return torch.rand(4).tolist()

    values = {(seed, step): drawn(seed, step) for seed in (1, 2) for step in (1, 2, 3)}
    assert len({tuple(value) for value in values.values()}) == 6
    assert drawn(1, 2) == values[1, 2]


# -- capture and restore -----------------------------------------------------------------------------------


def test_state_holds_what_training_changes(model_folder: Callable[[str], Path]) -> None:
    """Tied weights once, frozen ones not at all; two moments and a count for each."""
    model = load_masked_lm(str(model_folder("bert")))
    for parameter in model.bert.embeddings.parameters():
        parameter.requires_grad_(False)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], fused=True)
    state = capture(model, optimizer, [])
    assert set(state) == {"losses", *(f"model.{name}" for name in trained)}
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    optimizer.step()
    state = capture(model, optimizer, [1.5, 0.1])
    assert len(state) == 1 + 4 * len(trained)
    assert state["losses"].tolist() == [1.5, 0.1] and state["losses"].dtype == torch.float64
    assert {name.rpartition(".")[2] for name in state if name.startswith("optimizer.")} == {"step", "exp_avg", "exp_avg_sq"}
    assert not any("embeddings" in name for name in state)


def test_restored_is_captured() -> None:
    trained = Line()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1, fused=True)
    for scale in (1.0, -2.0):
        steepness(trained, torch.tensor(scale)).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = load(save(capture(trained, optimizer, [3.0, -4.5])))
    # Gradients (1, 1, 1) then (-2, -2, -2): the first moment is 0.9 · 0.1 - 0.1 · 2, the second 0.999 · 0.001 + 0.001 · 4.
    assert state["optimizer.0.exp_avg"].tolist() == [pytest.approx([-0.11, -0.11], rel=1e-5)]
    assert state["optimizer.1.exp_avg_sq"].tolist() == pytest.approx([0.004999], rel=1e-5)
    assert state["optimizer.0.step"].item() == 2.0

    fresh = Line()
    other = torch.optim.AdamW(fresh.parameters(), lr=0.1, fused=True)
    assert restore(fresh, other, state) == [3.0, -4.5]
    for model, stepping in ((trained, optimizer), (fresh, other)):
        steepness(model, torch.tensor(0.5)).backward()
        stepping.step()
    assert_same(fresh.state_dict(), trained.state_dict())


def test_going_on_does_not_change_the_state_it_came_from() -> None:
    trained = Line()
    optimizer = torch.optim.AdamW(trained.parameters(), fused=True)
    steepness(trained, torch.tensor(1.0)).backward()
    optimizer.step()
    state = {name: value.clone() for name, value in capture(trained, optimizer, [3.0]).items()}
    before = {name: value.clone() for name, value in state.items()}
    restore(trained, optimizer, state)
    optimizer.step()
    assert_same(state, before)


def test_the_rate_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps from a peak of 0.01, half of them before the stop: 1, ¾ | ½, ¼."""
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def watch(self: torch.optim.AdamW, *args: object, **options: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    kept = Kept(every=2)

    def run(killed_at: int) -> list[float]:
        def on_step(step: int, loss: float) -> None:
            if step == killed_at:
                raise Killed

        return fit(
            Line(),
            [torch.tensor(1.0)] * 4,
            steepness,
            Settings(steps=4),
            Device("cpu", "float32", 1),
            on_step,
            checkpoints=kept,
        )

    with pytest.raises(Killed):
        run(3)
    assert rates == pytest.approx([1e-2, 0.75e-2, 0.5e-2])
    losses = run(0)
    assert rates == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.5e-2, 0.25e-2])
    assert len(losses) == 4
