"""SIGKILL at every declared point: each is reached, nothing finished is lost or redone, and the end is that of a clean run."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from petkit.commands.init_project import create_project
from petkit.config.loader import load_pipeline
from petkit.errors import InvalidInput
from petkit.predict.output import output_file
from petkit.predict.predictor import Predictor
from petkit.predict.row_io import argument_rows, predict_rows
from petkit.runs.verify import verify
from petkit.storage import fault_points
from petkit.storage.fault_points import ANY, VARIABLE
from petkit.task import task as task_module
from tests.pretraining import test_adaptation
from tests.reliability.forked import PATIENCE, SHORT, fork_server, running
from tests.reliability.matrix import checksums
from tests.tiny_task import products, run_task

__all__ = ["fork_server"]
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
Folder = Callable[[str], Path]

# In the order in which a run passes them.
POINTS = (
    "lock: before",
    "lock: held",
    "lock: swept",
    "file: before write",
    "file: written",
    "file: before rename",
    "file: renamed",
    "event: before write",
    "event: written",
    "publish: begun",
    "shard: before write",
    "shard: written",
    "model: before write",
    "model: written",
    "publish: filled",
    "publish: files on disk",
    "publish: recorded",
    "publish: before the old step goes",
    "publish: old step aside",
    "publish: before rename",
    "publish: renamed",
    "publish: done",
    "rows: before write",
    "rows: written",
    "checkpoint: before write",
    "checkpoint: written",
    "checkpoint: before one goes",
    "checkpoint: one aside",
    "project: before write",
    "project: before rename",
)
REPLACING = ("publish: before the old step goes", "publish: old step aside")
CHECKPOINT = tuple(point for point in POINTS if point.startswith("checkpoint: "))
ROWS = tuple(point for point in POINTS if point.startswith("rows: "))
PROJECT = tuple(point for point in POINTS if point.startswith("project: "))
OF_A_RUN = tuple(point for point in POINTS if point not in (*REPLACING, *ROWS, *CHECKPOINT, *PROJECT))
OF_AN_OUTPUT = ("file: before write", "file: written", "file: before rename", "file: renamed")


def do(pipeline_file: str, folder: str, said: Connection, where: str, options: dict[str, Any]) -> None:
    """Work in this process, which dies at ``where``."""
    os.environ[VARIABLE] = where
    {"run": run, "large": large_run, "adapt": adapt, "predict": predict, "init": init}[options.pop("command", "run")](
        Path(pipeline_file), Path(folder), **options
    )
    said.send("finished")


def run(pipeline_file: Path, folder: Path, **options: Any) -> None:
    run_task(pipeline_file, folder, *SHORT, **options)


def large_run(pipeline_file: Path, folder: Path) -> None:
    """Run as for a large unlabelled set: token ids and soft labels lie in files."""
    task_module.HELD_ROWS = 0  # type: ignore[attr-defined]
    run_task(pipeline_file, folder, *SHORT)


def adapt(pipeline_file: Path, folder: Path) -> None:
    test_adaptation.run(pipeline_file, folder)


def predict(run: Path, output: Path) -> None:
    predictor = Predictor.load(run)
    with output_file(output, predictor) as write:
        for example, prediction in predict_rows(argument_rows(["a good game", "market news"], predictor), predictor):
            write(example, prediction)


def init(home: Path, project: Path) -> None:
    create_project(project, ["sports", "world"], None)


def dies(pipeline_file: Path, folder: Path, where: str, **options: Any) -> bool:
    """Say whether the process died at ``where``; else it finished."""
    with running(do, pipeline_file, folder, where, **options) as (process, _):
        process.join(PATIENCE)
        assert process.exitcode in (0, -signal.SIGKILL), (where, process.exitcode)
        return process.exitcode != 0


def test_every_point_is_declared_and_has_its_test() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(fault_points.__file__).parents[1].rglob("*.py"))
    assert set(re.findall(r'crash_point\("([^"]+)"\)', source)) == set(POINTS)
    assert {*OF_A_RUN, *REPLACING, *ROWS, *CHECKPOINT, *PROJECT} == set(POINTS)


@pytest.mark.timeout(900)
def test_killed_at_every_point_of_a_run_in_turn(pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """Each run dies at its own point and begins where the last one ended."""
    folder = here / "run"
    before: dict[str, str] = {}
    for point in OF_A_RUN:
        assert dies(pipeline_file, folder, point), f"{point} is never reached"
        now = checksums(folder)
        assert before.items() <= now.items(), f"{point}: a finished step was lost or made again"
        before = now
    result = run_task(pipeline_file, folder, *SHORT)
    assert before.items() <= checksums(folder).items() and not set(before) & set(result.ran)
    assert products(folder) == products(undisturbed) and verify(folder).whole


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_passing_of_every_point(pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """The first process dies at its first point, the second at its second, until one comes to the end."""
    folder, number = here / "run", 1
    before: dict[str, str] = {}
    while dies(pipeline_file, folder, f"{ANY}#{number}"):
        assert before.items() <= checksums(folder).items(), number
        before, number = checksums(folder), number + 1
    assert number > len(OF_A_RUN)
    assert products(folder) == products(undisturbed) and verify(folder).whole


@pytest.mark.parametrize("point", REPLACING)
def test_killed_while_a_step_is_replaced(point: str, pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    folder = Path(shutil.copytree(undisturbed, here / "run"))
    before = checksums(folder)
    assert dies(pipeline_file, folder, point, force="b")
    others = {step: checksum for step, checksum in before.items() if step != "stage_b"}
    assert others.items() <= checksums(folder).items()
    run_task(pipeline_file, folder, *SHORT)
    assert others.items() <= checksums(folder).items()
    assert products(folder) == products(undisturbed) and verify(folder).whole


@pytest.mark.parametrize("where", [*ROWS, f"{ROWS[0]}#8", f"{ROWS[1]}#9"])
def test_killed_while_the_rows_of_a_large_set_are_put_on_disk(
    where: str, pipeline_file: Path, undisturbed: Path, here: Path
) -> None:
    folder = here / "run"
    assert dies(pipeline_file, folder, where, command="large"), f"{where} is never reached"
    before = checksums(folder)
    assert not dies(pipeline_file, folder, "nowhere", command="large")
    assert before.items() <= checksums(folder).items() and not (folder / ".work").exists()
    assert products(folder) == products(undisturbed) and verify(folder).whole


def test_killed_at_every_point_of_a_checkpoint(here: Path, model_folder: Folder) -> None:
    pipeline_file = test_adaptation.write(here / "task", model_folder("bert"))
    test_adaptation.run(pipeline_file, here / "clean")
    for point in CHECKPOINT:
        assert dies(pipeline_file, here / "run", point, command="adapt"), f"{point} is never reached"
    test_adaptation.run(pipeline_file, here / "run")
    assert test_adaptation.made(here / "run") == test_adaptation.made(here / "clean") and verify(here / "run").whole


@pytest.mark.parametrize("point", OF_AN_OUTPUT)
def test_killed_while_predictions_are_written(point: str, undisturbed: Path, here: Path) -> None:
    """What was there before, or all of the new rows."""
    (here / "out.jsonl").write_text("before")
    assert dies(undisturbed, here / "out.jsonl", point, command="predict")
    rows = (here / "out.jsonl").read_text().splitlines()
    assert len(rows) == 2 if point == "file: renamed" else rows == ["before"]
    assert not dies(undisturbed, here / "out.jsonl", "nowhere", command="predict")
    assert len((here / "out.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("point", PROJECT)
def test_killed_while_a_project_is_written(point: str, here: Path) -> None:
    assert dies(here, here / "project", point, command="init")
    assert not (here / "project").exists()
    create_project(here / "project", ["sports", "world"], None)
    assert load_pipeline(here / "project" / "pipeline.yaml").spec.task == "project"
    with pytest.raises(InvalidInput, match="already exists and is not empty"):
        create_project(here / "project", ["sports", "world"], None)
