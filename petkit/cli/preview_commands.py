"""Commands that show something before anything is trained: ``validate``, ``zero-shot``, ``rank-patterns``, ``search-verbalizer``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit.cli import console
from petkit.cli.application import app
from petkit.cli.options import Json, Offline, PipelineFile, Quiet, Set, load
from petkit.cli.progress import RunDisplay


@app.command(epilog="Example: petkit validate pipelines/ag_news.yaml")
def validate(pipeline: PipelineFile, set_: Set = [], offline: Offline = False, json: Json = False) -> None:  # noqa: B006
    """Find every mistake before training."""
    loaded = load(pipeline, set_)
    from petkit.commands.validate import check_pipeline

    check = check_pipeline(loaded)
    console.show_json(asdict(check)) if json else console.show_check(check)


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
        with RunDisplay(quiet=quiet) as display:
            found = score(loaded, display)
        console.show_json(asdict(found)) if json else show(found)

    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml --set {example}")(command)


_scoring_command(
    "zero-shot",
    "commands.zero_shot",
    console.show_zero_shot,
    "Zero-shot accuracy of every pattern, plain and calibrated; writes nothing.",
    "data.train=my.jsonl",
)
_scoring_command(
    "rank-patterns",
    "prompt_search.pattern_ranking",
    console.show_ranking,
    "Order the patterns by how well they suit the model, without a development set; writes nothing.",
    "patterns=my-patterns.yaml",
)


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
    with RunDisplay(quiet=quiet) as display:
        found = found_verbalizer.search_verbalizer(loaded, pattern, display)
    if out is not None:
        found.write(out, force=force)
    console.show_json(asdict(found)) if json else console.show_verbalizer(found)
    if out is not None and not json:
        console.say(f"written to {out}")
