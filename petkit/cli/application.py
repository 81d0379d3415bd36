"""The Typer application that the commands of this package register with."""

from __future__ import annotations

from typing import Annotated

import typer

from petkit import console

app = typer.Typer(
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
