"""The training loop: what it promises about rates, decay, dropout, clipping, seeds and losses that explode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine.device import Device, choose_device
from petkit.engine.inference import ClassifierLogits, label_logits
from petkit.engine.sampling import training_batches
from petkit.engine.training_loop import TrainingDiverged, fit, linear_decay, parameter_groups, seed_everything, set_dropout
from petkit.errors import InvalidInput
from petkit.losses import cross_entropy
from petkit.models.batch import collate
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import load_masked_lm, load_tokenizer, new_classifier
from petkit.prompts.pattern import Encoded
from tests.tiny import ARCHITECTURES

FLOAT32 = Device("cpu", "float32", 1)
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES)


@dataclass(frozen=True)
class Settings:
    """The knobs of the loop; also read by ``test_checkpoint``."""

    steps: int = 12
    learning_rate: float = 1e-2
    warmup: float = 0.0
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    dropout: float = 0.0


class Line(nn.Module):
    """Two weights and a bias; the gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        with torch.no_grad():
            self.layer.weight.fill_(1.0)
            self.layer.bias.fill_(1.0)

    def forward(self, scale: Tensor) -> Tensor:
        return scale * self.layer(torch.ones(1, 2)).sum()


def steepness(model: nn.Module, scale: Tensor) -> Tensor:
    loss: Tensor = model(scale)
    return loss


# -- rates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "warmup", "expected"),
    [
        (4, 0.0, [1.0, 0.75, 0.5, 0.25, 0.0]),
        (1, 0.0, [1.0, 0.0]),
        (6, 0.5, [0.25, 0.5, 0.75, 1.0, 2 / 3, 1 / 3, 0.0]),
        (10, 0.1, [0.5, 1.0, 8 / 9, 7 / 9]),
        (2, 1.0, [1 / 3, 2 / 3, 0.0]),
    ],
)
def test_linear_decay(steps: int, warmup: float, expected: list[float]) -> None:
    assert [linear_decay(step, steps, warmup) for step in range(len(expected))] == pytest.approx(expected)


def test_every_step_learns_something() -> None:
    """Neither the first nor the last step has a rate of zero."""
    assert all(0 < linear_decay(step, 50, warmup) <= 1 for warmup in (0.0, 0.1, 1.0) for step in range(50))
    assert linear_decay(99, 50, 0.1) == 0.0


def test_fit_follows_the_schedule() -> None:
    """Adam moves a weight by the learning rate while its gradient keeps its sign: 1 + ¾ + ½ + ¼ rates in four steps."""
    model = Line()
    fit(model, [torch.tensor(1.0)] * 4, steepness, Settings(steps=4, weight_decay=0.0), FLOAT32)
    assert model.layer.weight.tolist()[0] == pytest.approx([1 - 2.5e-2] * 2, rel=1e-4)


def test_fit_ends_when_it_is_finished_and_keeps_the_schedule() -> None:
    """Two of four steps, at 1 and ¾ of the rate; it is asked before each step, with the losses so far."""
    model, asked = Line(), []

    def finished(losses: Sequence[float]) -> bool:
        asked.append(len(losses))
        return len(losses) == 2

    losses = fit(model, [torch.tensor(1.0)] * 4, steepness, Settings(steps=4, weight_decay=0.0), FLOAT32, finished=finished)
    assert len(losses) == 2 and asked == [0, 1, 2]
    assert model.layer.weight.tolist()[0] == pytest.approx([1 - 1.75e-2] * 2, rel=1e-4)


# -- decay, clipping, dropout --------------------------------------------------------------------------


@every_architecture
def test_vectors_do_not_decay(arch: str, model_folder: Callable[[str], Path]) -> None:
    model = load_masked_lm(str(model_folder(arch)))
    matrices, vectors = parameter_groups(model, 0.1)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    names = {id(value): name for name, value in model.named_parameters()}
    exempt = {names[id(value)] for value in vectors["params"]}  # type: ignore[attr-defined]
    decayed = {names[id(value)] for value in matrices["params"]}  # type: ignore[attr-defined]
    assert exempt | decayed == set(names.values()) and not exempt & decayed
    assert {name for name in names.values() if name.endswith("bias")} <= exempt
    norms = {name for name in names.values() if "norm" in name.lower() and name.endswith("weight")}
    assert norms and norms <= exempt | {name for name in norms if name.endswith("embeddings.weight")}
    assert any("query" in name or "q_lin" in name or "Wqkv" in name or "attn.q" in name for name in decayed)


def test_frozen_parameters_are_left_out() -> None:
    model = Line()
    model.layer.weight.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [0, 1]  # type: ignore[arg-type]


