"""What petkit writes: cells that no spreadsheet executes, and text that no terminal obeys."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.cli import console
from petkit.cli.progress import RunDisplay
from petkit.errors import InvalidInput, ModelRefused, Problem, shown_path
from petkit.events import Notice, StepFinished
from petkit.formatting import in_one_line, visible, visible_json
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
ACTING = ("\x1b[2J", "\x07", "\x9b31m", "\x7f", "\r", "\u202e", "\u2066", "\u200f", "\u2028", "\x00", "\ud800")
FORMULAS = ("=1+1", "+a", "-2+3", "@SUM(A1)", "＝1+1", '=HYPERLINK("http://example.org","a")')


@pytest.mark.parametrize("acting", ACTING, ids=ascii)
def test_characters_that_act_are_written_out(acting: str) -> None:
    reported = visible(f"a{acting}b")

    assert reported.isascii() and reported.isprintable() and reported.startswith("a\\") and reported.endswith("b")
    assert json.loads(visible_json(json.dumps(f"a{acting}b", ensure_ascii=False))) == f"a{acting}b"


@pytest.mark.parametrize("text", ["plain", "naïve 漢字 🏳️‍🌈", "tab\there", "two\nlines", "می‌خواهم", "C:\\x1b"])
def test_other_characters_stay(text: str) -> None:
    assert visible(text) == text


def test_one_line_is_one_line() -> None:
    assert in_one_line("a\nb\r\u2028c") == "a\\nb\\r\\u2028c"


@pytest.mark.parametrize("acting", ["\x1b]0;owned\x07", "\u202e", "\x9b2J"], ids=ascii)
def test_everything_printed_passes_the_same_door(acting: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"say {acting}")
    console.note(f"note {acting}")
    console.show_error(ModelRefused(f"refused {acting}"))
    console.show_error(ValueError(f"failed {acting}\nsecond line"))
    console.show_error(OSError(2, "No such file", f"name{acting}"))
    console.show_json({f"key {acting}": acting})
    display = RunDisplay(quiet=False)
    display(Notice("step", f"notice {acting}"))
    display(StepFinished("step", 1.0, {f"fact {acting}": acting}))
    out, err = capsys.readouterr()

    for printed in (out, err):
        assert not any(mark in printed for mark in "\x1b\x07\x9b\u202e")
    assert visible(acting) in err and visible(acting) in out
    assert "failed" in err and "\\nsecond line" in err


def test_a_problem_is_one_line_whatever_it_is_about() -> None:
    problem = Problem.of_file("data\n.jsonl", "must be\x1b[31m red", "write\nit", line=3, key="text")

    assert str(InvalidInput([problem])) == "data\\n.jsonl:3: text: must be\\x1b[31m red (write\\nit)"


def test_a_path_is_shown_in_one_line(here: Path) -> None:
    assert shown_path(here / "a\n\x1b[2Jb") == "a\\n\\x1b[2Jb"
    assert shown_path("a\udce9") == "a\\udce9"


def test_hostile_labels_texts_and_ids_are_shown_and_not_obeyed(tiny: Path, petkit_command: Petkit) -> None:
    hostile = "Wor\x1b[2J\u202eld"
    (tiny / "train.jsonl").write_text(json.dumps({"text": "a", "label": hostile}) + "\n")

    answer = petkit_command("validate", "pipeline.yaml")

    assert answer.code == 2
    assert "\x1b" not in answer.err and "\u202e" not in answer.err and "\\x1b[2J\\u202e" in answer.err


def test_predictions_as_a_table_hold_no_formulas(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    rows = [{"text": text, "more": text} for text in (*FORMULAS, "plain", "a=b")]
    (here / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, delimiter in (("out.csv", ","), ("out.tsv", "\t")):
        assert petkit_command("predict", finished_run, "--input", "in.jsonl", "--output", name).code == 0

        with (here / name).open(encoding="utf-8", newline="") as stream:
            table = list(
                csv.DictReader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
            )
        for column in ("text", "more"):
            assert [row[column] for row in table] == [*(f"'{text}" for text in FORMULAS), "plain", "a=b"]
        assert all(0 <= float(row["probability"]) <= 1 for row in table)
    assert petkit_command("predict", finished_run, "--input", "in.jsonl", "--output", "out.jsonl").code == 0
    exact = [json.loads(line)["text"] for line in (here / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert exact == [row["text"] for row in rows]


def test_predictions_on_standard_output_steer_no_terminal(finished_run: Path, here: Path, petkit_command: Petkit) -> None:
    text = "a \x9b2J \u202e text"

    answer = petkit_command("predict", finished_run, text)

    assert answer.code == 0
    assert "\x9b" not in answer.out and "\u202e" not in answer.out
    assert json.loads(answer.out)["text"] == text
