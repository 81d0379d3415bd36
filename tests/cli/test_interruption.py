"""What a stopped command says, and a run whose progress nobody reads any more."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from petkit import cli
from petkit.cli import console


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["run", "p.yaml"], "interrupted; finished work is kept, run the same command to go on"),
        (["run", "p.yaml", "--force"], "interrupted; finished work is kept, run the same command to go on"),
        (["stage-a", "p.yaml", "--force", "a"], "interrupted; finished work is kept, --force would do it once more"),
        (["predict", "runs/x", "text"], "interrupted"),
    ],
)
def test_what_an_interruption_costs(
    arguments: list[str], reported: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    monkeypatch.setattr(sys, "argv", ["petkit", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 130 and capsys.readouterr().err == f"{reported}\n"


STOPPED_WHILE_IMPORTING = """
import sys

class Stop:
    def find_spec(self, name, *rest):
        if name == "petkit.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
from petkit.__main__ import main
main()
"""


def test_an_interruption_while_the_command_is_imported_leaves_no_traceback() -> None:
    left = subprocess.run([sys.executable, "-c", STOPPED_WHILE_IMPORTING], capture_output=True, text=True, check=False)
    assert (left.returncode, left.stdout, left.stderr) == (130, "", "")


def test_a_run_goes_on_when_nobody_reads_its_progress() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    remarks = console.Remarks(file=Gone())
    remarks.print("one")
    remarks.print("two")
    assert remarks.quiet
