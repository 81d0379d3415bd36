"""``petkit adapt``: what it makes, what it needs and does not need, and that a kill costs nothing but time."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import yaml

from petkit.errors import InvalidInput, RunConflict
from petkit.events import Event, Notice, Progress, StepFinished, StepSkipped, StepStarted
from petkit.models.loading import load_masked_lm, load_tokenizer, model_fingerprint
from petkit.pretraining.adapt import Adapted, adapt
from petkit.prompts.token_store import TokenStore
from petkit.runs.store import RunStore
from tests.tiny_task import LABEL_WORDS, load, rows, write_rows

Folder = Callable[[str], Path]
SHORT = ("adapt.steps=10", "adapt.batch_size=8", "adapt.dropout=0.1", "adapt.learning_rate=0.003")
PATIENCE = 60.0  # seconds
pytestmark = pytest.mark.usefixtures("every_third_step")


class Killed(Exception):
    """Stands for the end of the process."""


def write(folder: Path, model: Path, fields: tuple[str, ...] = ("text",), count: int = 60, **changes: Any) -> Path:
    """Write a task without labelled rows; return the pipeline's path."""
    folder.mkdir(exist_ok=True)
    write_rows(folder / "unlabeled.jsonl", [{field: row[field] for field in fields} for row in rows(count, 3, fields)])
    pipeline = {
        "task": "topics",
        "data": {"unlabeled": "unlabeled.jsonl"},
        "patterns": [{"id": "all", "text": "{mask}: " + " ".join(f"{{{field}}}" for field in fields)}],
        "verbalizer": {"labels": LABEL_WORDS},
        "model": str(model),
        "max_length": 32,
        "compute": {"device": "cpu", "precision": "float32", "threads": 1, "checkpoint_minutes": 0},
        **changes,
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return folder / "pipeline.yaml"


@pytest.fixture
def pipeline_file(here: Path, model_folder: Folder) -> Path:
    """A pipeline whose files a test may change."""
    return write(here / "task", model_folder("bert"))


def run(pipeline_file: Path, folder: Path, *overrides: str, killed_at: int = 0) -> tuple[Adapted, list[Event]]:
    heard: list[Event] = []

    def on_event(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.done == killed_at:
            raise Killed

    return adapt(load(pipeline_file, *SHORT, *overrides), folder, on_event=on_event), heard


def kill(pipeline_file: Path, folder: Path, step: int, *overrides: str) -> None:
    with pytest.raises(Killed):
        run(pipeline_file, folder, *overrides, killed_at=step)


def made(folder: Path) -> Mapping[str, bytes]:
    """Return the model's files but the record of when and where."""
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir()) if path.name != "step.json"}


def notices(heard: list[Event]) -> list[str]:
    return [event.message for event in heard if isinstance(event, Notice)]


def steps_done(heard: list[Event]) -> list[int]:
    return [event.done for event in heard if isinstance(event, Progress)]


def kept(folder: Path) -> list[str]:
    return sorted(entry.name for entry in (folder / "checkpoints" / "model").iterdir())


# -- what it makes -------------------------------------------------------------------------------------


def test_a_model_that_guesses_held_out_words_better(pipeline_file: Path, here: Path, model_folder: Folder) -> None:
    adapted, heard = run(pipeline_file, here / "out", "adapt.steps=40", "adapt.dropout=0.0", "adapt.learning_rate=0.01")
    facts = adapted.facts
    assert adapted.folder == here / "out" / "model" and adapted.ran
    assert " ".join(facts) == "rows held_out_rows loss_before loss_after perplexity_before perplexity_after seconds"
    assert (facts["rows"], facts["held_out_rows"]) == (57, 3)
    assert facts["perplexity_before"] == math.exp(facts["loss_before"]) > 50  # of 120 tokens, by chance
    assert facts["perplexity_after"] == math.exp(facts["loss_after"]) < 25  # of 15 words
    assert notices(heard) == []
    assert [type(event) for event in heard if isinstance(event, StepStarted | StepFinished)] == [StepStarted, StepFinished]
    assert model_fingerprint(str(adapted.folder)) != model_fingerprint(str(model_folder("bert")))
    assert load_masked_lm(str(adapted.folder)).config.model_type == "bert"
    assert load_tokenizer(str(adapted.folder)).mask_id == load_tokenizer(str(model_folder("bert"))).mask_id
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        ".lock", "config.resolved.yaml", "events.jsonl", "manifest.json", "model",
    ]  # fmt: skip


