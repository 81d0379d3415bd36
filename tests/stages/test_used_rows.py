"""Which unlabelled rows the teachers label: a sample as large as the student can use, unless asked for more."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petkit.commands.validate import check_pipeline
from petkit.commands.zero_shot import zero_shot
from petkit.data.examples import Sample
from petkit.errors import InvalidInput, RunConflict
from petkit.events import Event, Notice
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.task.checks import used_rows
from petkit.task.task import Task
from tests.data.rows import jsonl, source
from tests.tiny_task import load, planned, run_task

QUICK = ("teachers.seeds=[1]", "teachers.steps=2", "student.steps=3")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("student.steps=10",), 500),
        (("student.steps=400", "student.batch_size=16"), 2_134),
        (("student.steps=400", "student.batch_size=16", "soft_labels.top_share=0.3"), 7_112),
        (("soft_labels.rows=7", "generations.count=1"), 7),
        (("generations.count=1",), 10**9),
        (("soft_labels.rows=all",), 10**9),
    ],
)
def test_how_many_rows_are_used(overrides: tuple[str, ...], expected: int, pipeline_file: Path) -> None:
    assert min(used_rows(load(pipeline_file, *overrides).spec), 10**9) == expected


def test_a_sample_is_the_same_each_time_and_yields_its_rows_only(here: Path) -> None:
    path = jsonl(here / "rows.jsonl", [{"text": f"row {number}"} for number in range(100)])
    rows = source(path, labels=None)
    whole = rows.scan()
    drawn = whole.drawn(20)

    assert drawn.sample is not None and drawn.rows == 20 and drawn.sha256 != whole.sha256
    numbers = drawn.sample.numbers.tolist()
    assert numbers == sorted(set(numbers)) and numbers != list(range(20))
    assert [example.fields["text"] for example in rows.unchanged(drawn)] == [f"row {number}" for number in numbers]
    assert [example.id for example in rows.unchanged(drawn)] == [f"row-{number + 1}" for number in numbers]
    assert rows.scan().drawn(20) == drawn and whole.drawn(21).sha256 != drawn.sha256
    assert whole.drawn(100) is whole


def test_another_draw_of_as_many_rows_is_another_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = source(jsonl(here / "rows.jsonl", [{"text": f"row {number}"} for number in range(100)]), labels=None).scan()
    drawn, own = whole.drawn(20), np.random.default_rng

    monkeypatch.setattr(np.random, "default_rng", lambda seed: own(seed + 1))  # as if numpy's algorithm had changed

    assert whole.drawn(20).sha256 != drawn.sha256


def test_a_large_sample_needs_no_memory_beyond_its_numbers(here: Path) -> None:
    rows = source(jsonl(here / "rows.jsonl", [{"text": "a"}]), labels=None)
    scan = replace(rows.scan(), sample=Sample(np.arange(1_000_000), 2_000_000, ""))
    tracemalloc.start()
    try:
        next(rows.unchanged(scan))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_change_outside_of_the_sample_is_noticed(here: Path) -> None:
    texts = [{"text": f"row {number}"} for number in range(100)]
    rows = source(jsonl(here / "rows.jsonl", texts), labels=None)
    drawn = rows.scan().drawn(20)
    assert drawn.sample is not None
    outside = next(number for number in range(100) if number not in drawn.sample.numbers)
    jsonl(here / "rows.jsonl", [*texts[:outside], {"text": "other"}, *texts[outside + 1 :]])

    with pytest.raises(InvalidInput, match="changed while petkit was working with it"):
        list(rows.unchanged(drawn))


def test_teachers_label_the_sample_alone(pipeline_file: Path, here: Path) -> None:
    overrides = (*QUICK, "soft_labels.rows=12")
    heard: list[Event] = []
    run_task(pipeline_file, here / "run", *overrides, on_event=heard.append)
    (note,) = (event.message for event in heard if isinstance(event, Notice) and event.step == "data")
    assert note.partition(": ")[2].startswith("the teachers label 12 of its 30 rows (soft_labels.rows: all labels every row")
    check = check_pipeline(load(pipeline_file, *overrides))
    assert note in check.remarks and note not in check.warnings and check.rows["unlabeled"] == 30
    (shard,) = read_shards(here / "run" / "stage_b" / "soft_labels", ["id", "logits"])
    ids = [json.loads(line)["id"] for line in (pipeline_file.parent / "unlabeled.jsonl").read_text().splitlines()]
    assert len(shard["id"]) == 12 and [name for name in ids if name in shard["id"]] == list(shard["id"])
    assert read_matrix(here / "run" / "stage_a" / "colon-1" / "logits", "logits").shape == (12, 3)
    assert run_task(pipeline_file, here / "run", *overrides).ran == ()

    with pytest.raises(RunConflict, match=r"colon-1/logits: stale: data.unlabeled changed, soft_labels.rows 12 → 13"):
        run_task(pipeline_file, here / "run", *QUICK, "soft_labels.rows=13")
    with pytest.raises(RunConflict, match=r"colon-1/logits: stale: .*soft_labels.rows"):
        run_task(pipeline_file, here / "run", *QUICK)


def test_whatever_reads_the_sample_is_stale_for_its_size(pipeline_file: Path, here: Path) -> None:
    overrides = (*QUICK, "teachers.auxiliary_mlm_weight=0.1")
    run_task(pipeline_file, here / "run", *overrides, "soft_labels.rows=12")
    steps = planned(pipeline_file, here / "run", *overrides, "soft_labels.rows=13")

    assert {step.why for step in steps.values()} == {"stale: data.unlabeled changed, soft_labels.rows 12 → 13"}


def test_commands_without_teachers_say_what_they_read(pipeline_file: Path) -> None:
    heard: list[Event] = []
    found = zero_shot(load(pipeline_file, "soft_labels.rows=7"), heard.append)

    assert found.rows["unlabeled"] == 7
    assert found.notes == ("batch calibration and label shares are from 7 of 30 unlabelled rows",)
    assert not [event for event in heard if isinstance(event, Notice)]


def test_too_few_rows_of_enough_are_those_of_the_setting(pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"soft_labels\.rows: 2 rows cannot teach 3 labels$"):
        Task.checked(load(pipeline_file, "soft_labels.rows=2", "generations.count=1", "data.train=null"))


def test_a_sample_of_every_row_changes_no_input(pipeline_file: Path, copy: Path) -> None:
    for rows in (30, 1_000, "all"):
        assert run_task(pipeline_file, copy, f"soft_labels.rows={rows}").ran == ()
