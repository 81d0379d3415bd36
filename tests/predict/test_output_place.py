"""Where predictions may be written: never over what is read, over other files with --force, and then as a user expects it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import InvalidInput
from petkit.predict.output import output_place
from petkit.storage.atomic import is_left_over, write_text
from petkit.storage.destination import identities
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
ROWS = "text,ticket\nwhere is it,T-9\n"


@pytest.fixture
def rows(here: Path) -> Path:
    (here / "in.csv").write_text(ROWS)
    return here / "in.csv"


@pytest.mark.parametrize("way", ["itself", "through a folder", "a link", "a hard link", "an absolute path"])
def test_the_input_is_never_written(way: str, rows: Path, here: Path, petkit_command: Petkit) -> None:
    (here / "d").mkdir()
    (here / "link.csv").symlink_to("in.csv")
    (here / "hard.csv").hardlink_to(rows)
    names = {"itself": "in.csv", "through a folder": "d/../in.csv", "a link": "link.csv", "a hard link": "hard.csv"}

    answer = petkit_command("predict", "no-run", "--input", "in.csv", "--output", names.get(way, rows), "--force")

    assert answer.code == 2
    assert "--output: is a file that the command reads (choose another file)" in answer.err
    assert rows.read_text() == ROWS


def test_standard_input_is_an_input_too(rows: Path, here: Path) -> None:
    command = [sys.executable, "-m", "petkit", "predict", "no-run", "--input"]
    with rows.open() as stdin, rows.open("a") as stdout:
        over = subprocess.run([*command, "-", "--output", "in.csv", "--force"], stdin=stdin, capture_output=True, text=True)
        onto = subprocess.run([*command, "in.csv"], stdout=stdout, stderr=subprocess.PIPE, text=True)

    assert (over.returncode, onto.returncode) == (2, 2)
    assert over.stderr == "in.csv: --output: is a file that the command reads (choose another file)\n"
    assert onto.stderr == "--input: is the file that standard output goes to (choose another file)\n"
    assert rows.read_text() == ROWS


def test_a_file_is_overwritten_only_with_force(here: Path, finished_run: Path, petkit_command: Petkit) -> None:
    (here / "out.csv").write_text("mine")

    refused = petkit_command("predict", finished_run, "a", "--output", "out.csv")

    assert refused == Outcome(2, "", "out.csv: --output: already exists (choose another file, or overwrite it with --force)\n")
    assert (here / "out.csv").read_text() == "mine"
    assert petkit_command("predict", finished_run, "a", "--output", "out.csv", "--force").code == 0
    assert (here / "out.csv").read_text().startswith("id,text")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o664])
def test_links_are_written_through_and_modes_are_kept(mode: int, here: Path, finished_run: Path, petkit_command: Petkit) -> None:
    (here / "real").mkdir()
    target = here / "real" / "out.jsonl"
    target.write_text("before")
    target.chmod(mode)
    (here / "out.jsonl").symlink_to("real/out.jsonl")

    assert petkit_command("predict", finished_run, "a", "--output", "out.jsonl", "--force").code == 0

    assert (here / "out.jsonl").is_symlink()
    assert target.read_text().startswith('{"id": "row-1"')
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.jsonl"]


def test_a_link_to_a_file_that_is_not_there_yet(here: Path) -> None:
    (here / "out.jsonl").symlink_to("new.jsonl")

    assert output_place(Path("out.jsonl"), Path("run"), [], force=False) == here / "new.jsonl"


def test_a_link_to_itself_is_refused(here: Path) -> None:
    (here / "out.jsonl").symlink_to("out.jsonl")

    with pytest.raises(InvalidInput, match=r"^out\.jsonl: --output: cannot be written: it is a link to itself$"):
        output_place(Path("out.jsonl"), Path("run"), [], force=False)


def test_a_pipe_is_refused(here: Path, petkit_command: Petkit) -> None:
    os.mkfifo(here / "pipe.csv")

    answer = petkit_command("predict", "no-run", "a", "--output", "pipe.csv", "--force")

    assert answer == Outcome(2, "", "pipe.csv: --output: is a pipe, not a file (name a file)\n")


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "ü" * 125 + ".csv"])
def test_every_name_that_a_file_can_have(name: str, here: Path) -> None:
    write_text(output_place(Path(name), Path("run"), [], force=False), "a")

    assert [path.name for path in Path.cwd().iterdir()] == [name]
    with pytest.raises(InvalidInput, match="cannot be written: File name too long"):
        output_place(Path("x" * 252 + ".csv"), Path("run"), [], force=False)


def test_temporary_files_are_known_by_the_name_of_the_file() -> None:
    assert is_left_over(".manifest.json.0123abcd.tmp", "manifest.json")


@pytest.mark.parametrize("output", ["o.xls", "/dev/null", "no/o.csv", "r/step/o.csv", "r/a.csv"])
def test_a_place_is_refused_before_a_model_is_loaded(output: str, here: Path, petkit_command: Petkit) -> None:
    (here / "r" / "step").mkdir(parents=True)
    (here / "r" / "a.csv").write_text("")

    answer = petkit_command("predict", "r", "a", "--output", output, "--force")

    assert answer.code == 2
    assert answer.err.startswith(f"{output}: --output: ")


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output_needs_no_name(output: str, here: Path) -> None:
    with pytest.raises(InvalidInput, match=r"unknown kind '' \(without --output, JSON Lines go to standard output\)$"):
        output_place(Path(output), Path("run"), [], force=False)


def test_a_second_input_is_not_left_out(here: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("predict", "no-run", "--input", "a.csv", "--input", "b.csv")

    assert answer == Outcome(2, "", "--input: given 2 times (give it once; label one file at a time)\n")


def test_what_identifies_a_file(here: Path) -> None:
    (here / "a").write_text("")
    with (here / "a").open() as stream:
        assert len(identities("a", here / "a", stream, None, "missing", "x" * 300)) == 3
    assert identities(here, "/dev/null") == []
