"""Options that several commands take, each in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petkit import network


def _forbid_network(offline: bool) -> bool:
    """Apply ``--offline`` while options are parsed: before any library that downloads is imported."""
    if offline:
        network.forbid()
    return offline


PipelineFile = Annotated[
    Path,
    typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file, or petkit:NAME (see petkit library).", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="FILE|-",
        help="jsonl, json, csv, tsv, parquet; - for standard input: JSON Lines, or one text per line.",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/<task>.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. teachers.steps=50. May be repeated.")
]
Columns = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="data.columns.FIELD=COLUMN", help="Column of a field, the label or the id, if it has another name."
    ),
]
Force = Annotated[
    str | None,
    typer.Option(
        metavar="[STAGE]", help="Redo stale steps; with a, b, c, evaluation or all, also redo finished steps of that stage."
    ),
]
Overwrite = Annotated[bool, typer.Option("--force", help="Overwrite FILE.")]
Resume = Annotated[
    str,
    typer.Option(
        metavar="auto|require|never",
        help="auto: resume if the run exists; require: fail unless it exists with the same versions and hardware; "
        "never: fail if it exists.",
    ),
]
AllowStale = Annotated[
    bool, typer.Option("--allow-stale", help="Read steps of earlier stages even if they were made with other settings.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, why, and what it would take; write nothing.")]
KeepAdapter = Annotated[
    bool, typer.Option("--keep-adapter", help="Keep the student's adapter in addition to the model it is merged into.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a classifier folder.", show_default=False)]
Offline = Annotated[
    bool,
    typer.Option("--offline", callback=_forbid_network, help="Never use the network; hub names only from the local cache."),
]
With = Annotated[str, typer.Option("--with", metavar="student|teachers", help="The model that predicts.")]


def load(pipeline: Path, overrides: list[str]) -> Any:
    """Read a pipeline file and check the data it names, before any heavy import: most mistakes are found here.

    The network is forbidden where the pipeline names nothing on the Hub.
    """
    from petkit.config.loader import load_pipeline
    from petkit.data.precheck import look_at_pipeline

    loaded = load_pipeline(pipeline, overrides)
    look_at_pipeline(loaded)
    if not loaded.spec.hub_names:
        network.forbid()
    return loaded
