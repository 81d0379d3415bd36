"""``petkit zero-shot`` and ``petkit rank-patterns`` as commands: what is printed, and how mistakes are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
COMMANDS = ("zero-shot", "rank-patterns")


def table(text: str) -> list[list[str]]:
    """Return the lines of a printed table as their words."""
    return [line.split() for line in text.splitlines()]


def test_zero_shot(tiny: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(tiny)

    answer = petkit_command("zero-shot", "pipeline.yaml")

    assert answer.code == 0
    lines = table(answer.out)
    assert lines[0] == ["accuracy", "on", "4", "train", "rows", "raw", "contextual", "batch"]
    assert lines[4] == ["accuracy", "on", "3", "test", "rows", "raw", "contextual", "batch"]
    for start in (1, 5):
        assert [line[: -2 * 3] for line in lines[start : start + 3]] == [
            ["pattern", "colon"],
            ["pattern", "brackets"],
            ["ensemble"],
        ]
        assert all(line[-5::2] == ["%"] * 3 for line in lines[start : start + 3])
    assert [line.split(" done")[0] for line in answer.err.splitlines()] == ["colon: untrained …", "brackets: untrained …"]
    assert project.snapshot(tiny) == before


def test_several_labels_per_row_are_right_together(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("zero-shot", "pipeline.yaml", "--set", "label_kind=multi", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    assert [line[:6] for line in table(answer.out)[::4]] == [
        ["all", "labels", "right", "on", rows, part] for rows, part in (("4", "train"), ("3", "test"))
    ]


def test_zero_shot_as_json(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("zero-shot", "pipeline.yaml", "--json", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert found["rows"] == {"unlabeled": 5, "train": 4, "test": 3}
    for answers in (*found["patterns"].values(), found["ensemble"]):
        assert set(answers["accuracy"]) == {"train", "test"}
        for way in ("raw", "contextual", "batch"):
            assert sum(answers["label_shares"][way].values()) == pytest.approx(1)


def test_zero_shot_without_labelled_rows(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("zero-shot", "pipeline.yaml", "--set", "data.train=null", "--set", "data.test=null", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    lines = table(answer.out)
    assert lines[0] == ["labels", "of", "5", "rows", "(batch)", "World", "Sports"]
    assert [line[0] for line in lines[1:4]] == ["pattern", "pattern", "ensemble"]
    assert answer.out.splitlines()[4].startswith("note: accuracy cannot be shown: there are no labelled rows")


def test_rank_patterns(tiny: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(tiny)

    answer = petkit_command("rank-patterns", "pipeline.yaml")

    assert answer.code == 0
    lines = table(answer.out)
    assert " ".join(lines[0]) == "pattern mean rank information (nats) uncalibrated agreement cross-entropy (nats)"
    assert {lines[1][0], lines[2][0]} == {"colon", "brackets"}
    assert float(lines[1][1]) <= float(lines[2][1])
    assert answer.out.splitlines()[4] == "all patterns are kept; keep_patterns: N in the pipeline uses the best N"
    assert len(answer.err.splitlines()) == 2
    assert project.snapshot(tiny) == before


def test_rank_patterns_that_keeps_one(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("rank-patterns", "pipeline.yaml", "--set", "keep_patterns=1", "--set", "data.train=null", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-2:] == [
        "note: no cross-entropy: there are no labelled rows",
        "keep_patterns: 1 in the pipeline uses the first 1 of these",
    ]


def test_rank_patterns_as_json(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("rank-patterns", "pipeline.yaml", "--json", "--quiet")

    found, columns = json.loads(answer.out), {"id", "rank", "information", "raw_information", "agreement", "cross_entropy"}
    assert [set(pattern) for pattern in found["patterns"]] == [columns] * 2
    assert (found["kept"], found["sampled"], found["left_out"]) == (2, 5, "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("overrides", "reported"),
    [
        (("data.unlabeled=none.jsonl",), "data.unlabeled: none.jsonl: no such file"),
        (("keep_patterns=3",), "keeps 3 of 2 patterns"),
        (("model=nowhere/at-all",), "nowhere/at-all"),
    ],
    ids=["data", "keep", "model"],
)
def test_mistakes_are_one_line(
    command: str, overrides: tuple[str, ...], reported: str, tiny: Path, petkit_command: Petkit
) -> None:
    answer = petkit_command(command, "pipeline.yaml", *(part for override in overrides for part in ("--set", override)))

    assert (answer.code, answer.out) == (2, "")
    assert reported in answer.err and len(answer.err.splitlines()) == 1
