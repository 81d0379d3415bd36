"""The YAML library: every file loads, every label word has its tokens, and what the comments say can be run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from tests.library import EMBEDDED, EXAMPLE, FILES, PARTS, PIPELINES, ROOT, commands, parts_of, problems_of, shown

BENCH_TASKS = ("ag_news", "sst2", "imdb", "trec", "sick", "eprstmt_zh", "tnews_zh")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the commands of the comments are meant to be typed."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", EMBEDDED, ids=shown)
def test_pipeline_compiles_for_the_embedded_model(path: Path) -> None:
    pipeline = load_pipeline(path)

    assert pipeline.spec.model == "embedded"
    assert problems_of(pipeline) == []


@pytest.mark.parametrize("path", PIPELINES, ids=shown)
def test_class_numbers_mean_the_verbalizers_labels(path: Path) -> None:
    spec = load_pipeline(path).spec

    assert set(spec.data.label_names or spec.labels) == set(spec.labels)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_file_opens_with_commands_that_load(path: Path) -> None:
    found = commands(path)

    assert found, f"{shown(path)} starts with no comment that says how to run it"
    for command in found:
        assert problems_of(command.load()) == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_first_command_is_about_the_file_itself(path: Path) -> None:
    command = commands(path)[0]

    assert shown(path) in {command.pipeline, *parts_of(command.load())}


@pytest.mark.parametrize("path", PARTS, ids=shown)
def test_part_is_used_by_a_pipeline(path: Path) -> None:
    """A pipeline uses a file as its default, or in a command that its comment offers."""
    offered = [command for pipeline in PIPELINES for command in commands(pipeline)]

    assert any(shown(path) in parts_of(command.load()) for command in offered)


def test_every_pipeline_has_its_own_run_folder() -> None:
    tasks = [load_pipeline(path).spec.task for path in PIPELINES]

    assert len(set(tasks)) == len(tasks)


def test_labels_of_a_scale_stand_in_its_order() -> None:
    scales = [spec for path in PIPELINES if (spec := load_pipeline(path).spec).label_kind == "ordinal"]

    assert {spec.task for spec in scales} == {"yelp", "yelp-paper"}
    assert all(spec.labels == spec.data.label_names == ("1 star", "2 star", "3 stars", "4 stars", "5 stars") for spec in scales)


def test_messages_may_have_several_topics() -> None:
    spec = load_pipeline(ROOT / "pipelines" / "multi_label.yaml").spec

    assert spec.label_kind == "multi" and spec.data.label_separator == "|"
    assert [spec.student.threshold(label) for label in spec.labels] == [0.5, 0.4, 0.5, 0.5]  # delivery, price, quality, service


def test_example_trains_one_teacher_for_each_of_four_patterns() -> None:
    spec = load_pipeline(EXAMPLE / "pipeline.yaml").spec

    assert len(spec.patterns) * len(spec.teachers.seeds) == 4
    assert spec.labels == ("delivery", "returns", "payment", "account", "product")
    assert all(Path(source or "").is_file() for source in (spec.data.train, spec.data.unlabeled, spec.data.test))


@pytest.mark.parametrize("name", BENCH_TASKS)
def test_labels_are_those_of_the_benchmark_data(name: str) -> None:
    folder = os.environ.get("PETKIT_BENCH_DATA")
    if not folder:
        pytest.skip("PETKIT_BENCH_DATA names no folder with the benchmark data sets")
    labels = (Path(folder) / name / "labels.txt").read_text(encoding="utf-8").split("\n")

    assert load_pipeline(ROOT / "pipelines" / f"{name}.yaml").spec.labels == tuple(label for label in labels if label)