def test_a_model_that_learns_nothing_is_reported(pipeline_file: Path, here: Path) -> None:
    _, heard = run(pipeline_file, here / "out", "adapt.learning_rate=1e-30", "adapt.weight_decay=0.0")
    assert notices(heard) == [
        "the model guesses the hidden words of held-out texts no better than before (lower adapt.learning_rate)"
    ]


@pytest.mark.parametrize(
    ("arch", "fields"),
    [
        ("roberta", ("text",)),
        ("modernbert", ("premise", "hypothesis")),
        ("deberta-v2", ("text",)),
        ("albert", ("title", "lead", "body")),
    ],
)
def test_any_model_and_any_fields(arch: str, fields: tuple[str, ...], here: Path, model_folder: Folder) -> None:
    pipeline_file = write(here / "task", model_folder(arch), fields, count=24)
    adapted, _ = run(pipeline_file, here / "out", "adapt.steps=3", "compute.precision=bfloat16")
    assert math.isfinite(adapted.facts["loss_after"]) and load_masked_lm(str(adapted.folder)) is not None


def test_many_rows_lie_on_disk_while_they_are_read(here: Path, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path | None] = []
    build = TokenStore.build.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(TokenStore, "build", classmethod(lambda cls, *rest: folders.append(rest[-1]) or build(cls, *rest)))
    write(here / "task", model_folder("bert"), count=60)
    write_rows(here / "task" / "unlabeled.jsonl", [{"text": "a game"}] * 10_001)
    adapted, _ = run(here / "task" / "pipeline.yaml", here / "out", "adapt.steps=2")
    assert folders == [here / "out" / ".work" / "tokens"]
    assert adapted.facts["held_out_rows"] == 501 and not (here / "out" / ".work").exists()


def test_the_pipeline_takes_the_adapted_model(pipeline_file: Path, here: Path) -> None:
    run(pipeline_file, here / "first", "adapt.steps=2")
    again, _ = run(pipeline_file, here / "second", "adapt.steps=2", "model=first/model")
    inputs = json.loads((again.folder / "step.json").read_text())["inputs"]
    assert inputs["model"] == model_fingerprint(str(here / "first" / "model"))


def test_neither_labels_nor_label_words_are_needed(pipeline_file: Path, here: Path) -> None:
    """The pipeline names no train file; these words are no single tokens of the model."""
    adapted, _ = run(pipeline_file, here / "out", "verbalizer.labels={one: [unheard], two: [unknowable]}", "adapt.steps=2")
    assert adapted.ran


# -- again ---------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_done_again(pipeline_file: Path, here: Path) -> None:
    first, _ = run(pipeline_file, here / "out")
    before = {path: path.stat().st_mtime_ns for path in (here / "out" / "model").iterdir()}
    second, heard = run(
        pipeline_file, here / "out", "compute.checkpoint_minutes=5", "compute.tokens_per_batch=100", "teachers.steps=3"
    )
    assert (first.ran, second.ran) == (True, False) and second.facts == first.facts
    assert heard == [StepSkipped("model")]
    assert {path: path.stat().st_mtime_ns for path in (here / "out" / "model").iterdir()} == before


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("adapt.steps=11", "adapt.steps 10 → 11"),
        ("adapt.mlm_share=0.3", "adapt.mlm_share 0.15 → 0.3"),
        ("max_length=30", "max_length 32 → 30"),
        ("data.unlabeled=other.jsonl", "data.unlabeled changed"),
    ],
)
def test_a_model_made_by_other_settings_is_not_replaced(override: str, why: str, pipeline_file: Path, here: Path) -> None:
    write_rows(here / "other.jsonl", rows(30, 4))
    run(pipeline_file, here / "out")
    before = made(here / "out")
    with pytest.raises(RunConflict) as refused:
        run(pipeline_file, here / "out", override)
    assert str(refused.value) == (
        f"out: made with other settings: {why} (choose another --out, or delete the folder to replace it)"
    )
    assert made(here / "out") == before


