"""The commands that need no pipeline: the library, a new project, the installation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from petkit.cli import app, console
from petkit.cli.options import Json, Offline
from petkit.errors import InvalidInput, Problem


@app.command(epilog="Example: petkit library --json")
def library(json: Json = False) -> None:
    """List the patterns, verbalizers, pipelines and examples that come with petkit."""
    from petkit.config.library import entries

    found = entries()
    console.show_json([asdict(entry) for entry in found]) if json else console.show_library(found)


@app.command(
    epilog="Example: petkit init my-task --labels complaint,praise,question --from messages.csv · "
    "petkit init try-it --example support-tickets"
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.", show_default=False)],
    labels: Annotated[str, typer.Option(metavar="A,B,C", help="The labels.")] = "",
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Rows to start from; those without a label are unlabelled.")
    ] = None,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write an example of petkit's library (see petkit library).")
    ] = None,
    offline: Offline = False,
) -> None:
    """Write a project to fill in, or an example to run."""
    from petkit.data.precheck import look_at

    if example is not None and (labels or source is not None):
        hint = "leave out --labels and --from"
        raise InvalidInput([Problem.of_option("--example", "has labels and rows of its own", hint)])
    if source is not None:
        look_at(source)
    from petkit.commands.init_project import create_example, create_project

    if example is not None:
        console.show_scaffold(create_example(folder, example))
        return

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
