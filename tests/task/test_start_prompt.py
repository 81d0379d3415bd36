"""Pipelines that start from a pretrained prompt: that they really do, what makes them stale, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from petkit.config.schema.adapter import LoraSpec, PromptTuningSpec
from petkit.engine.device import Device
from petkit.errors import InvalidInput, ModelRefused
from petkit.events import Event, StepFinished
from petkit.models.adapters.attach import attach, start_from_folder
from petkit.models.adapters.base import read_adapter
from petkit.models.batch import collate
from petkit.models.loading import load_masked_lm
from petkit.predict.predictor import Predictor
from petkit.task.task import Task
from petkit.teachers.models import scorer_of, teacher_models
from tests.pretraining import prompt_task
from tests.pretraining.prompt_task import TOKENS
from tests.tiny_task import load, planned, run_task, write_task

Folder = Callable[[str], Path]
START = "teachers.adapter={kind: prompt_tuning, start: prompt}"
STUDENT_START = "student.adapter={kind: prompt_tuning, start: prompt/prompt}"
DEVICE = Device("cpu", "float32", 1)
QUICK = ("teachers.seeds=[1]", "teachers.steps=1", "student.steps=1", "student.hard_weight=0.0")
# Training that changes nothing that can be seen.
STILL = ("learning_rate: 1.0e-30", "weight_decay=0.0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Path:
    """A task, and beside it a prompt for its model; nobody changes them."""
    folder = tmp_path_factory.mktemp("made")
    model = prompt_task.wide_awake(model_folder("bert"), folder / "model")
    prompt_task.make(prompt_task.write(folder / "texts", model), folder / "prompt")
    write_task(folder / "task", model)
    return folder


@pytest.fixture
def pipeline_file(made: Path, here: Path) -> Path:
    """A copy to change; the pipeline file."""
    for name in ("task", "prompt"):
        shutil.copytree(made / name, here / name)
    return here / "task" / "pipeline.yaml"


def vectors(folder: Path) -> torch.Tensor:
    return read_adapter(folder)["prompt_embeddings"]


def refused(pipeline_file: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        run_task(pipeline_file, Path("run"), *overrides)
    assert not Path("run").exists()
    return str(error.value).splitlines()


# -- it starts from there ----------------------------------------------------------------------------------


def test_the_first_answers_are_those_of_the_prompt(pipeline_file: Path) -> None:
    task = Task.checked(load(pipeline_file, START))
    adapter = task.spec.teachers.adapted
    assert isinstance(adapter, PromptTuningSpec) and adapter.tokens == TOKENS
    pvp = task.pvps[0]
    batch = collate([pvp.encode(tokens) for tokens in task.tokens("train")], task.tokenizer)

    def first_logits(spec: PromptTuningSpec) -> torch.Tensor:
        torch.manual_seed(1)
        with torch.no_grad(), teacher_models(task.spec.model, spec, DEVICE).new(pvp) as scorer:
            answer: torch.Tensor = scorer(batch)
            return answer

    model = load_masked_lm(task.spec.model, DEVICE.training_attention)
    attach(model, PromptTuningSpec(kind="prompt_tuning", tokens=TOKENS)).put(read_adapter(Path("prompt/prompt")), "prompt")
    with torch.no_grad():
        wanted = scorer_of(model, pvp)(batch)

    assert torch.equal(first_logits(adapter), wanted)
    random = first_logits(adapter.model_copy(update={"start": None}))
    assert not torch.allclose(random, wanted, atol=0.01)


@pytest.mark.parametrize("start", [START, START.replace("start: prompt", "start: prompt/prompt")])
def test_teachers_and_student_of_a_run_start_from_it(start: str, pipeline_file: Path, here: Path) -> None:
    still = [override.replace("}", ", learning_rate: 1.0e-30}") for override in (start, STUDENT_START)]
    decay = ("teachers.weight_decay=0.0", "student.weight_decay=0.0")
    run_task(pipeline_file, here / "run", *still, *QUICK, *decay)
    pretrained = vectors(here / "prompt" / "prompt")

    for part in ("stage_a/colon-1/model", "stage_a/brackets-1/model", "stage_c/model"):
        assert torch.equal(vectors(here / "run" / part), pretrained)


def test_the_finished_run_needs_the_prompt_no_more(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", START, STUDENT_START, *QUICK)
    reported = [Predictor.load(here / "run", teachers=teachers)(["a game"])[0].probabilities for teachers in (False, True)]
    shutil.rmtree(here / "prompt")

    again = [Predictor.load(here / "run", teachers=teachers)(["a game"])[0].probabilities for teachers in (False, True)]
    assert again == reported
    for kept in ("stage_a/colon-1/model/teacher.json", "stage_c/model/petkit.json"):
        assert "start" not in json.loads((here / "run" / kept).read_text())["adapter"]


def test_later_generations_start_from_it(pipeline_file: Path, here: Path) -> None:
    still = (START.replace("}", ", learning_rate: 1.0e-30}"), "teachers.weight_decay=0.0", "generations.count=1")
    run_task(pipeline_file, here / "run", *still, *QUICK, stages=("a",))
    models = sorted((here / "run" / "stage_a").glob("*/model"))

    assert len(models) == 4
    assert all(torch.equal(vectors(model), vectors(here / "prompt" / "prompt")) for model in models)


def test_a_start_leaves_a_new_head_as_it_was_drawn(pipeline_file: Path) -> None:
    spec = PromptTuningSpec(kind="prompt_tuning", tokens=TOKENS, start="prompt/prompt")
    model = load_masked_lm(Task.checked(load(pipeline_file)).spec.model)
    head = ["cls.predictions.transform.dense.weight"]
    before = dict(model.named_parameters())[head[0]].detach().clone()
    adapter = attach(model, spec, head=head)
    start_from_folder(adapter, spec)

    assert torch.equal(dict(model.named_parameters())[head[0]], before)
    assert torch.equal(adapter.own_state()["prompt_embeddings"], vectors(Path("prompt/prompt")))
    start_from_folder(attach(load_masked_lm("embedded"), lora := LoraSpec(kind="lora")), lora)  # nothing to do


# -- what it makes stale -----------------------------------------------------------------------------------


def test_another_prompt_makes_teachers_and_student_stale(pipeline_file: Path, here: Path, made: Path) -> None:
    run_task(pipeline_file, here / "run", START, STUDENT_START, *QUICK)
    assert {entry.action for entry in planned(pipeline_file, here / "run", START, STUDENT_START, *QUICK).values()} == {"skip"}
    (here / "prompt").rename(here / "moved")
    moved = [override.replace("start: prompt", "start: moved") for override in (START, STUDENT_START)]
    assert {entry.action for entry in planned(pipeline_file, here / "run", *moved, *QUICK).values()} == {"skip"}

    prompt_task.make(made / "texts" / "pipeline.yaml", here / "prompt", "seed=2", "steps=2")
    stale = {
        step: entry.why
        for step, entry in planned(pipeline_file, here / "run", START, STUDENT_START, *QUICK).items()
        if entry.action == "stale"
    }
    assert stale == {
        "stage_a/colon-1/model": "stale: teachers.adapter.start changed",
        "stage_a/brackets-1/model": "stale: teachers.adapter.start changed",
        "stage_c/model": "stale: student.adapter.start changed",
    }
    without = START.replace("start: prompt", f"tokens: {TOKENS}")
    reported = planned(pipeline_file, here / "run", without, STUDENT_START, *QUICK)["stage_a/colon-1/model"]
    assert reported.why == "stale: teachers.adapter.start removed"


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["teachers", "student"])
@pytest.mark.parametrize(
    ("harm", "reported"),
    [
        (lambda folder: shutil.rmtree(folder), "prompt: no such folder (petkit pretrain-prompt makes one)"),
        (
            lambda folder: shutil.rmtree(folder / "prompt"),
            "prompt: contains no pretrained prompt (petkit pretrain-prompt makes one)",
        ),
        (
            lambda folder: (shutil.rmtree(folder / "prompt"), (folder / "checkpoints").mkdir()),
            "prompt: is not finished (petkit pretrain-prompt makes one)",
        ),
        (
            lambda folder: (folder / "prompt" / "petkit.json").write_text("{"),
            "prompt: contains no pretrained prompt, or its petkit.json is damaged",
        ),
        (
            lambda folder: (folder / "prompt" / "petkit.json").write_text('{"kind": "student"}'),
            "prompt: contains no pretrained prompt, or its petkit.json is damaged",
        ),
        (
            lambda folder: (folder / "prompt" / "adapter_config.json").unlink(),
            "prompt/prompt: adapter_config.json is missing or damaged: ",
        ),
        (
            lambda folder: (folder / "prompt" / "adapter_model.safetensors").write_bytes(b"half"),
            "prompt/prompt: adapter_model.safetensors is missing or damaged: ",
        ),
        (
            lambda folder: flip_last_bit(folder / "prompt" / "adapter_model.safetensors"),
            "prompt: adapter_model.safetensors has changed since it was made (make the prompt again)",
        ),
    ],
)
def test_a_folder_that_cannot_be_used(
    section: str, harm: Callable[[Path], object], reported: str, pipeline_file: Path, here: Path
) -> None:
    harm(here / "prompt")
    start = START.replace("teachers", section)

    (line,) = refused(pipeline_file, start)
    assert line.startswith(f"--set {start}: {section}.adapter.start: {reported}")


def flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_prompt_for_another_model(pipeline_file: Path, here: Path, model_folder: Folder) -> None:
    other = shutil.copytree(model_folder("bert"), here / "other")

    (line,) = refused(pipeline_file, START, "model=other")
    assert line.startswith(f"--set {START}: teachers.adapter.start: prompt: the prompt was made for ")
    assert line.endswith("model, not for other (make one for this model)")
    (line,) = refused(pipeline_file, STUDENT_START, "student.model=other")
    assert "student.adapter.start: prompt/prompt: the prompt was made for " in line

    state = load_file(other / "model.safetensors")
    save_file({name: value + 1 for name, value in state.items()}, other / "model.safetensors", {"format": "pt"})
    about = json.loads((here / "prompt" / "prompt" / "petkit.json").read_text())
    (here / "prompt" / "prompt" / "petkit.json").write_text(json.dumps({**about, "base": str(other)}))
    (line,) = refused(pipeline_file, START, "model=other")
    assert line.endswith("prompt: the prompt was made for other, with earlier weights (make one for this model)")


def test_a_model_that_is_not_there_is_reported_once(pipeline_file: Path) -> None:
    (line,) = refused(pipeline_file, START, "model=./nowhere")
    assert "model: nowhere: no such model folder" in line


def test_another_number_of_tokens(pipeline_file: Path) -> None:
    (line,) = refused(pipeline_file, START.replace("}", ", tokens: 5}"))
    assert line.endswith(f"teachers.adapter.tokens: 5 virtual tokens, and prompt contains {TOKENS} (leave tokens out)")
    spec = Task.checked(load(pipeline_file, START.replace("}", f", tokens: {TOKENS}}}"))).spec
    assert spec.teachers.adapter.tokens == TOKENS


def test_another_kind_of_adapter(pipeline_file: Path) -> None:
    for kind in ("lora", "ia3", "p_tuning_v1", "p_tuning_v2", "none"):
        with pytest.raises(InvalidInput) as error:
            load(pipeline_file, START.replace("prompt_tuning", kind))
        (line,) = str(error.value).splitlines()
        assert line.endswith("teachers.adapter.start: only prompt_tuning starts from a folder (set kind: prompt_tuning)")


def test_an_adapter_folder_that_is_not_a_pretrained_prompt(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", "teachers.adapter={kind: lora}", *QUICK, stages=("a",))
    with pytest.raises(InvalidInput, match=r"start: run/stage_a/colon-1/model: contains no pretrained prompt \("):
        Task.checked(load(pipeline_file, START.replace("start: prompt", "start: run/stage_a/colon-1/model")))


def test_a_prompt_that_vanishes_later(pipeline_file: Path) -> None:
    spec = Task.checked(load(pipeline_file, START)).spec
    shutil.rmtree("prompt")
    adapter = spec.teachers.adapted
    assert adapter is not None
    with pytest.raises(ModelRefused, match=r"^prompt/prompt: adapter_config.json is missing"):
        start_from_folder(attach(load_masked_lm(spec.model), adapter), adapter)


@pytest.mark.parametrize(
    ("start", "until", "unmade"), [(START, "stage_a/colon-1/model", "stage_a/brackets-1"), (STUDENT_START, "stage_b", "stage_c")]
)
def test_a_prompt_that_is_replaced_later(
    start: str, until: str, unmade: str, pipeline_file: Path, here: Path, made: Path
) -> None:
    """Another sound prompt for the same model is not the one that the steps say they start from."""
    prompt_task.make(made / "texts" / "pipeline.yaml", here / "other", "seed=2", "steps=2")

    def replace_prompt(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == until:
            shutil.rmtree(here / "prompt")
            (here / "other").rename(here / "prompt")

    with pytest.raises(ModelRefused) as error:
        run_task(pipeline_file, here / "run", start, *QUICK, on_event=replace_prompt)
    reported = "adapter_model.safetensors has changed since it was checked (run the command again)"
    assert str(error.value) == f"prompt/prompt: {reported}"
    assert (here / "run" / until / "step.json").is_file() and not (here / "run" / unmade).exists()


def test_the_folder_belongs_to_the_file_that_names_it(pipeline_file: Path, here: Path) -> None:
    written = yaml.safe_load(pipeline_file.read_text())
    written["teachers"]["adapter"] = {"kind": "prompt_tuning", "start": "../prompt"}
    pipeline_file.write_text(yaml.safe_dump(written))

    adapter = load(pipeline_file).spec.teachers.adapter
    assert isinstance(adapter, PromptTuningSpec) and adapter.start == str(here / "prompt")
    for override in ("teachers.adapter.start=prompt", START):  # and this to the current folder
        adapter = load(pipeline_file, override).spec.teachers.adapter
        assert isinstance(adapter, PromptTuningSpec) and adapter.start == str(here / "prompt")
