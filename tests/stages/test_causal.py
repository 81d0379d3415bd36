"""Causal teachers through all stages, and what they cannot be asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from petkit import Predictor
from petkit.commands.validate import check_pipeline
from petkit.commands.zero_shot import zero_shot
from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.engine.sampling import StepRows
from petkit.engine.training_loop import set_dropout
from petkit.errors import InvalidInput
from petkit.models.loading import load_language_model
from petkit.stages.pipeline import RunResult
from petkit.storage.parquet_shards import read_matrix
from petkit.task.task import Task
from petkit.teachers.models import scorer_of
from petkit.teachers.objective import TeacherObjective, TrainingRows
from tests.tiny import CAUSAL
from tests.tiny_task import load, rows, run_task, write_task

pytestmark = pytest.mark.usefixtures("first_run")  # and its quick garbage collection

Folder = Callable[[str], Path]
PATTERNS = {"category": "{text} category: {mask}", "about": "( {text} ) it is {mask}"}
LONG = "verbalizer={labels: {Sports: [the game, very good team], Science: [science], World: [world news]}, multi_token: true}"
QUICK = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=3")
every_architecture = pytest.mark.parametrize("arch", sorted(CAUSAL))


@pytest.fixture(scope="module")
def causal_task(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Folder:
    made: dict[str, Path] = {}

    def make(arch: str) -> Path:
        if arch not in made:
            made[arch] = write_task(tmp_path_factory.mktemp("causal") / arch, model_folder(arch), patterns=PATTERNS)
        return made[arch]

    return make


@pytest.fixture(scope="module")
def causal_run(causal_task: Folder) -> Callable[[str], RunResult]:
    made: dict[str, RunResult] = {}

    def run(arch: str) -> RunResult:
        if arch not in made:
            made[arch] = run_task(causal_task(arch), causal_task(arch).parent / "run", "teachers.seeds=[1]")
        return made[arch]

    return run


# -- a whole run -------------------------------------------------------------------------------------


@every_architecture
def test_all_stages_learn_the_task(arch: str, causal_run: Callable[[str], RunResult]) -> None:
    metrics = causal_run(arch).metrics
    assert metrics is not None
    assert metrics["student"]["accuracy"] > 0.5 > 0.34 > 1 / 3
    assert metrics["ensemble"]["accuracy"] > metrics["untrained_ensemble"]["accuracy"]


@every_architecture
def test_teacher_logits_are_those_of_plain_transformers(
    arch: str, causal_run: Callable[[str], RunResult], causal_task: Folder
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = causal_run(arch).folder / "stage_a" / "about-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder / "model"), AutoTokenizer.from_pretrained(folder / "model")
    words = [
        [tokenizer(f"it {word}")["input_ids"][-1] for word in own] for own in (["sports", "football"], ["science"], ["world"])
    ]
    found = read_matrix(folder / "logits", "logits")
    for number, line in enumerate((causal_task(arch).parent / "unlabeled.jsonl").read_text().splitlines()):
        ids = tokenizer(f"( {json.loads(line)['text']} ) it is", return_tensors="pt")
        with torch.no_grad():
            last = model(**ids).logits[0, -1]
        expected = [last[own].mean().item() for own in words]
        np.testing.assert_allclose(found[number], expected, atol=1e-4)


@every_architecture
def test_the_student_is_a_plain_folder(arch: str, causal_run: Callable[[str], RunResult]) -> None:
    """Padded together, or each text alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    result = causal_run(arch)
    folder, texts = result.folder / "stage_c" / "model", [row["text"] for row in rows(6, 3)]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    expected = Predictor.load(result.folder).logits(texts)
    with torch.no_grad():
        together = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        alone = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
    assert len({len(tokenizer(text)["input_ids"]) for text in texts}) > 1
    np.testing.assert_allclose(together.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(alone.numpy(), expected, atol=1e-5)


@every_architecture
def test_new_rows_are_labelled_by_student_and_teachers(arch: str, causal_run: Callable[[str], RunResult]) -> None:
    folder, fields = causal_run(arch).folder, [row["text"] for row in rows(6, 3)]
    for teachers in (False, True):
        predictor = Predictor.load(folder, teachers=teachers)
        together = predictor.logits(fields)
        np.testing.assert_allclose(np.concatenate([predictor.logits([row]) for row in fields]), together, atol=1e-4)


def test_a_second_run_has_nothing_to_do(causal_run: Callable[[str], RunResult], causal_task: Folder) -> None:
    result = causal_run("gpt2")
    assert run_task(causal_task("gpt2"), result.folder, "teachers.seeds=[1]").ran == ()


def test_another_student(causal_task: Folder, tmp_path: Path, model_folder: Folder) -> None:
    result = run_task(causal_task("llama"), tmp_path / "run", *QUICK, f"student.model={model_folder('bert')}")
    config = json.loads((result.folder / "stage_c" / "model" / "config.json").read_text())
    assert config["model_type"] == "bert" and result.metrics is not None


@pytest.mark.parametrize(
    "asked",
    [
        (LONG,),
        (LONG, "teachers.loss=next_token"),
        (LONG, "teachers.loss=hinge"),
        ("teachers.loss=next_token",),
        ("teachers.loss=decoupled_label",),
        ("verbalizer.kind=soft",),
        ("verbalizer.kind=prototype",),
        ("verbalizer={auto: {per_label: 1}}",),
        ("demonstrations.per_label=1", "demonstrations.max_tokens=12"),
        ("teachers.consistency.kind=second_pattern", "teachers.contrastive.weight=0.5"),
        ("teachers.adapter=lora",),
        ("student.feature_weight=0.5", "student.contrastive.weight=0.5"),
        ("soft_labels.calibration=contextual", "soft_labels.weighting=out_of_fold"),
        ("generations={count: 1}", "teachers.dropout=0.1", "teachers.r_drop_weight=0.5"),
        ("data.train=null", "student.hard_weight=0"),
        ("baselines=[zero_shot, supervised]",),
        ("label_kind=multi",),
    ],
    ids=lambda asked: " ".join(asked)[:60],
)
def test_what_else_can_be_asked_for(asked: tuple[str, ...], causal_task: Folder, tmp_path: Path) -> None:
    result = run_task(causal_task("gpt2"), tmp_path / "run", *QUICK, *asked)
    assert result.metrics is not None and np.isfinite(result.metrics["student"]["nll"])


def test_words_of_several_tokens_after_the_longest_rows(causal_task: Folder) -> None:
    """The row and its answer fill the model's 64 positions; padding takes none."""
    task = Task.checked(load(causal_task("gpt2"), LONG, "max_length=64"))
    (row,) = task.pvps[0].encode_texts([{"text": "game " * 100}], task.tokenizer)
    scorer = scorer_of(load_language_model(task.spec.model), task.pvps[0]).eval()
    logits = label_logits(scorer, [row], task.tokenizer, Device("cpu", "float32", 1), 4096)
    assert len(row.ids) == 61 and logits.shape == (1, 3)


def test_soft_tokens(tmp_path: Path, model_folder: Folder) -> None:
    path = write_task(tmp_path / "task", model_folder("llama"), patterns={"soft": "{soft:2} {text} {soft:1} {mask}"})
    result = run_task(path, tmp_path / "run", *QUICK)
    assert result.metrics is not None
    assert Predictor.load(result.folder, teachers=True).logits(["the game"]).shape == (1, 3)


def test_two_fields(tmp_path: Path, model_folder: Folder) -> None:
    patterns = {"pair": "{first} and {second} is {mask}"}
    path = write_task(tmp_path / "task", model_folder("qwen2"), fields=("first", "second"), patterns=patterns)
    result = run_task(path, tmp_path / "run", *QUICK)
    row = {"first": "the game", "second": "very good"}
    predictor = Predictor.load(result.folder)
    # One text of two lines: Qwen2's tokenizer would put the fields side by side.
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = result.folder / "stage_c" / "model"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**tokenizer("the game\nvery good", return_tensors="pt")).logits
    np.testing.assert_allclose(predictor.logits([row]), expected.numpy(), atol=1e-5)


