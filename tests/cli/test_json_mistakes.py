"""Mistakes under ``--json``: on standard output for programs, on standard error in words, with exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from petkit.cli import main

COMMANDS = [
    "run",
    "stage-a",
    "stage-b",
    "stage-c",
    "adapt",
    "pretrain-prompt",
    "validate",
    "zero-shot",
    "rank-patterns",
    "search-verbalizer",
]


def mistakes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    """Return what a command reports as JSON."""
    monkeypatch.setattr(sys, "argv", ["petkit", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    shown = capsys.readouterr()
    assert leaving.value.code == 2 and shown.err
    found = json.loads(shown.out)
    assert list(found) == ["mistakes"] and all(
        list(one) == ["file", "line", "key", "message", "hint"] for one in found["mistakes"]
    )
    return found["mistakes"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipeline_with_two_mistakes(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "p.yaml").write_text("task: t\ntecher: 1\nmodell: x\n", encoding="utf-8")

    found = mistakes(monkeypatch, capsys, command, "p.yaml", "--json")

    assert {(one["file"], one["line"], one["key"]) for one in found} >= {("p.yaml", 2, "techer"), ("p.yaml", 3, "modell")}


@pytest.mark.parametrize("arguments", [["verify", "nowhere"], ["evaluate", "nowhere", "no.csv"]], ids=lambda them: them[0])
def test_other_commands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert len(mistakes(monkeypatch, capsys, *arguments, "--json")) == 1


@pytest.mark.parametrize("arguments", [["validate", "--jsn"], ["nonsense"], ["run"]], ids=" ".join)
def test_options(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (found,) = mistakes(monkeypatch, capsys, *arguments, "--json")

    assert found["line"] is None and found["message"]


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("teachers.consistency.weight=2", "has no effect, because kind is none", "remove this option"),
        ("teachers.r_drop_weight=1", "compares two dropout passes, and dropout is 0", "set dropout: 0.1"),
        ("student.keep_adapter=true", "there is no adapter to keep", "set adapter: lora"),
    ],
)
def test_the_hint_is_apart_from_the_message(
    setting: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    text = (
        "task: t\ndata: {train: t.csv, unlabeled: u.csv}\npatterns: petkit:topic\nverbalizer: {labels: {a: [good], b: [bad]}}\n"
    )
    (here / "p.yaml").write_text(text, encoding="utf-8")

    found = mistakes(monkeypatch, capsys, "run", "p.yaml", "--json", "--set", "teachers.dropout=0", "--set", setting)

    assert {(one["key"], one["message"], one["hint"]) for one in found} == {(setting.partition("=")[0], message, hint)}
