"""Names that become part of a path, and paths that a run folder names: nothing leads out of the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.deliver.scaffold import create_project
from petkit.errors import IncompleteRun, InvalidInput
from petkit.runs.layout import STUDENT
from petkit.runs.store import RunStore
from petkit.spec.loader import load_pipeline
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
    before = project.snapshot(tiny.parent)

    answer = petkit_command("run", "pipeline.yaml", "--set", 'task="../../x"')

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1 and "task: must match" in answer.err
    assert project.snapshot(tiny.parent) == before


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


def edit_record(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run / STUDENT / "step.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_a_record_that_names_files_outside_its_step_is_refused(absolute: bool, run: Path, here: Path) -> None:
    import hashlib

    (here / "outside").write_bytes(b"secret")
    name = str(here / "outside") if absolute else "../../../outside"
    entry = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    edit_record(run, lambda record: record["files"].update({name: entry}))

    with pytest.raises(IncompleteRun, match="is a link, or leads out of the folder"):
        RunStore(run).path(STUDENT)


def test_a_file_of_a_run_that_is_a_link_is_refused(run: Path, here: Path, petkit_command: Callable[..., Outcome]) -> None:
    path = run / STUDENT / "config.json"
    path.rename(here / "outside.json")
    path.symlink_to(here / "outside.json")

    answer = petkit_command("predict", "run", "a text")

    assert (answer.code, answer.out) == (2, "")
    assert "config.json is a link, or leads out of the folder" in answer.err and len(answer.err.splitlines()) == 1


def test_a_step_that_is_a_link_is_refused(run: Path, here: Path) -> None:
    (run / STUDENT).rename(here / "elsewhere")
    (run / STUDENT).symlink_to(here / "elsewhere")

    with pytest.raises(IncompleteRun, match="is a link, or leads out of the folder"):
        RunStore(run).path(STUDENT)


def test_a_teacher_that_leads_out_of_the_run_is_refused(run: Path, here: Path) -> None:
    (here / "elsewhere").mkdir()
    shutil.copytree(run / "stage_b", here / "elsewhere" / "logits")
    record = json.loads((run / "stage_b" / "step.json").read_text())
    record["step"] = "stage_a/../../elsewhere/logits"
    (here / "elsewhere" / "logits" / "step.json").write_text(json.dumps(record))

    with pytest.raises(IncompleteRun, match="leads out of the folder"):
        RunStore(run).path("stage_a/../../elsewhere/logits")


@pytest.mark.parametrize("name", [".lock", ".work", "events.jsonl", ".manifest.json.tmp", "stage_a/colon-1", "stage_b"])
def test_nothing_is_written_through_a_link_in_a_run_folder(
    name: str, run: Path, here: Path, tiny: Path, petkit_command: Callable[..., Outcome]
) -> None:
    """A run folder that somebody else has made cannot have petkit write into other files of ours."""
    target = here / "target"
    moved = (run / name).exists()
    (run / name).rename(target) if moved else target.write_text("secret")
    (run / name).symlink_to(target)
    before = project.snapshot(here)

    answer = petkit_command("run", "pipeline.yaml", "--out", "run")

    assert (answer.code, answer.out) == (2, "")
    assert f"run: {name} is a link (put the file itself there" in answer.err and len(answer.err.splitlines()) == 1
    assert project.snapshot(here) == before


def test_a_run_folder_behind_a_link_still_works(run: Path, here: Path) -> None:
    (here / "latest").symlink_to(run)

    assert RunStore("latest").path(STUDENT).is_dir()