def test_decay_shrinks_matrices_only() -> None:
    model = Line()
    fit(model, [torch.tensor(0.0)] * 2, steepness, Settings(steps=2, weight_decay=0.5), FLOAT32)
    assert model.layer.bias.item() == 1.0
    assert model.layer.weight.tolist()[0] == pytest.approx([(1 - 0.5e-2) * (1 - 0.25e-2)] * 2, rel=1e-5)


def test_new_parameters_have_a_rate_of_their_own_and_do_not_decay() -> None:
    """Two steps at 1 and ½ of each peak; the gradient is 1 everywhere, so Adam moves by the rate."""
    model = Line()
    new = [model.layer.weight]
    fit(model, [torch.tensor(1.0)] * 2, steepness, Settings(steps=2, weight_decay=0.5), FLOAT32, new=new, new_learning_rate=0.1)
    assert model.layer.weight.tolist()[0] == pytest.approx([1 - 0.15] * 2, rel=1e-4)
    assert model.layer.bias.item() == pytest.approx(1 - 1.5e-2, rel=1e-4)


@pytest.mark.parametrize(("limit", "norm"), [(0.5, 0.5), (1e6, 7 * 3**0.5)])
def test_clipping_bounds_the_gradient(limit: float, norm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = torch.optim.AdamW.step

    def watch(self: torch.optim.AdamW, *args: object, **options: object) -> object:
        gradients = [value.grad for group in self.param_groups for value in group["params"]]
        seen.append(float(torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))))
        return original(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    fit(Line(), [torch.tensor(7.0)], steepness, Settings(steps=1, max_grad_norm=limit), FLOAT32)
    assert seen == pytest.approx([norm], rel=1e-4)


def test_a_large_epsilon_makes_small_steps() -> None:
    model = Line()
    fit(model, [torch.tensor(1e-4)], steepness, Settings(steps=1, weight_decay=0.0, adam_epsilon=1.0), FLOAT32)
    assert 0 < 1 - model.layer.weight[0, 0].item() < 1e-5


def tiny_batch(folder: Path, rows: int = 6) -> tuple[list[Encoded], Tensor]:
    """Rows whose label follows from the word in the middle."""
    tokenizer = load_tokenizer(str(folder))
    (good,), (bad,), (the,) = tokenizer.encode(["good", "bad", "the"])
    start, end = tokenizer.hf.cls_token_id, tokenizer.hf.sep_token_id

    def row(label: int, extra: int) -> Encoded:
        ids = [start, tokenizer.mask_id, bad if label else good, *[the] * extra, end]
        return Encoded(np.array(ids, np.int32), len(ids), 1)

    return [row(index % 2, index) for index in range(rows)], torch.tensor([index % 2 for index in range(rows)])


@every_architecture
@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_dropout_of_every_layer_is_set(arch: str, kind: str, model_folder: Callable[[str], Path]) -> None:
    """The tiny models are saved with dropout 0.1; at 0 training is deterministic, above 0 it is not."""
    folder = model_folder(arch)
    if kind == "teacher":
        model: nn.Module = WordScorer(load_masked_lm(str(folder), "eager"), [[[5]], [[6]]])
    else:
        model = ClassifierLogits(new_classifier(str(folder), ["a", "b"], "eager")[0])
    batch = collate(tiny_batch(folder)[0], load_tokenizer(str(folder)))
    model.train()
    set_dropout(model, 0.0)
    torch.manual_seed(1)
    assert torch.equal(model(batch), model(batch))
    set_dropout(model, 0.4)
    assert not torch.equal(model(batch), model(batch))


def test_fit_sets_dropout_and_ends_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    modes: list[tuple[bool, float]] = []

    def loss_of(trained: nn.Module, rows: Tensor) -> Tensor:
        modes.append((model[1].training, model[1].p))
        return trained(rows).sum()  # type: ignore[no-any-return]

    fit(model, [torch.ones(2)], loss_of, Settings(steps=1, dropout=0.25), FLOAT32)
    assert modes == [(True, 0.25)] and not model.training


# -- where training runs -------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(InvalidInput, match=rf"compute\.device: {device} is not available on this machine \(use auto or cpu\)"):
        choose_device(ComputeSpec(device=device, threads=1))


def test_a_numbered_device_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", lambda name: nullcontext(used.append(name)))
    found = choose_device(ComputeSpec(device="cuda:1", precision="float32", threads=1))
    assert found.name == "cuda:1" and used == []
    with found.in_use():
        assert used == ["cuda:1"]
    with pytest.raises(InvalidInput, match="cuda:2"):
        choose_device(ComputeSpec(device="cuda:2", precision="float32", threads=1))


@every_architecture
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_every_architecture_has_the_attention_to_train_with(arch: str, device: str, model_folder: Callable[[str], Path]) -> None:
    """DeBERTa-v2 has no fused attention; asking for it would refuse the model."""
    attention = Device(device, "float32", 1).training_attention
    assert load_masked_lm(str(model_folder(arch)), attention) is not None
    assert new_classifier(str(model_folder(arch)), ["a", "b"], attention)[0] is not None


# -- whole trainings -----------------------------------------------------------------------------------


def train(folder: Path, seed: int, precision: str = "float32", dropout: float = 0.0) -> tuple[WordScorer, list[float]]:
    device = Device("cpu", precision, 1)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(str(folder))
    rows, labels = tiny_batch(folder, 12)
    (good,), (bad,) = tokenizer.encode(["great", "terrible"])
    seed_everything(seed)
    scorer = WordScorer(load_masked_lm(str(folder), "eager"), [[[good]], [[bad]]])
    label_logits(scorer.eval(), rows, tokenizer, device, 4096)  # as stage A does before it trains

    def loss_of(model: nn.Module, batch: np.ndarray) -> Tensor:
        return cross_entropy(model(collate([rows[index] for index in batch], tokenizer)), labels[batch])

    def batches() -> Iterator[np.ndarray]:
        return training_batches([len(row.ids) for row in rows], 6, 60, seed)

    return scorer, fit(scorer, batches(), loss_of, Settings(steps=60, learning_rate=3e-3, dropout=dropout), device)


@every_architecture
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_loss_falls_and_the_model_stays_whole(arch: str, precision: str, model_folder: Callable[[str], Path]) -> None:
    scorer, losses = train(model_folder(arch), 1, precision)
    assert len(losses) == 60 and all(np.isfinite(losses))
    assert losses[0] > 0.5 and np.mean(losses[-3:]) < 0.5 * losses[0]
    assert {value.dtype for value in scorer.parameters()} == {torch.float32}
    with torch.no_grad():
        plain = scorer.detach()(input_ids=torch.tensor([[5, 6, 7]]))
    assert plain.logits.dtype == torch.float32 and plain.logits.shape[:2] == (1, 3)


def test_same_seed_same_weights_bit_for_bit(model_folder: Callable[[str], Path]) -> None:
    first, second, other = (train(model_folder("bert"), seed, dropout=0.2)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_precision_of_one_training_does_not_stick_to_the_next(model_folder: Callable[[str], Path]) -> None:
    alone = train(model_folder("bert"), 1)[1]
    mixed = train(model_folder("bert"), 1, "bfloat16")[1]
    assert train(model_folder("bert"), 1)[1] == alone != mixed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_diverging_loss_raises(value: float) -> None:
    steps: list[int] = []
    batches = [torch.tensor(1.0), torch.tensor(value), torch.tensor(1.0)]
    with pytest.raises(TrainingDiverged, match=r"training diverged: the loss is \S+ at step 2 \(lower learning_rate\)") as raised:
        fit(Line(), batches, steepness, Settings(steps=3), FLOAT32, lambda step, loss: steps.append(step))
    assert steps == [1] and raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("losses", "settings", "hint"),
    [
        ([float("nan")], Settings(steps=3), r"before any update: lower the weights of the loss or focal_gamma, .*"),
        ([1.0, float("nan")], Settings(steps=3, learning_rate=0.1, weight_decay=0.01), "lower learning_rate"),
        ([1.0, float("nan")], Settings(steps=3, learning_rate=1e-5, weight_decay=1e6), "lower weight_decay"),
    ],
)
def test_the_hint_names_what_made_the_loss_diverge(losses: list[float], settings: Settings, hint: str) -> None:
    with pytest.raises(TrainingDiverged, match=rf"\({hint}\)$"):
        fit(Line(), [torch.tensor(loss) for loss in losses], steepness, settings, FLOAT32)


def test_the_rate_is_not_blamed_for_a_gradient_before_any_update() -> None:
    """The square root of 0: a loss of 0, and a gradient that is infinite."""
    with pytest.raises(TrainingDiverged, match=r"at step 2 \(before any update: "):
        fit(Line(), [torch.tensor(0.0)] * 3, lambda model, rows: steepness(model, rows).abs().sqrt(), Settings(steps=3), FLOAT32)


def test_on_step_hears_every_loss() -> None:
    heard: list[tuple[int, float]] = []
    losses = fit(Line(), [torch.tensor(2.0)] * 3, steepness, Settings(steps=3), FLOAT32, lambda *reported: heard.append(reported))
    assert heard == list(enumerate(losses, 1)) and losses[0] == 6.0
