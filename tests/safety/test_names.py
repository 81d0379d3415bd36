"""Names that become part of a path, and paths that a run folder names: nothing leads out of the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.commands.init_project import create_project
from petkit.config.loader import load_pipeline
from petkit.errors import IncompleteRun, InvalidInput, RunConflict
from petkit.events import ignore
from petkit.runs.checkpoint import StepParts
from petkit.runs.layout import STUDENT
from petkit.runs.store import RunStore
from petkit.storage.checksum import json_with_checksum
from tests.cli import project
from tests.cli.conftest import Outcome

HOSTILE = (
    "../x", "a/b", "a\\b", "/x", "..", ".", "", ".hidden", "CON", "con", "nul", "com1", "a" * 65, "a\x00b", "a\nb", "a\n",
    "a b", "аb", "ﬁ", "-rf", "~", "$HOME", "a:b", "a.", "é", "１",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_task_names_are_refused(name: str, tiny: Path) -> None:
    with pytest.raises(InvalidInput, match="task: ") as refused:
        load_pipeline("pipeline.yaml", [f"task={json.dumps(name)}"])

    assert len(refused.value.problems) == 1


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_pattern_ids_are_refused(name: str, tiny: Path) -> None:
    patterns = [{"id": name, "text": "{mask}: {text}"}]

    with pytest.raises(InvalidInput) as refused:
        load_pipeline("pipeline.yaml", [f"patterns={json.dumps(patterns)}"])

    assert len(refused.value.problems) == 1 and "patterns.0.id" in str(refused.value)


@pytest.mark.parametrize("name", ["ag-news", "a", "0", "con-1", "a_b", "a" * 64])
def test_plain_names_are_accepted(name: str, tiny: Path) -> None:
    assert load_pipeline("pipeline.yaml", [f"task={json.dumps(name)}"]).spec.task == name


def test_hostile_task_name_by_the_command(tiny: Path, petkit_command: Callable[..., Outcome]) -> None:
    # Only the names beside the project: other tests' folders there hold links to themselves.
    before = project.snapshot(tiny), {*tiny.parent.iterdir()}

    answer = petkit_command("run", "pipeline.yaml", "--set", 'task="../../x"')

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1 and "task: must be small letters" in answer.err
    assert (project.snapshot(tiny), {*tiny.parent.iterdir()}) == before


def test_hostile_labels_become_no_paths(tiny: Path, petkit_command: Callable[..., Outcome]) -> None:
    """A label may be any text; files are called after tasks, patterns and seeds alone."""
    labels = ("../../up", "/etc/x")
    rows = [{"text": text, "label": labels[label == "World"]} for text, label in project.TRAIN]
    (tiny / "train.jsonl").write_text(project.json_lines(rows), encoding="utf-8")
    (tiny / "verbalizer.yaml").write_text(f"labels:\n  {labels[0]}: [sports]\n  {labels[1]}: [world]\n", encoding="utf-8")

    answer = petkit_command("run", "pipeline.yaml", "--out", "run", "--set", "data.test=null")

    assert answer.code == 0, answer.err
    made = {path.relative_to(tiny / "run").parts[0] for path in (tiny / "run").rglob("*")}
    assert made <= {".lock", "config.resolved.yaml", "events.jsonl", "manifest.json", "stage_a", "stage_b", "stage_c"}


def test_a_folder_name_cannot_write_into_a_new_pipeline(here: Path) -> None:
    create_project(here / "a\nmodel: evil", ["good", "bad"], None)

    assert load_pipeline(here / "a\nmodel: evil" / "pipeline.yaml").spec.model == "embedded"
    written = (here / "a\nmodel: evil" / "pipeline.yaml").read_text()
    assert [line for line in written.splitlines() if line.startswith("model:")] == [
        "model: embedded            # or a model folder, or a hub name such as roberta-base"
    ]


@pytest.fixture
def run(finished_run: Path, here: Path) -> Path:
    """A copy of a finished run to spoil."""
    return Path(shutil.copytree(finished_run, here / "run"))


def edit_record(folder: Path, change: Callable[[dict[str, Any]], None], to: Path | None = None) -> None:
    """Change a record as somebody would who means harm, checksum and all."""
    record = json.loads((folder / "step.json").read_text())
    del record["seal"]
    change(record)
    ((to or folder) / "step.json").write_text(json_with_checksum(record))


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_a_record_that_names_files_outside_its_step_is_refused(absolute: bool, run: Path, here: Path) -> None:
    (here / "outside").write_bytes(b"secret")
    name = str(here / "outside") if absolute else "../../../outside"
    entry = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    edit_record(run / STUDENT, lambda record: record["files"].update({name: entry}))

    with pytest.raises(IncompleteRun, match="which is outside the folder"):
        RunStore(run).path(STUDENT)


def test_a_record_that_names_no_possible_file_is_refused(run: Path) -> None:
    edit_record(run / STUDENT, lambda record: record["files"].update({"a\0b": {"bytes": 6, "sha256": "0" * 64}}))

    with pytest.raises(IncompleteRun, match=r"step\.json names 'a\\x00b', which is outside the folder"):
        RunStore(run).path(STUDENT)


def test_a_file_of_a_run_that_is_a_link_is_refused(run: Path, here: Path, petkit_command: Callable[..., Outcome]) -> None:
    path = run / STUDENT / "config.json"
    path.rename(here / "outside.json")
    path.symlink_to(here / "outside.json")

    answer = petkit_command("predict", "run", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert "stage_c/model is damaged: config.json is a link (" in answer.err and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["stage_c", STUDENT])
def test_a_step_that_is_a_link_is_not_read(name: str, run: Path, here: Path, petkit_command: Callable[..., Outcome]) -> None:
    (run / name).rename(here / "elsewhere")
    (run / name).symlink_to(here / "elsewhere")

    answer = petkit_command("predict", "run", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert f"run: {name} is a link (put the folder itself there" in answer.err and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["stage_a/../../elsewhere/logits", "stage_a/a\0b/logits"], ids=ascii)
def test_a_teacher_that_leads_out_of_the_run_is_refused(name: str, run: Path, here: Path) -> None:
    (here / "elsewhere" / "logits").mkdir(parents=True)
    edit_record(run / "stage_b", lambda record: record.update(step=name), here / "elsewhere" / "logits")

    with pytest.raises(RunConflict, match="leads out of the folder"):
        RunStore(run).path(name)
    assert RunStore(run).inputs(name) == {} and RunStore(run).content(name) is None


@pytest.mark.parametrize(
    "name",
    [
        ".lock", ".work", "events.jsonl", "manifest.json", "config.resolved.yaml",
        "stage_a", "stage_a/colon-1", "stage_b", STUDENT, "evaluation", "checkpoints", "checkpoints/stage_b",
    ],
)  # fmt: skip
def test_nothing_is_written_through_a_link_in_a_run_folder(
    name: str, run: Path, here: Path, tiny: Path, petkit_command: Callable[..., Outcome]
) -> None:
    """A run folder that somebody else has made cannot have petkit write into other files of ours, or remove them."""
    target, place = here / "target", run / name
    if place.exists():
        place.rename(target)
    elif name.startswith("checkpoints"):
        (target / "stage_b").mkdir(parents=True)
        (target / "stage_b" / "precious").write_text("secret")
    else:
        target.write_text("secret")
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(target)
    before = project.snapshot(here)

    answer = petkit_command("run", "pipeline.yaml", "--out", "run", "--force", "all")

    assert (answer.code, answer.out) == (2, "")
    assert f"run: {name} " in answer.err and len(answer.err.splitlines()) == 1
    assert project.snapshot(here) == before


def test_no_checkpoint_is_written_through_a_link(run: Path, here: Path) -> None:
    parts = run / "checkpoints" / "stage_b" / "parts"
    (here / "elsewhere").mkdir()
    parts.parent.mkdir(parents=True)
    parts.symlink_to(here / "elsewhere")
    store = RunStore(run)

    with pytest.raises(RunConflict, match="checkpoints/stage_b/parts is a link"), store.locked():
        StepParts(store, "stage_b", {}, ignore).save(0, np.zeros((1, 2), np.float32))

    assert not any((here / "elsewhere").iterdir())


def test_a_link_in_the_place_of_a_left_over_file_is_swept_and_its_target_stays(
    run: Path, here: Path, tiny: Path, petkit_command: Callable[..., Outcome]
) -> None:
    (here / "target").write_text("secret")
    (run / ".manifest.json.tmp").symlink_to(here / "target")

    assert petkit_command("run", "pipeline.yaml", "--out", "run", "--force", "all").code == 0

    assert (here / "target").read_text() == "secret" and not (run / ".manifest.json.tmp").is_symlink()


def test_a_run_folder_behind_a_link_still_works(run: Path, here: Path) -> None:
    (here / "latest").symlink_to(run)

    assert RunStore("latest").path(STUDENT).is_dir()
