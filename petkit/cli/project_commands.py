"""Commands for a project as a whole: ``verify``, ``init``, ``doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from petkit.cli import console
from petkit.cli.application import app
from petkit.cli.options import Json, Offline


@app.command(epilog="Example: petkit verify runs/ag-news")
def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a folder a finished step was copied to.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Check every file of a run for damage; writes nothing. Exit code 1 if one is damaged."""
    from petkit.runs.verify import verify as look

    found = look(run)
    console.show_json(found.to_dict()) if json else console.show_verification(found)
    if not found.whole:
        raise typer.Exit(1)


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
    console.show_json([asdict(finding) for finding in findings]) if json else console.show_findings(findings)
    if not all(finding.healthy for finding in findings):
        raise typer.Exit(1)
