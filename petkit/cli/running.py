"""Commands that train: ``run``, ``stage-a``, ``stage-b``, ``stage-c``, ``adapt``, ``pretrain-prompt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit.cli import console
from petkit.cli.application import app
from petkit.cli.options import DryRun, Force, Json, KeepAdapter, Offline, Out, PipelineFile, Quiet, Resume, Set, load
from petkit.cli.progress import RunDisplay
from petkit.errors import InvalidInput, Problem
from petkit.events import FORCE_TARGETS, RESUME, STAGES, Stage


def _stages_command(name: str, stages: tuple[Stage, ...], text: str, options: str = "") -> None:
    """Add a command that works on some stages; all of them take the same options."""

    def command(
        pipeline: PipelineFile,
        out: Out = None,
        set_: Set = [],  # noqa: B006 (typer copies it)
        dry_run: DryRun = False,
        force: Force = None,
        resume: Resume = "auto",
        keep_adapter: KeepAdapter = False,
        offline: Offline = False,
        quiet: Quiet = False,
        json: Json = False,
    ) -> None:
        kept = ["student.keep_adapter=true"] if keep_adapter else []
        _run(stages, pipeline, out, [*set_, *kept], dry_run, force, resume, quiet, json)

    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml{options}")(command)


_stages_command(
    "run", STAGES, "All stages: from labels to an evaluated classifier.", " --set data.train=my.jsonl --out runs/try-1"
)
_stages_command("stage-a", ("a",), "Stage A alone: train the teachers and score the unlabelled set.")
_stages_command("stage-b", ("b",), "Stage B alone: combine the teachers into soft labels.")
_stages_command("stage-c", ("c",), "Stage C alone: distil the soft labels into the classifier.")


@app.command(epilog="Example: petkit adapt pipelines/ag_news.yaml --set adapt.steps=1000")
def adapt(
    pipeline: PipelineFile,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="New folder. Default: runs/<task>-adapted.")] = None,
    set_: Set = [],  # noqa: B006 (typer copies it)
    resume: Resume = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the language model on the unlabelled set, for pipelines to start from."""
    _refuse_unknown("--resume", resume, RESUME)
    loaded = load(pipeline, set_)
    from petkit.pretraining.adapt import adapt as adapt_model

    with RunDisplay(quiet=quiet) as display:
        adapted = adapt_model(loaded, out or Path("runs") / f"{loaded.spec.task}-adapted", resume=resume, on_event=display)
    console.show_json(adapted.to_dict()) if json else console.say(adapted.summary(pipeline))


@app.command(
    "pretrain-prompt", epilog="Example: petkit pretrain-prompt pipelines/ag_news.yaml --set pretrain_prompt.objective=masked_lm"
)
def pretrain_prompt(
    pipeline: PipelineFile,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="New folder. Default: runs/<task>-prompt.")] = None,
    set_: Set = [],  # noqa: B006 (typer copies it)
    resume: Resume = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a soft prompt on the unlabelled set, for prompt tuning to start from."""
    _refuse_unknown("--resume", resume, RESUME)
    loaded = load(pipeline, set_)
    from petkit.pretraining.pretrain_prompt import pretrain_prompt as pretrain

    with RunDisplay(quiet=quiet) as display:
        made = pretrain(loaded, out or Path("runs") / f"{loaded.spec.task}-prompt", resume=resume, on_event=display)
    console.show_json(made.to_dict()) if json else console.say(made.summary(pipeline))


def _run(
    stages: Any,
    pipeline: Path,
    out: Path | None,
    overrides: list[str],
    dry_run: bool,
    force: str | None,
    resume: str,
    quiet: bool,
    json: bool,
) -> None:
    if force is not None:
        _refuse_unknown("--force", force, FORCE_TARGETS)
    _refuse_unknown("--resume", resume, RESUME)
    loaded = load(pipeline, overrides)
    from petkit.stages import pipeline as spine

    folder = out or Path("runs") / loaded.spec.task
    if dry_run:
        from petkit.stages.forecast import forecast

        expected = forecast(loaded, folder, stages=stages, force=force, resume=resume)
        console.show_json(expected.to_dict()) if json else console.show_forecast(expected)
        return
    with RunDisplay(quiet=quiet) as display:
        result = spine.run(loaded, folder, stages=stages, force=force, resume=resume, on_event=display)
    if json:
        console.show_json(
            {"run": str(result.folder), "student": str(result.student), "ran": result.ran, "metrics": result.metrics}
        )
    else:
        console.show_result(result)


def _refuse_unknown(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidInput([Problem.of_option(option, f"unknown {value!r}", f"one of {', '.join(known)}")])
