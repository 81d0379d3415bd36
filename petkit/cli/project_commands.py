"""Commands that train nothing: ``validate``, ``zero-shot``, ``rank-patterns``, ``search-verbalizer``, ``verify``, ``init``, ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit.cli import app, console
from petkit.cli.options import Json, Offline, PipelineFile, Quiet, Set, load


@app.command(epilog="Example: petkit validate pipelines/ag_news.yaml")
def validate(pipeline: PipelineFile, set_: Set = [], offline: Offline = False, json: Json = False) -> None:  # noqa: B006
    """Find every mistake before training."""
    loaded = load(pipeline, set_)
    from petkit.commands.validate import check_pipeline

    console.show(check_pipeline(loaded), console.show_check, as_json=json)


def _scoring_command(name: str, module: str, show: Callable[[Any], None], text: str, example: str) -> None:
    """Add a command that scores the untrained patterns; its function has its name, in ``module``."""

    def command(
        pipeline: PipelineFile,
        set_: Set = [],  # noqa: B006 (typer copies it)
        offline: Offline = False,
        quiet: Quiet = False,
        json: Json = False,
    ) -> None:
        loaded = load(pipeline, set_)
        score = getattr(import_module(f"petkit.{module}"), name.replace("-", "_"))
        with console.RunDisplay(quiet=quiet) as display:
            found = score(loaded, display)
        console.show(found, show, as_json=json)

    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml --set {example}")(command)


_ZERO_SHOT = "Zero-shot accuracy of every pattern, plain and calibrated; writes nothing."
_scoring_command("zero-shot", "commands.zero_shot", console.show_zero_shot, _ZERO_SHOT, "data.train=my.jsonl")
_RANK = "Order the patterns by how well they suit the model, without a development set; writes nothing."
_scoring_command("rank-patterns", "prompt_search.pattern_ranking", console.show_ranking, _RANK, "patterns=my-patterns.yaml")


@app.command("search-verbalizer", epilog="Example: petkit search-verbalizer pipelines/ag_news.yaml --out my-words.yaml")
def search_verbalizer(
    pipeline: PipelineFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a verbalizer file. Default: show only.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="ID", help="For this pattern alone. Default: all together.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    set_: Set = [],  # noqa: B006 (typer copies it)
    offline: Offline = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find label words on the labelled rows."""
    loaded = load(pipeline, set_)
    from petkit.commands import search_verbalizer as found_verbalizer

    if out is not None:
        found_verbalizer.refuse_taken(out, force=force)
    with console.RunDisplay(quiet=quiet) as display:
        found = found_verbalizer.search_verbalizer(loaded, pattern, display)
    if out is not None:
        found.write(out, force=force)
    console.show(found, console.show_verbalizer, as_json=json)
    if out is not None and not json:
        console.say(f"written to {out}")


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
    console.show(found, console.show_verification, as_json=json)
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
