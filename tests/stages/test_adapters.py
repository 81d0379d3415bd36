"""Adapters from end to end: teachers share one frozen backbone, and students are plain wherever they can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.errors import InvalidInput, ModelRefused
from petkit.predict.predictor import Predictor
from petkit.pretraining.pretrain_prompt import pretrain_prompt
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix
from petkit.task import model_checks as backbones
from petkit.task.task import Task
from petkit.teachers import models as models_module
from petkit.teachers.loading import load_teachers
from petkit.teachers.models import teacher_models
from tests.tiny import tiny_tokenizer
from tests.tiny_task import load, planned, products, rows, run_task, write_rows, write_task

DEVICE = Device("cpu", "float32", 1)
TEXTS = [{"text": row["text"]} for row in rows(30, 30)]  # the unlabelled set
QUICK = ("teachers.seeds=[1, 2]", "teachers.steps=20", "student.steps=6")
KINDS = {
    "lora": "{kind: lora, rank: 2, learning_rate: 0.02}",
    "ia3": "{kind: ia3, learning_rate: 0.1}",
    "prompt_tuning": "{kind: prompt_tuning, tokens: 3, learning_rate: 0.1}",
    "p_tuning_v1": "{kind: p_tuning_v1, tokens: 3, learning_rate: 0.02}",
    "p_tuning_v2": "{kind: p_tuning_v2, tokens: 3, learning_rate: 0.1}",
}
NAMES = [f"{pattern}-{seed}" for pattern in ("colon", "brackets") for seed in (1, 2)]
SOFT = "patterns=[{id: colon, text: '{soft:3} {mask} {text}'}, {id: brackets, text: '{text} ( {mask} )'}]"
ALL_SOFT = SOFT.replace("{text} ( {mask} )", "{text} {soft:2} {mask}")
every_kind = pytest.mark.parametrize("kind", KINDS)


def with_adapters(kind: str) -> tuple[str, ...]:
    return (*QUICK, f"teachers.adapter={KINDS[kind]}", f"student.adapter={KINDS[kind]}")


@pytest.fixture(scope="module")
def run_with(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, int]]:
    """``run_with(kind)`` is the folder of a finished run with these adapters, not to be changed, and how often it loaded its model."""

    @cache
    def make(kind: str) -> tuple[Path, int]:
        loaded: list[str] = []
        real = models_module.load_language_model
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                models_module, "load_language_model", lambda *args, **options: loaded.append(args[0]) or real(*args, **options)
            )
            folder = run_task(pipeline_file, tmp_path_factory.mktemp("adapters") / "run", *with_adapters(kind)).folder
        return folder, len(loaded)

    return make


@every_kind
def test_a_whole_run(kind: str, pipeline_file: Path, run_with: Callable[[str], tuple[Path, int]]) -> None:
    run, loaded = run_with(kind)
    assert loaded == 2  # once for stage A, once for the evaluation: the student needs the memory in between
    files = {path.name for path in (run / "stage_a" / "colon-1" / "model").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "teacher.json", "step.json"}

    found = load_teachers(RunStore(run), NAMES, DEVICE)
    for name, teacher in [*zip(NAMES, found, strict=True), (NAMES[0], found[0])]:  # in turn on one backbone
        logits = read_matrix(run / "stage_a" / name / "logits", "logits")
        np.testing.assert_allclose(teacher.logits(TEXTS, DEVICE, 4096), logits, rtol=0, atol=1e-5)
    assert not np.allclose(
        read_matrix(run / "stage_a" / NAMES[0] / "logits", "logits"),
        read_matrix(run / "stage_a" / NAMES[1] / "logits", "logits"),
    )
    predicted = Predictor.load(run)(["the game was good", "market news"])
    assert predicted[0].label in ("Sports", "Science", "World")
    assert run_task(pipeline_file, run, *with_adapters(kind)).ran == ()


@every_kind
def test_a_whole_run_in_bfloat16(kind: str, pipeline_file: Path, here: Path) -> None:
    few = ("teachers.seeds=[1]", "teachers.steps=5", "compute.precision=bfloat16")
    result = run_task(pipeline_file, here / "run", *with_adapters(kind), *few)
    assert result.metrics is not None
    logits = read_matrix(here / "run" / "stage_a" / "colon-1" / "logits", "logits")
    again = load_teachers(RunStore(here / "run"), ["colon-1"], Device("cpu", "bfloat16", 1))[0]
    np.testing.assert_allclose(again.logits(TEXTS, Device("cpu", "bfloat16", 1), 4096), logits, rtol=0, atol=1e-3)
    assert Predictor.load(result.folder, teachers=True)(["the game was good"])[0].label


@every_kind
def test_order_and_company_change_no_teacher(
    kind: str, pipeline_file: Path, here: Path, run_with: Callable[[str], tuple[Path, int]]
) -> None:
    alone = (*with_adapters(kind), "teachers.seeds=[2]", "patterns=[{id: brackets, text: '( {mask} ) {text}'}]")
    run_task(pipeline_file, here / "one", *alone, stages=("a",))
    ours, theirs = products(here / "one", "stage_a"), products(run_with(kind)[0], "stage_a")
    assert ours and all(theirs[name] == content for name, content in ours.items())


def test_without_an_adapter_every_teacher_has_a_model(pipeline_file: Path, finished: Path) -> None:
    files = {path.name for path in (finished / "stage_a" / "colon-1" / "model").iterdir()}
    assert "model.safetensors" in files and "adapter_config.json" not in files


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_a_merged_student_is_plain(kind: str, pipeline_file: Path, here: Path) -> None:
    result = run_task(pipeline_file, here / "run", *with_adapters(kind), "student.keep_adapter=true")
    assert not (result.student / "adapter_config.json").exists()
    assert (result.student / "adapter" / "adapter_model.safetensors").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(result.student)
    tokenizer = AutoTokenizer.from_pretrained(result.student)
    text = "the market was very good"
    with torch.no_grad():
        theirs = model(**tokenizer(text, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(Predictor.load(result.folder).logits([text]), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["p_tuning_v2", "prompt_tuning", "p_tuning_v1"])
def test_another_student_is_its_adapter(
    kind: str, pipeline_file: Path, here: Path, run_with: Callable[[str], tuple[Path, int]]
) -> None:
    run, _ = run_with(kind)
    student = run / "stage_c" / "model"
    assert not list(student.glob("model*.safetensors"))
    test_rows = [{"text": row["text"]} for row in rows(15, 15)]
    stored = read_matrix(run / "evaluation" / "predictions", "probabilities")
    predicted = [list(answer.probabilities.values()) for answer in Predictor.load(run)(test_rows)]
    np.testing.assert_allclose(predicted, stored, atol=1e-5)
    with pytest.raises(InvalidInput, match="contains an adapter, not a model of its own"):
        Task.checked(load(pipeline_file, f"student.model={student}"))
    about = json.loads((student / "petkit.json").read_text())
    about["base_sha256"] = "0" * 64
    alone = Path(shutil.copytree(student, here / "alone"))
    (alone / "petkit.json").write_text(json.dumps(about))
    (alone / "step.json").unlink()
    with pytest.raises(ModelRefused, match="was trained on another model"):
        Predictor.load(alone)


def test_soft_tokens_from_a_network(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", SOFT, *with_adapters("p_tuning_v1"))
    widths = {
        name: json.loads((here / "run" / "stage_a" / name / "model" / "adapter_config.json").read_text())["num_virtual_tokens"]
        for name in NAMES
    }
    assert widths == {"colon-1": 3, "colon-2": 3, "brackets-1": 3, "brackets-2": 3}
    for name, teacher in zip(NAMES, load_teachers(RunStore(here / "run"), NAMES, DEVICE), strict=True):
        logits = read_matrix(here / "run" / "stage_a" / name / "logits", "logits")
        np.testing.assert_allclose(teacher.logits(TEXTS, DEVICE, 4096), logits, rtol=0, atol=1e-5)


def test_all_positions_can_be_used(pipeline_file: Path, here: Path) -> None:
    kinds = ("teachers.adapter={kind: p_tuning_v2, tokens: 44}", "student.adapter={kind: prompt_tuning, tokens: 44}")
    long = here / "long.jsonl"
    write_rows(long, [{"text": " ".join(["game"] * length), "label": "Sports"} for length in (1, 40)])
    result = run_task(pipeline_file, here / "run", *QUICK, *kinds, "max_length=20", f"data.unlabeled={long}")
    assert Predictor.load(result.folder)(["game " * 40])[0].label


def test_tokens_without_room_are_never_made(pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(backbones, "attach", lambda model, spec, head: asked.append(spec.kind))
    with pytest.raises(InvalidInput, match=r"teachers\.adapter\.tokens: 10000 virtual tokens leave 0 of") as caught:
        Task.checked(load(pipeline_file, "teachers.adapter={kind: p_tuning_v2, tokens: 10000}", "student.adapter=lora"))
    assert len(caught.value.problems) == 1 and asked == ["lora"]


def test_soft_tokens_of_a_pattern_take_no_other_room(pipeline_file: Path) -> None:
    """P-Tuning v1 makes them, and puts nothing before the row."""
    adapter = "teachers.adapter={kind: p_tuning_v1, tokens: 16}"
    with pytest.raises(InvalidInput, match=r"max_length: 64 tokens are more than .* in addition to 16 virtual ones \(48\)"):
        Task.checked(load(pipeline_file, SOFT, adapter, "max_length=64"))
    with pytest.raises(InvalidInput, match=r"in addition to 16 virtual ones \(48\)"):  # the student reads plain rows
        Task.checked(load(pipeline_file, ALL_SOFT, adapter.replace("teachers", "student"), "max_length=64"))

    task = Task.checked(load(pipeline_file, ALL_SOFT, adapter, "max_length=64"))
    pvp = task.pvps[0]
    row = pvp.encode_texts([{"text": "game " * 100}], task.tokenizer)
    with teacher_models(task.spec.model, task.spec.teachers.adapted, DEVICE).new(pvp) as scorer:
        logits = label_logits(scorer.eval(), row, task.tokenizer, DEVICE, 4096)
    assert len(row[0].ids) == 64 and logits.shape == (1, 3)


def test_everything_together(pipeline_file: Path, here: Path) -> None:
    overrides = (
        SOFT,
        *with_adapters("p_tuning_v2"),
        "teachers.seeds=[1]",
        "teachers.steps=5",
        "generations.count=1",
        "soft_labels.weighting=out_of_fold",
        "soft_labels.folds=2",
        "demonstrations.per_label=1",
        "max_length=50",
        "teachers.auxiliary_mlm_weight=0.1",
        "student.feature_weight=0.1",
        "verbalizer.kind=soft",
    )
    result = run_task(pipeline_file, here / "run", *overrides)
    assert result.metrics is not None
    assert Predictor.load(result.folder, teachers=True)(["the game"])[0].label


def test_what_is_in_force(pipeline_file: Path, run_with: Callable[[str], tuple[Path, int]]) -> None:
    run, _ = run_with("lora")
    same = planned(pipeline_file, run, *with_adapters("lora"), "teachers.learning_rate=0.5")
    assert same["stage_a/colon-1/model"].action == "skip"  # the model's own weights are frozen
    other = planned(pipeline_file, run, *with_adapters("lora"), "teachers.adapter={kind: lora, rank: 3}")
    assert other["stage_a/colon-1/model"].action == "stale"


def test_the_backbone_has_changed(here: Path, model_folder: Callable[[str], Path]) -> None:
    import shutil

    model = Path(shutil.copytree(model_folder("bert"), here / "model"))
    pipeline_file = write_task(here / "task", model)
    run_task(pipeline_file, here / "run", *with_adapters("lora"))
    shutil.copy(model_folder("electra") / "model.safetensors", model)
    with pytest.raises(Exception, match="has changed since it answered as teacher"):
        load_teachers(RunStore(here / "run"), NAMES, DEVICE)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("teachers.adapter={kind: lora, target_modules: [nothing_here]}",),
            "teachers.adapter: no layer of this 'bert' model is called nothing_here .its layers: self.query, ",
        ),
        (
            ("student.adapter={kind: lora, target_modules: [nothing_here]}",),
            "student.adapter: no layer of this 'bert' model is called nothing_here .its layers: self.query, ",
        ),
        (  # the student's new head is trained as it is, and so not listed
            ("student.adapter={kind: lora, target_modules: [classifier]}",),
            r"student.adapter: no layer of this 'bert' model is called classifier .its layers: (?!.*classifier)",
        ),
        (("teachers.adapter={kind: prompt_tuning, tokens: 57}",), "teachers.adapter.tokens: 57 virtual tokens leave 7 of"),
        (("student.adapter={kind: p_tuning_v1, tokens: 57}",), "student.adapter.tokens: 57 virtual tokens leave 7 of"),
        (
            ("teachers.adapter={kind: prompt_tuning, tokens: 20}", "max_length=60"),
            r"max_length: 60 tokens are more than .* can read in addition to 20 virtual ones \(44\)",
        ),
        (("teachers.adapter=low_rank",), "teachers.adapter: must be one of none, lora, .*, not 'low_rank'"),
        (("teachers.adapter={rank: 4}",), "teachers.adapter: must say its kind, as in {kind: lora}"),
        (("teachers.adapter={kind: lora, target_modules: []}",), "target_modules: must be 'auto' or 'all-linear' or not empty"),
        (("teachers.adapter={kind: ia3, rank: 4}",), "teachers.adapter.rank: unknown key"),
        (
            ("teachers.adapter={kind: ia3, target_modules: [query], feedforward_modules: [key]}",),
            r"teachers.adapter.feedforward_modules: key is none of target_modules \(name it there too\)$",
        ),
        (
            ("teachers.adapter={kind: ia3, feedforward_modules: [nothing]}",),
            "teachers.adapter: feedforward_modules: nothing is none of the layers adapted, key, value, output.dense .its layers",
        ),
        (
            ("teachers.adapter={kind: lora, target_modules: [decoder]}",),
            "teachers.adapter: decoder is the vocabulary's own layer",
        ),
    ],
)
def test_refused(overrides: tuple[str, ...], said: str, pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Task.checked(load(pipeline_file, *overrides))
    assert len(caught.value.problems) == 1, caught.value.problems


def other_model(arch: str, folder: Path, **sizes: int) -> str:
    """Save a random masked LM of a family that petkit was not made for, and return its folder."""
    tokenizer = tiny_tokenizer("wordpiece")
    sizes |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = AutoConfig.for_model(arch, vocab_size=len(tokenizer), **sizes)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_that_cannot_be_read_at_the_mask(pipeline_file: Path, here: Path) -> None:
    mobile = other_model("mobilebert", here / "mobile", embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16)
    said = "model: .*mobile: a 'mobilebert' model cannot be read at the mask alone: .* .use another model, such as BERT"
    with pytest.raises(InvalidInput, match=said) as caught:
        Task.checked(load(pipeline_file, f"model={mobile}", "student.model=embedded"))
    assert len(caught.value.problems) == 1
    Task.checked(load(pipeline_file, f"student.model={mobile}"))  # a classifier is read otherwise
    with pytest.raises(InvalidInput, match=said):
        pretrain_prompt(load(pipeline_file, f"model={mobile}", "pretrain_prompt.objective=masked_lm"), here / "prompt")
    assert not (here / "prompt").exists()


def test_a_model_that_reads_no_virtual_tokens(pipeline_file: Path, here: Path) -> None:
    ibert = other_model("ibert", here / "ibert")
    said = "a 'ibert' model cannot carry prompt_tuning: its answers do not depend on every virtual token, .* .use lora"
    tuned = "{kind: prompt_tuning, tokens: 3}"
    with pytest.raises(InvalidInput, match=said) as caught:
        Task.checked(load(pipeline_file, f"model={ibert}", f"teachers.adapter={tuned}", f"student.adapter={tuned}"))
    assert [problem.key for problem in caught.value.problems] == ["teachers.adapter", "student.adapter"]
    with pytest.raises(InvalidInput, match=said):
        pretrain_prompt(load(pipeline_file, f"model={ibert}", "pretrain_prompt.objective=masked_lm"), here / "prompt")
