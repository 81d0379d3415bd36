"""Streams and folders as a caller may leave them: closed, full, without a reader, of another encoding, deleted."""

from __future__ import annotations

import codecs
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.__main__ import escape, open_streams
from petkit.cli import console, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The standard streams may be replaced; they are back afterwards."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    return monkeypatch


def leave(*arguments: str) -> object:
    """Run the command line in this process; returns its exit code."""
    sys.argv[1:] = arguments
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", "2>/dev/full", "<&-"])
def test_closed_and_full_streams_stop_no_command(closed: str) -> None:
    command = f'exec "{sys.executable}" -m petkit --version {closed}'
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_results_that_cannot_be_written_are_one_line() -> None:
    command = f'exec "{sys.executable}" -m petkit --version >/dev/full'
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (1, b"petkit: No space left on device\n")


@given(st.text(), st.sampled_from(["ascii", "cp1252", "latin-1", "cp932"]))
def test_json_survives_every_encoding(text: str, encoding: str) -> None:
    codecs.register_error("petkit.escape", escape)
    sent = json.dumps(text, ensure_ascii=False).encode(encoding, "petkit.escape")

    assert json.loads(sent.decode(encoding)) == text or encoding == "cp932"  # which maps some characters to others


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_every_command_speaks_through_any_encoding(encoding: str, streams: pytest.MonkeyPatch) -> None:
    sent = io.BytesIO()
    streams.setattr(sys, "stdout", io.TextIOWrapper(sent, encoding=encoding))
    open_streams()

    console.say("world → 世界 😀")

    sys.stdout.flush()
    assert sent.getvalue() == b"world \\u2192 \\u4e16\\u754c \\ud83d\\ude00\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["--version"], ["verify", "tests/runs/older_run/run"]], ids=" ".join
)
def test_a_reader_that_has_gone_is_141(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "petkit", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)

    assert (done.returncode, done.stderr) == (141, b"")


def test_remarks_on_a_full_disk_are_dropped(streams: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        streams.setattr(sys, "stderr", full)
        open_streams()

        for _ in range(3):
            console.note("stage_a/colon-1: done")


def test_closed_standard_input_is_reported(streams: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    streams.setattr(sys, "argv", ["petkit"])
    streams.setattr(sys, "stdin", None)

    assert leave("predict", "run", "--input", "-") == 2
    assert capsys.readouterr().err == "--input -: standard input is closed\n"


def test_a_deleted_folder_is_reported(streams: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    streams.setattr(sys, "argv", ["petkit"])
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()

    try:
        assert leave("doctor") == 2
    finally:
        os.chdir(here)
    assert capsys.readouterr().err == "the current folder has been deleted (change to another folder)\n"


@pytest.mark.parametrize("arguments", [["verify"], ["validate"], ["run"], ["init", "--labels", "a,b"]], ids=lambda them: them[0])
def test_a_name_too_long_is_a_mistake_of_the_user(
    arguments: list[str], streams: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    streams.setattr(sys, "argv", ["petkit"])

    assert leave(*arguments, 300 * "x") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long" in line and "xxx" in line