def test_untrained_patterns_and_the_check(causal_task: Folder) -> None:
    shown = zero_shot(load(causal_task("llama")))
    assert set(shown.patterns) == set(PATTERNS) and set(shown.ensemble.accuracy["test"]) == {"raw", "contextual", "batch"}
    view = check_pipeline(load(causal_task("llama"))).patterns[0]
    assert view.rendered[0].endswith("category: ___") and view.tokens.endswith("▁category :")


# -- next_token --------------------------------------------------------------------------------------


@every_architecture
@pytest.mark.parametrize("several", [False, True])
def test_next_token_is_the_loss_of_transformers(arch: str, several: bool, causal_task: Folder) -> None:
    task = Task.checked(
        load(causal_task(arch), "teachers.loss=next_token", *((LONG,) if several else ("verbalizer.labels.Sports=[sports]",)))
    )
    pvp, device = task.pvps[0], Device("cpu", "float32", 1)
    encoded = [pvp.encode(tokens) for tokens in task.tokens("train")]
    targets = torch.from_numpy(task.targets())
    data = TrainingRows(encoded, targets)
    objective = TeacherObjective(task.spec.teachers, pvp, data, task.labels, task.tokenizer, device)
    model = load_language_model(task.spec.model)
    numbers = np.array([0, 4, 7, 2])
    scorer = scorer_of(model, pvp)
    set_dropout(model, 0.0)
    found = objective(scorer.train(), StepRows(numbers, None, np.random.default_rng([1, 1])))

    plain, random = load_language_model(task.spec.model), np.random.default_rng([1, 1])
    total, count = 0.0, 0
    for number in numbers:
        words = pvp.words.token_ids[int(targets[number])]
        word = words[int(random.integers(len(words)))]
        ids = torch.tensor([[*encoded[number].ids.tolist(), *word]])
        labels = torch.where(torch.arange(ids.shape[1]) < len(encoded[number].ids), -100, ids)
        with torch.no_grad():
            total += plain(input_ids=ids, labels=labels).loss.item() * len(word)
        count += len(word)
    assert count > len(numbers) if several else count == len(numbers)
    assert found.item() == pytest.approx(total / count, rel=1e-5)
    found.backward()
    assert all(value.grad is not None for value in model.parameters())


