"""The command line: options in, exit code out. No logic, no heavy import until a command runs."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from petkit.cli import console
from petkit.errors import InvalidInput, PetkitError, Problem
from petkit.events import FORCE_TARGETS

__all__ = ["app", "main", "spell_out_force"]
# The exit codes by convention: of Ctrl-C (typer's too) and SIGTERM, and of SIGPIPE, when the reader of the output has gone.
INTERRUPTED, READER_GONE = (130, 143), 141


class _Commands(TyperGroup):
    """All commands. A reader of their output that has gone (head, a pager) ends them, which typer would call a failure."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _reader_may_go():  # while the help is printed
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _reader_may_go():
            return super().invoke(ctx)


@contextmanager
def _reader_may_go() -> Iterator[None]:
    """Leave with the code of SIGPIPE where the output has no reader any more."""
    try:
        yield
    except BrokenPipeError:
        raise SystemExit(READER_GONE) from None
    except Exception as error:
        if hasattr(error, "format_message"):  # a mistake in the options, which typer prints
            _report_as_json([Problem.of_option("", error.format_message())])
        raise


app = typer.Typer(
    cls=_Commands,
    name="petkit",
    help="Few-shot text classification: a handful of labels, unlabelled text and a few cloze patterns give a classifier.",
    epilog="Start: petkit init my-task --labels a,b,c · petkit run my-task/pipeline.yaml · petkit predict runs/my-task 'some text'",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Answer ``--version``; refuse to work in a folder that is gone, where libraries fail in words of their own."""
    if version:
        from petkit import __version__

        console.say(f"petkit {__version__}")
        raise typer.Exit
    try:
        Path.cwd()
    except OSError:
        raise InvalidInput([Problem.of_option("", "the current folder has been deleted", "change to another folder")]) from None


for _name in ("commands", "project_commands"):  # they register themselves, in the order of the help
    import_module(f"petkit.cli.{_name}")


def spell_out_force(arguments: list[str]) -> list[str]:
    """Write a bare ``--force`` as ``--force=stale``: an option with an optional value, which typer does not know."""
    if arguments[:1] in (["search-verbalizer"], ["predict"]):  # here it is a plain switch
        return arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)  # what follows are no options
    pairs = zip(arguments[:end], [*arguments[1:end], ""], strict=False)
    spelt = ["--force=stale" if pair[0] == "--force" and pair[1] not in FORCE_TARGETS else pair[0] for pair in pairs]
    return spelt + arguments[end:]


def _interrupted(arguments: list[str]) -> str:
    """Return the message after an interruption."""
    if not {"run", "stage-a", "stage-b", "stage-c", "adapt", "pretrain-prompt"}.intersection(arguments[:1]):
        return "interrupted"
    forced = any(argument.startswith("--force") and argument != "--force=stale" for argument in spell_out_force(arguments))
    return f"interrupted; finished work is kept, {'--force would do it once more' if forced else 'run the same command to go on'}"


def _is_name(error: Exception) -> bool:
    """Return whether the system refused a name that the user gave: too long, or a loop of links."""
    return isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP)


def _report_as_json(mistakes: Iterable[Problem]) -> None:
    """Print mistakes on standard output where ``--json`` is given; standard error has them in words."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    if "--json" in sys.argv[:end]:
        console.show_json({"mistakes": [asdict(mistake) for mistake in mistakes]})


def _drop_output() -> None:
    """Lead standard output nowhere, so that what it cannot take is not written once more while Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    try:
        try:
            app(spell_out_force(sys.argv[1:]))
        finally:
            sys.stdout.flush()  # a reader that has gone is met here, not while Python shuts down
    except (KeyboardInterrupt, SystemExit) as leaving:
        code = leaving.code if isinstance(leaving, SystemExit) else INTERRUPTED[0]
        if code in INTERRUPTED:
            console.note(_interrupted(sys.argv[1:]))
        sys.exit(code)
    except BrokenPipeError:
        # The reader of our output has gone (head, a pager): leave quietly.
        _drop_output()
        sys.exit(READER_GONE)
    except Exception as error:
        if os.environ.get("PETKIT_DEBUG"):
            if not isinstance(error, PetkitError):
                raise
            traceback.print_exception(error)
        console.show_error(error)
        try:
            if isinstance(error, PetkitError) and error.exit_code == 2:
                _report_as_json(getattr(error, "problems", None) or [Problem.of_option("", str(error))])
            sys.stdout.flush()
        except OSError:
            _drop_output()
        sys.exit(error.exit_code if isinstance(error, PetkitError) else 2 if _is_name(error) else 1)
