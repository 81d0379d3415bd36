"""Commands that train: ``run``, ``stage-a``, ``stage-b``, ``stage-c``, ``adapt``, ``pretrain-prompt``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from petkit.cli import app, console
from petkit.cli.options import DryRun, Force, Json, KeepAdapter, Offline, Out, PipelineFile, Quiet, Resume, Set, load
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
        if force is not None:
            _refuse_unknown("--force", force, FORCE_TARGETS)
        _refuse_unknown("--resume", resume, RESUME)
        loaded = load(pipeline, [*set_, *["student.keep_adapter=true"] * keep_adapter])
        from petkit.stages import pipeline as spine

        ready = spine.prepare(loaded, out or Path("runs") / loaded.spec.task, stages=stages, force=force, resume=resume)
        if dry_run:
            console.show(spine.dry_run(ready), console.show_forecast, as_json=json)
            return
        with console.RunDisplay(quiet=quiet) as display:
            result = spine.run(ready, display)
        if json:
            paths = {"run": str(result.folder), "student": str(result.student)}
            console.show_json({**paths, "ran": result.ran, "metrics": result.metrics})
        else:
            console.show_result(result)

    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml{options}")(command)


def _pretraining_command(name: str, result: str, text: str, example: str) -> None:
    """Add a command that trains on the unlabelled set alone; both take the same options.

    Args:
        result: ending of the default folder.
        example: a setting for the example in the help.
    """

    def command(
        pipeline: PipelineFile,
        out: Path | None = None,
        set_: Set = [],  # noqa: B006 (typer copies it)
        resume: Resume = "auto",
        offline: Offline = False,
        quiet: Quiet = False,
        json: Json = False,
    ) -> None:
        _refuse_unknown("--resume", resume, RESUME)
        loaded = load(pipeline, set_)
        function = name.replace("-", "_")
        train = getattr(import_module(f"petkit.pretraining.{function}"), function)
        with console.RunDisplay(quiet=quiet) as display:
            made = train(loaded, out or Path("runs") / f"{loaded.spec.task}-{result}", resume=resume, on_event=display)
        console.show(made, lambda made: console.say(made.summary(pipeline)), as_json=json)

    # Set here because its help names the folder.
    command.__annotations__["out"] = Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help=f"New folder. Default: runs/<task>-{result}.")
    ]
    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml --set {example}")(command)


def _refuse_unknown(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidInput([Problem.of_option(option, f"unknown {value!r}", f"one of {', '.join(known)}")])


_EXAMPLE = " --set data.train=my.jsonl --out runs/try-1"
_stages_command("run", STAGES, "All stages: from labels to an evaluated classifier.", _EXAMPLE)
_stages_command("stage-a", ("a",), "Stage A alone: train the teachers and score the unlabelled set.")
_stages_command("stage-b", ("b",), "Stage B alone: combine the teachers into soft labels.")
_stages_command("stage-c", ("c",), "Stage C alone: distil the soft labels into the classifier.")

_ADAPT = "Train the language model on the unlabelled set, for pipelines to start from."
_pretraining_command("adapt", "adapted", _ADAPT, "adapt.steps=1000")
_PROMPT = "Train a soft prompt on the unlabelled set, for prompt tuning to start from."
_pretraining_command("pretrain-prompt", "prompt", _PROMPT, "pretrain_prompt.objective=masked_lm")