# -- refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reported"),
    [
        ("teachers.auxiliary_mlm_weight=0.1", "teachers.auxiliary_mlm_weight: needs a masked language model, and"),
        ("teachers.label_conditioning_weight=0.1", "teachers.label_conditioning_weight: needs a masked language model, and"),
        ("teachers.consistency.kind=word_masking", "teachers.consistency.kind: word_masking needs a masked language model"),
        ("teachers.contrastive={partners: masked_view, weight: 1}", "teachers.contrastive.partners: masked_view needs a masked"),
        (LONG.replace("multi_token", "decoding: max_first, multi_token"), "verbalizer.decoding: max_first needs a masked"),
        ("student.consistency_weight=1", "student.consistency_weight: hides tokens behind a mask, and"),
        ("baselines=[setfit]", "baselines: setfit needs an encoder"),
    ],
)
def test_what_needs_a_mask_is_refused(asked: str, reported: str, causal_task: Folder) -> None:
    with pytest.raises(InvalidInput) as raised:
        Task.checked(load(causal_task("gpt2"), asked))
    (line,) = str(raised.value).splitlines()
    assert reported in line


@pytest.mark.parametrize("text", ["{mask}: {text}", "{text} it is {mask}.", ["{text}", "it is {mask}"]])
def test_the_slot_must_be_last(text: str | list[str], causal_task: Folder, tmp_path: Path) -> None:
    path = tmp_path / "task" / "pipeline.yaml"
    shutil.copytree(causal_task("gpt2").parent, path.parent, ignore=shutil.ignore_patterns("run"))
    data = yaml.safe_load(path.read_text())
    data["patterns"][0]["text"] = text
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(InvalidInput) as raised:
        Task.checked(load(path))
    (line,) = str(raised.value).splitlines()
    assert line.endswith("pattern 'category': with a causal model the slot must be last (write one text that ends with {mask})")


def test_next_token_needs_a_causal_model(tmp_path: Path, model_folder: Folder) -> None:
    with pytest.raises(InvalidInput, match=r"teachers.loss: next_token is for causal models, and .+ is a masked one"):
        Task.checked(load(write_task(tmp_path / "task", model_folder("bert")), "teachers.loss=next_token"))


@pytest.mark.parametrize(
    ("asked", "reported"),
    [
        ("teachers.label_smoothing=0.1", "changes the cross-entropy, and loss is next_token"),
        ("teachers.consistency.kind=second_pattern", "compares answers of all labels, and loss is next_token"),
        ("teachers.contrastive.weight=1", "compares answers of all labels, and loss is next_token"),
        ("verbalizer.kind=soft", "next_token needs words, and verbalizer.kind is soft"),
        ("label_kind=multi", "next_token is about one label per row"),
    ],
)
def test_what_next_token_does_not_go_with(asked: str, reported: str, causal_task: Folder) -> None:
    with pytest.raises(InvalidInput, match=reported):
        Task.checked(load(causal_task("gpt2"), "teachers.loss=next_token", asked))
