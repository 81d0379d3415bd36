"""Commands that look after what was made: ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petkit.cli import console
from petkit.cli.application import app
from petkit.cli.options import Json


@app.command(epilog="Example: petkit verify runs/ag-news")
def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a folder a finished step was copied to.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Prove that every file of a run is whole; writes nothing. Exit code 1 if one is damaged."""
    from petkit.runs.verify import verify as look

    found = look(run)
    console.show_json(found.to_dict()) if json else console.show_verification(found)
    if not found.whole:
        raise typer.Exit(1)