def test_a_damaged_model_is_made_again(pipeline_file: Path, here: Path) -> None:
    run(pipeline_file, here / "out")
    before = made(here / "out")
    (here / "out" / "model" / "model.safetensors").unlink()
    again, _ = run(pipeline_file, here / "out")
    assert again.ran and made(here / "out") == before


def test_a_run_folder_is_left_alone(pipeline_file: Path, here: Path) -> None:
    (here / "run").mkdir()
    RunStore(here / "run").write_manifest({"task": "topics", "labels": ["a", "b"]})
    with pytest.raises(RunConflict, match=r"^run: contains a run, not an adapted model \(choose another --out\)$"):
        run(pipeline_file, here / "run")
    assert [path.name for path in (here / "run").iterdir()] == ["manifest.json"]


def test_it_goes_on_in_the_precision_it_began_with(pipeline_file: Path, here: Path) -> None:
    kill(pipeline_file, here / "out", 4, "compute.precision=bfloat16")
    adapted, heard = run(pipeline_file, here / "out", "compute.precision=auto")
    assert "resumes after 3 steps" in notices(heard)
    assert json.loads((adapted.folder / "step.json").read_text())["inputs"]["precision"] == "bfloat16"


# -- killed --------------------------------------------------------------------------------------------


@pytest.fixture
def undisturbed(pipeline_file: Path, here: Path) -> Mapping[str, bytes]:
    """What an adaptation makes that nobody disturbs."""
    run(pipeline_file, here / "undisturbed")
    return made(here / "undisturbed")


def test_interrupted_and_resumed_is_undisturbed(pipeline_file: Path, here: Path, undisturbed: Mapping[str, bytes]) -> None:
    folder = here / "out"
    kill(pipeline_file, folder, 2)
    assert not (folder / "checkpoints").exists() and not (folder / "model").exists()
    kill(pipeline_file, folder, 8)
    assert kept(folder) == ["00000006"] and not (folder / ".work").exists()
    adapted, heard = run(pipeline_file, folder)
    assert steps_done(heard) == [7, 8, 9, 10]
    assert notices(heard)[0] == "resumes after 6 steps"
    assert made(folder) == undisturbed
    assert not (folder / "checkpoints").exists()
    whole, _ = run(pipeline_file, here / "undisturbed")
    assert {**adapted.facts, "seconds": 0} == {**whole.facts, "seconds": 0}


def test_how_often_the_state_is_kept_changes_nothing(pipeline_file: Path, here: Path, undisturbed: Mapping[str, bytes]) -> None:
    run(pipeline_file, here / "out", "compute.checkpoint_minutes=1000")
    assert made(here / "out") == undisturbed


@pytest.mark.parametrize("bytes_left", [0, 5_000])
def test_a_truncated_checkpoint_is_ignored(
    bytes_left: int, pipeline_file: Path, here: Path, undisturbed: Mapping[str, bytes]
) -> None:
    folder = here / "out"
    kill(pipeline_file, folder, 8)
    state = folder / "checkpoints" / "model" / "00000006" / "state.safetensors"
    size = state.stat().st_size
    state.write_bytes(state.read_bytes()[:bytes_left])
    _, heard = run(pipeline_file, folder)
    reported = f"the checkpoint of 6 steps is not used: state.safetensors has {bytes_left} bytes instead of {size}"
    assert notices(heard)[0] == reported
    assert steps_done(heard) == list(range(1, 11))
    assert made(folder) == undisturbed


