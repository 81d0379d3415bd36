"""The Typer application that the commands of this package register with."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from petkit.cli import console

READER_GONE = 141  # the exit code by convention: of SIGPIPE


class _Commands(TyperGroup):
    """All commands. A reader of their output that has gone (head, a pager) ends them, which typer would call a failure."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise SystemExit(READER_GONE) from None


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
    """Answer ``--version``."""
    if version:
        from petkit import __version__

        console.say(f"petkit {__version__}")
        raise typer.Exit
