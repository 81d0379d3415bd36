"""The command line as a function: arguments and standard input in, exit code and both outputs out."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import petkit
from petkit.cli import main
from tests.cli import project


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def petkit_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``petkit_command("run", "pipeline.yaml")`` runs ``petkit`` in this process, through its real entry."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        # The program's name comes from here too; "python -m pytest" would be another one.
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
        monkeypatch.setattr(sys, "argv", ["petkit", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        try:
            main()
            code: int | str | None = 0
        except SystemExit as leaving:
            code = leaving.code
        captured = capsys.readouterr()
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def tiny(here: Path, model_folder: Callable[[str], Path]) -> Path:
    """The tiny project in the current, otherwise empty folder."""
    project.write(here, model_folder("bert"))
    return here


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The run folder of the tiny project, finished once for all tests: read it only."""
    folder = tmp_path_factory.mktemp("finished")
    pipeline = project.write(folder, model_folder("bert"))
    return petkit.run(pipeline, folder / "run").folder
