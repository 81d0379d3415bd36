"""The command line: options in, exit code out. No logic, no heavy import until a command runs."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module

from petkit.cli import console
from petkit.cli.application import READER_GONE, app
from petkit.errors import PetkitError
from petkit.events import FORCE_TARGETS

__all__ = ["app", "main", "spell_out_force"]
INTERRUPTED = (130, 143)  # the exit codes by convention, of Ctrl-C and of SIGTERM; typer too makes 130 of Ctrl-C

for _commands in ("run", "classifier", "project"):  # they register themselves; the help has this order
    import_module(f"petkit.cli.{_commands}_commands")


def spell_out_force(arguments: list[str]) -> list[str]:
    """Write a bare ``--force`` as ``--force=stale``: an option with an optional value, which typer does not know."""
    if arguments[:1] == ["search-verbalizer"]:  # here it is a plain switch
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


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    try:
        try:
            app(spell_out_force(sys.argv[1:]))
        finally:
            sys.stdout.flush()  # a reader that has gone is met here, not while Python shuts down
    except PetkitError as error:
        if os.environ.get("PETKIT_DEBUG"):
            traceback.print_exception(error)
        console.show_error(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as leaving:
        code = leaving.code if isinstance(leaving, SystemExit) else INTERRUPTED[0]
        if code in INTERRUPTED:
            console.note(_interrupted(sys.argv[1:]))
        sys.exit(code)
    except BrokenPipeError:
        # The reader of our output has gone (head, a pager): leave quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE)
    except Exception as error:
        if os.environ.get("PETKIT_DEBUG"):
            raise
        console.show_failure(error)
        sys.exit(1)
