"""Options that several commands take, each in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petkit import network


def _forbid_network(asked: bool) -> bool:
    """Take ``--offline`` in while options are read: before any library that fetches is imported."""
    if asked:
        network.forbid()
    return asked


PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/<task>.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. teachers.steps=50. May be repeated.")
]
Force = Annotated[
    str | None,
    typer.Option(
        metavar="[STAGE]", help="Redo steps made with other settings; with a, b, c, evaluation or all also those finished ones."
    ),
]
Resume = Annotated[
    str,
    typer.Option(
        metavar="auto|require|never",
        help="Go on with a run that is there; or require one, begun with these versions on such a machine; or none.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, why, and what it would take; write nothing.")]
KeepAdapter = Annotated[
    bool, typer.Option("--keep-adapter", help="Keep the student's adapter beside the model it is merged into.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a classifier folder.", show_default=False)]
Offline = Annotated[
    bool,
    typer.Option("--offline", callback=_forbid_network, help="Never use the network; hub names only from the local cache."),
]
With = Annotated[str, typer.Option("--with", metavar="student|teachers", help="Who predicts.")]


def load(pipeline: Path, overrides: list[str]) -> Any:
    """Read a pipeline file and look at the data it names, before anything heavy is imported: most mistakes show here.

    A pipeline that names nothing on the hub needs no network, and gets none.
    """
    from petkit.config.loader import load_pipeline
    from petkit.data.precheck import look_at_pipeline

    loaded = load_pipeline(pipeline, overrides)
    look_at_pipeline(loaded)
    if not loaded.spec.hub_names:
        network.forbid()
    return loaded
