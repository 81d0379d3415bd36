"""``--resume auto | require | never``, and runs that moved to another environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.errors import InvalidInput, RunConflict
from petkit.events import Event
from petkit.stages.pipeline import prepare
from petkit.storage.checksum import json_with_checksum
from tests.runs.test_resume import SHORT, notices
from tests.tiny_task import load, products, run_task, write_task


def test_never_wants_no_run(pipeline_file: Path, copy: Path) -> None:
    before = products(copy)
    with pytest.raises(RunConflict) as refused:
        run_task(pipeline_file, copy, "student.steps=3", resume="never")
    assert str(refused.value) == "run: already contains a run (choose another --out, or --resume auto to resume it)"
    assert products(copy) == before


def test_never_begins_where_there_is_none(pipeline_file: Path, here: Path) -> None:
    assert run_task(pipeline_file, here / "run", *SHORT, resume="never").has_student


def test_require_wants_a_run(pipeline_file: Path, here: Path) -> None:
    with pytest.raises(RunConflict) as refused:
        run_task(pipeline_file, here / "run", resume="require")
    assert str(refused.value) == "run: contains no run to resume (check --out, or --resume auto to start one)"
    assert not (here / "run").exists()


def test_require_goes_on_with_one(pipeline_file: Path, copy: Path) -> None:
    assert run_task(pipeline_file, copy, resume="require").ran == ()


def test_what_is_neither_is_refused(pipeline_file: Path, here: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^--resume: unknown 'maybe' \(one of auto, require, never\)$"):
        run_task(pipeline_file, here / "run", resume="maybe")
    with pytest.raises(RunConflict, match="contains no run to resume"):
        prepare(load(pipeline_file), here / "run", resume="require")


def test_a_run_that_moved_is_reported(pipeline_file: Path, copy: Path) -> None:
    """Other versions, another processor, other threads: results may differ in the last digit."""
    manifest = json.loads((copy / "manifest.json").read_text())
    here_now = dict(manifest["versions"])
    manifest["versions"]["torch"] = "1.0"
    manifest["arithmetic"]["threads"] = 64
    manifest["machine"]["processor"] = "an abacus"
    (copy / "manifest.json").write_text(json_with_checksum(manifest))
    moved = f"torch 1.0 → {here_now['torch']}, threads 64 → 1, processor an abacus → "
    with pytest.raises(RunConflict) as refused:
        run_task(pipeline_file, copy, "student.steps=3", resume="require", force="stale")
    assert str(refused.value).startswith(f"run: started in another environment: {moved}")
    heard: list[Event] = []
    run_task(pipeline_file, copy, on_event=heard.append)
    assert notices(heard, "run") == []  # there was nothing to make
    for _ in range(2):  # the second is reported as well: the run still began elsewhere
        run_task(pipeline_file, copy, "student.steps=3", force="c", on_event=heard.append)
    assert len(reported := notices(heard, "run")) == 2
    assert all(line.startswith(f"environment changed since the run started ({moved}") for line in reported)
    run_task(pipeline_file, copy, force="all")
    assert run_task(pipeline_file, copy, resume="require").ran == ()


def test_what_an_older_manifest_does_not_tell_is_not_compared(pipeline_file: Path, copy: Path) -> None:
    manifest: dict[str, Any] = json.loads((copy / "manifest.json").read_text())
    for part in ("versions", "machine"):
        del manifest[part]
    (copy / "manifest.json").write_text(json_with_checksum(manifest))
    assert run_task(pipeline_file, copy, resume="require").ran == ()


def test_an_adaptation_too(here: Path, model_folder: Callable[[str], Path]) -> None:
    from petkit.pretraining.adapt import adapt

    pipeline_file = write_task(here / "task", model_folder("bert"))
    with pytest.raises(RunConflict, match="contains no run to resume"):
        adapt(load(pipeline_file, "adapt.steps=2"), here / "adapted", resume="require")
    adapt(load(pipeline_file, "adapt.steps=2"), here / "adapted", resume="never")
    with pytest.raises(RunConflict, match=r"^adapted: already contains an adapted model"):
        adapt(load(pipeline_file, "adapt.steps=2"), here / "adapted", resume="never")
