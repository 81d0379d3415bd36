"""QLoRA in the stages: teachers take turns beside one backbone in 4 bits, and a student becomes a plain folder in float32."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from petkit.commands.validate import check_pipeline
from petkit.config.schema.adapter import LoraSpec
from petkit.config.schema.training import StudentSpec
from petkit.engine.device import Device, inference
from petkit.engine.inference import ClassifierLogits
from petkit.engine.training_loop import fit
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput
from petkit.models.adapters.attach import trained_part
from petkit.models.adapters.base import read_adapter
from petkit.models.batch import collate
from petkit.models.loading import load_classifier, new_classifier
from petkit.runs.layout import teacher_logits, teacher_model
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix
from petkit.student.model import new_student, save_student
from petkit.task.task import Task
from petkit.teachers.loading import load_teachers
from petkit.teachers.models import TeacherModels, teacher_models
from tests.tiny_task import load, planned, run_task, write_task

DEVICE = Device("cpu", "float32", 1)
QLORA = LoraSpec(kind="qlora", alpha=64, target_modules="all-linear")
STRONG = "{kind: qlora, alpha: 64, target_modules: all-linear, learning_rate: 0.005}"
OVERRIDES = (
    f"teachers.adapter={STRONG}",
    f"student.adapter={STRONG}",
    "teachers.batch_size=9",
    "teachers.seeds=[1]",
    "teachers.dropout=0",
)
LABELS = ("Sports", "Science", "World")
MISSING = "bitsandbytes 0.50 or later is not installed (pip install 'petkit[qlora]')"


@pytest.fixture
def real() -> None:
    """Skip what needs the package where it is not."""
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed (pip install 'petkit[qlora]')")


@pytest.fixture
def task(pipeline_file: Path) -> Task:
    return Task.checked(load(pipeline_file))


def learn(model: nn.Module, batch: Any, gold: Tensor, steps: int = 20) -> list[float]:
    settings = StudentSpec(steps=steps, warmup=0, dropout=0, learning_rate=0.005)
    loss = nn.CrossEntropyLoss()
    return fit(model, [None] * steps, lambda scorer, rows: loss(scorer(batch), gold), settings, DEVICE, seed=1)


def ask(model: nn.Module, batch: Any) -> Tensor:
    with inference(DEVICE):
        answer: Tensor = model.eval()(batch).clone()
    return answer


# -- validation ----------------------------------------------------------------------------------------


def test_a_missing_package_is_reported_before_anything_is_written(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda oldest: False)
    for attempt in (
        lambda: run_task(pipeline_file, here / "run", *OVERRIDES),
        lambda: check_pipeline(load(pipeline_file, *OVERRIDES)),
    ):
        with pytest.raises(InvalidInput) as refused:
            attempt()
        first, second = str(refused.value).splitlines()
        assert first.endswith(f": teachers.adapter: {MISSING}") and second.endswith(f": student.adapter: {MISSING}")
    assert not (here / "run").exists()


def test_only_the_section_that_asks_is_named(pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda oldest: False)
    with pytest.raises(InvalidInput) as refused:
        Task.checked(load(pipeline_file, "student.adapter=qlora"))
    assert str(refused.value) == f"--set student.adapter=qlora: student.adapter: {MISSING}"
    assert Task.checked(load(pipeline_file, "student.adapter=lora", "teachers.adapter=lora"))


def test_a_device_that_is_not_there_is_reported_as_such(pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InvalidInput, match=r"compute\.device: cuda is not available"):
        Task.checked(load(pipeline_file, "teachers.adapter=qlora", "compute.device=cuda"))


# -- teachers ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("arch", ["bert", "modernbert"])
def test_teachers_take_turns_beside_one_backbone(arch: str, model_folder: Callable[[str], Path], here: Path) -> None:
    """Train, save, score, train another, score the first again: the backbone is the same throughout."""
    task = Task.checked(load(write_task(here / "task", model_folder(arch))))
    models = teacher_models(task.spec.model, QLORA, DEVICE)
    pvp, gold = task.pvps[0], torch.from_numpy(task.targets())
    batch = collate([pvp.encode(tokens) for tokens in task.tokens("train")], task.tokenizer)

    def train(seed: int, folder: Path) -> tuple[list[float], Tensor]:
        torch.manual_seed(seed)
        with models.new(pvp) as scorer:
            losses = learn(scorer, batch, gold)
            models.save(scorer, folder)
            return losses, ask(scorer, batch)

    def score(lender: TeacherModels, folder: Path) -> Tensor:
        with lender.trained(folder, pvp) as scorer:
            return ask(scorer, batch)

    with models.untrained(pvp) as scorer:
        untrained = ask(scorer, batch)
    losses, first = train(1, here / "first")
    scored = score(models, here / "first")
    _, second = train(2, here / "second")
    again, same = train(1, here / "again")

    assert losses[-1] < 0.8 * losses[0] and again == losses
    assert not torch.allclose(first, untrained, atol=1e-2) and not torch.allclose(first, second, atol=1e-2)
    torch.testing.assert_close(scored, first, rtol=0, atol=1e-4)  # training and scoring have attentions of their own
    torch.testing.assert_close(score(models, here / "second"), second, rtol=0, atol=1e-4)
    assert torch.equal(same, first) and torch.equal(score(models, here / "first"), scored)
    assert torch.equal(score(teacher_models(task.spec.model, QLORA, DEVICE), here / "first"), scored)
    with models.untrained(pvp) as scorer:
        assert torch.equal(ask(scorer, batch), untrained)
    config = json.loads((here / "first" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 8, task.spec.model)
    assert all(".lora_" in name and value.dtype == torch.float32 for name, value in read_adapter(here / "first").items())


# -- students ------------------------------------------------------------------------------------------


def in_four_bits(weights: Tensor) -> Tensor:
    """Round weights to NF4 with double quantisation, and back."""
    from bitsandbytes import functional

    back: Tensor = functional.dequantize_4bit(*functional.quantize_4bit(weights.data, compress_statistics=True, quant_type="nf4"))
    return back


def trained_student(folder: str, multi: bool, batch: Any) -> tuple[ClassifierLogits, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student = new_student(folder, LABELS, LabelKind("multi" if multi else "single"), QLORA, DEVICE)
    losses = learn(student, batch, torch.tensor([0, 1, 2] * 3))
    assert losses[-1] < 0.7 * losses[0]
    return student, ask(student, batch)


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("multi", [False, True])
def test_a_student_is_merged_into_what_its_bits_stand_for(multi: bool, task: Task, here: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    batch = collate([task.student_pattern.encode(tokens) for tokens in task.tokens("train")], task.tokenizer)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        start = dict(new_classifier(task.spec.model, LABELS)[0].named_parameters())
    student, answers = trained_student(task.spec.model, multi, batch)
    assert student.adapter is not None
    trained = student.adapter.state()
    drawn = torch.get_rng_state()
    assert save_student(student, task.spec.model, QLORA, here / "model", keep=True) == {}
    assert torch.equal(torch.get_rng_state(), drawn)
    model, info = AutoModelForSequenceClassification.from_pretrained(here / "model", output_loading_info=True)

    assert not info["missing_keys"] and not info["unexpected_keys"] and not hasattr(model.config, "quantization_config")
    assert tuple(model.config.id2label.values()) == LABELS and (model.config.problem_type[:5] == "multi") == multi
    changed = set()
    for name, value in model.named_parameters():
        assert value.dtype == torch.float32
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        if f"base_model.model.{name}" in trained:  # the head and BERT's pooler
            assert torch.equal(value, trained[f"base_model.model.{name}"]) and not torch.equal(value, start[name])
        elif f"{layer}.lora_A.weight" in trained:
            update = 8 * trained[f"{layer}.lora_B.weight"] @ trained[f"{layer}.lora_A.weight"]  # alpha / rank
            torch.testing.assert_close(value, in_four_bits(start[name]) + update, rtol=0, atol=1e-6)
            assert (value - update - start[name]).abs().max() > 1e-4
            changed.add(name)
        else:
            assert torch.equal(value, start[name]), name
    assert len(changed) == 12  # six in both layers
    assert {name: value.shape for name, value in read_adapter(here / "model" / "adapter").items()} == {
        name: value.shape for name, value in trained.items()
    }
    merged = ask(ClassifierLogits(load_classifier(str(here / "model"))), batch)
    torch.testing.assert_close(merged, answers, rtol=0, atol=1e-5)


# -- a whole run ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("real")
def test_a_run_from_teachers_to_a_plain_student(pipeline_file: Path, here: Path) -> None:
    result = run_task(pipeline_file, here / "run", *OVERRIDES)
    store, task = RunStore(here / "run"), Task.checked(load(pipeline_file, *OVERRIDES))
    for name in ("colon-1", "brackets-1"):
        facts = store.facts(teacher_model(name))
        assert facts["last_loss"] < 0.9 * facts["first_loss"]
        teacher = load_teachers(store, [name], DEVICE)[0]
        rows = [teacher.pvp.encode(tokens) for tokens in task.tokens("unlabeled")]
        with teacher.lend() as scorer:
            found = ask(scorer, collate(rows, task.tokenizer))
        torch.testing.assert_close(found, torch.from_numpy(read_matrix(store.path(teacher_logits(name)), "logits")))
    assert store.facts("stage_c/model")["last_loss"] < store.facts("stage_c/model")["first_loss"]
    assert load_classifier(str(result.student)).config.num_labels == 3
    assert json.loads((here / "run" / "manifest.json").read_text())["versions"]["bitsandbytes"] != "missing"
    assert run_task(pipeline_file, here / "run", *OVERRIDES).ran == ()


@pytest.mark.usefixtures("real")
def test_untrained_teachers_answer_in_four_bits_too_and_are_known_by_it(pipeline_file: Path, here: Path) -> None:
    untrained = ("data.train=null", "teachers.seeds=[1]", "student.steps=2", "student.hard_weight=0")
    run_task(pipeline_file, here / "run", *untrained, *OVERRIDES[:1])
    store, task = RunStore(here / "run"), Task.checked(load(pipeline_file, *untrained, *OVERRIDES[:1]))
    name = task.teachers[0].name
    written = torch.from_numpy(read_matrix(store.path(teacher_logits(name)), "logits"))

    def asked(*adapter: str) -> Tensor:
        run_task(pipeline_file, here / "other", *untrained, *adapter, stages=("a",))
        return torch.from_numpy(read_matrix(here / "other" / teacher_logits(name), "logits"))

    teacher = load_teachers(store, [name], DEVICE)[0]
    rows = [teacher.pvp.encode(tokens) for tokens in task.tokens("unlabeled")]
    with teacher.lend() as scorer:
        torch.testing.assert_close(ask(scorer, collate(rows, task.tokenizer)), written)
    assert (asked() - written).abs().max() > 1e-3
    assert planned(pipeline_file, here / "run", *untrained)[teacher_logits(name)].why == "stale: four_bit removed"


@pytest.mark.usefixtures("real")
def test_the_trained_share_counts_numbers_not_bytes(task: Task) -> None:
    shares = [
        trained_part(new_student(task.spec.model, LABELS, LabelKind.SINGLE, QLORA, device))["trained_share"]
        for device in (DEVICE, None)
    ]
    assert shares[0] == shares[1] > 0