@pytest.mark.parametrize(("override", "why"), [("adapt.seed=2", "adapt.seed 1 → 2"), ("adapt.steps=12", "adapt.steps 10 → 12")])
def test_changed_settings_do_not_go_on_from_old_ones(override: str, why: str, pipeline_file: Path, here: Path) -> None:
    folder = here / "out"
    kill(pipeline_file, folder, 5)
    _, heard = run(pipeline_file, folder, override)
    assert notices(heard)[0] == f"the checkpoint of 3 steps is not used: made with other settings: {why}"
    assert steps_done(heard)[0] == 1 and not (folder / "checkpoints").exists()
    run(pipeline_file, here / "fresh", override)
    assert made(folder) == made(here / "fresh")


def run_until(pipeline_file: str, folder: str, says: Connection, step: int) -> None:
    """Adapt in this process; stop after a step and wait to be killed."""

    def on_event(event: Event) -> None:
        if isinstance(event, Progress) and event.done == step:
            says.send("here")
            time.sleep(2 * PATIENCE)

    adapt(load(Path(pipeline_file), *SHORT), folder, on_event=on_event)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_by_the_system(pipeline_file: Path, here: Path, undisturbed: Mapping[str, bytes]) -> None:
    folder = here / "out"
    hears, says = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=run_until, args=(str(pipeline_file), str(folder), says, 5), daemon=True
    )
    process.start()
    try:
        assert hears.poll(PATIENCE), "it did not come that far"
        with pytest.raises(RunConflict, match="in use by another process"):
            run(pipeline_file, folder)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert kept(folder) == ["00000005"] and (folder / ".work").exists()
    _, heard = run(pipeline_file, folder)
    assert steps_done(heard)[0] == 6
    assert made(folder) == undisturbed and not (folder / ".work").exists()


def refused(pipeline_file: Path, here: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        run(pipeline_file, here / "out", *overrides)
    assert not (here / "out").exists()
    return str(error.value).splitlines()


def test_mistakes_are_reported_together(pipeline_file: Path, here: Path, model_folder: Folder) -> None:
    (pipeline_file.parent / "unlabeled.jsonl").write_text("")
    broken = Path(shutil.copytree(model_folder("bert"), here / "broken"))
    (broken / "model.safetensors").write_bytes(b"")
    model, data = refused(pipeline_file, here, "model=broken")
    assert "model: broken: the weights are damaged" in model
    assert data == "task/unlabeled.jsonl: the file contains no rows"


@pytest.mark.parametrize(
    ("overrides", "reported"),
    [
        (("data.unlabeled=nowhere.jsonl",), "--set data.unlabeled=nowhere.jsonl: data.unlabeled: nowhere.jsonl: no such file"),
        (("max_length=65",), "--set max_length=65: max_length: 65 tokens are more than "),
        (("data.columns={text: body}",), "task/unlabeled.jsonl: body: missing, in all 60 rows (known: text"),
    ],
)
def test_a_mistake(overrides: tuple[str, ...], reported: str, pipeline_file: Path, here: Path) -> None:
    assert refused(pipeline_file, here, *overrides)[0].startswith(reported)


def test_one_row_is_not_enough_to_learn_and_check(pipeline_file: Path, here: Path) -> None:
    write_rows(pipeline_file.parent / "unlabeled.jsonl", rows(1, 1))
    assert refused(pipeline_file, here) == ["task/unlabeled.jsonl: contains one row only; adapting needs another to hold out"]
    write_rows(pipeline_file.parent / "unlabeled.jsonl", rows(2, 1))
    facts = run(pipeline_file, here / "out")[0].facts
    assert (facts["rows"], facts["held_out_rows"]) == (1, 1)


def test_a_model_without_a_mask(pipeline_file: Path, here: Path, model_folder: Folder) -> None:
    folder = Path(shutil.copytree(model_folder("bert"), here / "maskless"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    (reported,) = refused(pipeline_file, here, "model=maskless")
    assert "model: maskless: a 'gpt2' model has no masked-LM form (use a BERT-like encoder)" in reported
