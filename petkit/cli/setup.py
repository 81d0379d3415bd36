"""Commands for a new machine or project: ``init``, ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petkit.cli import console
from petkit.cli.application import app
from petkit.cli.options import Json, Offline


@app.command(epilog="Example: petkit init my-task --labels complaint,praise,question --from messages.csv")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.", show_default=False)],
    labels: Annotated[str, typer.Option(metavar="A,B,C", help="The labels.")] = "",
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Rows to start from; those without a label are unlabelled.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Write a project to fill in."""
    from petkit.data.precheck import look_at

    if source is not None:
        look_at(source)
    from petkit.commands.init_project import create_project

    names = [label.strip() for label in labels.split(",")] if labels else []
    console.show_scaffold(create_project(folder, names, source))


@app.command(epilog="Example: petkit doctor --json")
def doctor(json: Json = False) -> None:
    """Check this installation and machine."""
    from petkit.commands.doctor import examine

    findings = examine()
    console.show_json(console.as_data(findings)) if json else console.show_findings(findings)
    if not all(finding.healthy for finding in findings):
        raise typer.Exit(1)
