"""Which teachers a run has, and who may teach whom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from petkit.config.schema.pipeline import PatternSpec
from petkit.config.schema.training import GenerationsSpec
from petkit.errors import InvalidInput
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher, generation_count, list_teachers, others
from tests.tiny_task import load

ONE_PATTERN = "patterns=[{id: colon, text: '{mask} news: {text}'}]"


def patterns(*names: str) -> list[PatternSpec]:
    return [PatternSpec(id=name, text="{mask} {text}") for name in names]


def teachers(count: int | str, names: Sequence[str], seeds: Sequence[int], rows: int, labels: int = 4) -> list[list[Teacher]]:
    return list_teachers(patterns(*names), seeds, GenerationsSpec(count=count), rows, labels)


def test_one_generation_has_a_teacher_per_pattern_and_seed() -> None:
    assert teachers(0, ("a", "b"), (1, 7), 32) == [
        [Teacher("a-1", 0, 1, 0), Teacher("a-7", 0, 7, 0), Teacher("b-1", 1, 1, 0), Teacher("b-7", 1, 7, 0)]
    ]


def test_every_further_generation_has_them_all_again_under_names_of_their_own() -> None:
    found = teachers(2, ("a", "b"), (1, 7), 32)
    assert [[teacher.name for teacher in generation] for generation in found] == [
        ["a-1", "a-7", "b-1", "b-7"],
        ["a-1-g1", "a-7-g1", "b-1-g1", "b-7-g1"],
        ["a-1-g2", "a-7-g2", "b-1-g2", "b-7-g2"],
    ]
    assert {teacher.generation for teacher in found[2]} == {2} and all(teacher.trained for row in found for teacher in row)


def test_names_differ_even_where_pattern_ids_look_like_teachers() -> None:
    found = teachers(3, ("a", "a-1", "a-1-g1", "a-untrained"), (1, 11), 32)
    assert len({teacher.name for generation in found for teacher in generation}) == 4 * 2 * 4


def test_from_zero_every_pattern_starts_untrained_once_and_seeds_begin_after_it() -> None:
    assert teachers(0, ("a", "b"), (5, 7), 0) == [
        [Teacher("a-untrained", 0, 5, 0, trained=False), Teacher("b-untrained", 1, 5, 0, trained=False)]
    ]
    first, second = teachers(1, ("a", "b"), (5, 7), 0)
    assert len(first) == 2 and [teacher.name for teacher in second] == ["a-5-g1", "a-7-g1", "b-5-g1", "b-7-g1"]
    assert all(teacher.trained for teacher in second)


@pytest.mark.parametrize(
    ("rows", "expected"),
    # ceil(log_5(1000 / rows)): 125 = 5³, 31.25, 5, 1 and less than 1 times as many rows make 1,000.
    [(8, 3), (32, 3), (200, 1), (201, 1), (999, 1), (1000, 0), (5000, 0)],
)
def test_auto_stops_where_there_would_be_a_thousand_rows(rows: int, expected: int) -> None:
    assert generation_count(GenerationsSpec(count="auto"), rows, 4) == expected
    assert len(teachers("auto", ("a", "b"), (1,), rows)) == 1 + expected


def test_auto_asks_for_the_scale() -> None:
    assert generation_count(GenerationsSpec(count="auto", scale=10), 1, 4) == 3
    assert generation_count(GenerationsSpec(count="auto", scale=2), 32, 4) == 5  # 32, 64, …, 1024
    assert generation_count(GenerationsSpec(count=2, scale=10), 5000, 4) == 2


@pytest.mark.parametrize(("per_label", "labels", "expected"), [(100, 4, 2), (100, 10, 1), (1, 8, 4), (500, 4, 1)])
def test_auto_from_zero_counts_the_generation_that_first_has_rows(per_label: int, labels: int, expected: int) -> None:
    assert generation_count(GenerationsSpec(count="auto", per_label_from_zero=per_label), 0, labels) == expected


@pytest.mark.parametrize("rows", [0, 32])
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_nobody_learns_from_its_own_predecessor(rows: int, names: Sequence[str], seeds: Sequence[int]) -> None:
    for before, generation in pairwise(teachers(3, names, seeds, rows)):
        for teacher in generation:
            asked = others(teacher, before)
            own = [
                other
                for other in before
                if other.pattern == teacher.pattern and (other.seed == teacher.seed or not other.trained)
            ]
            assert len(own) == 1 and not set(own) & set(asked)
            assert len(asked) == len(before) - 1  # and from everybody else it may


def check(pipeline_file: Path, *overrides: str) -> Task:
    return Task.checked(load(pipeline_file, *overrides))


@pytest.mark.parametrize("overrides", [("teachers.seeds=[1]",), ("teachers.seeds=[1, 2]", ONE_PATTERN)])
def test_two_teachers_are_enough(overrides: tuple[str, ...], pipeline_file: Path) -> None:
    task = check(pipeline_file, "generations.count=1", *overrides)
    assert [len(generation) for generation in task.generations] == [2, 2] and task.teachers == task.generations[1]


ALONE = "generations.count: each teacher learns from others, and there is no other"
TOO_FEW = [
    ((ONE_PATTERN, "teachers.seeds=[1]"), f"{ALONE} (add a pattern or a seed)"),
    (("keep_patterns=1", "teachers.seeds=[1]"), f"{ALONE} (add a pattern or a seed)"),
    ((ONE_PATTERN, "data.train=null"), f"{ALONE} (add a pattern: without labelled rows seeds do not differ)"),
]


@pytest.mark.parametrize(("overrides", "expected"), TOO_FEW)
def test_one_teacher_alone_is_refused(overrides: tuple[str, ...], expected: str, pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(pipeline_file, "generations.count=1", *overrides)
    assert str(refused.value) == f"--set generations.count=1: {expected}"
    assert check(
        pipeline_file, "generations.count=0", *overrides
    ).teachers  # without further generations there is nothing to learn


def test_fewer_unlabelled_rows_than_labels_cannot_start_from_zero(pipeline_file: Path, here: Path) -> None:
    (here / "two.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n')
    with pytest.raises(InvalidInput) as refused:
        check(pipeline_file, "generations.count=1", "data.train=null", "data.unlabeled=two.jsonl")
    assert (
        str(refused.value) == "--set data.unlabeled=two.jsonl: data.unlabeled: 2 rows cannot teach 3 labels (add unlabelled rows)"
    )
