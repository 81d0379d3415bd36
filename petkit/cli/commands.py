"""The commands for a pipeline or a run, in the order of the help: those that train, use a classifier, or check."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit.cli import app, console, options
from petkit.cli.options import Json, Offline, PipelineFile, Quiet, Resume, Set, load
from petkit.cli.progress import RunDisplay
from petkit.errors import InvalidInput, Problem
from petkit.events import FORCE_TARGETS, RESUME, STAGES, Stage


def _stages_command(name: str, stages: tuple[Stage, ...], text: str, example: str = "") -> None:
    """Add a command that works on some stages; all of them take the same options, but stale steps are read by later ones only."""

    def command(
        pipeline: PipelineFile,
        out: options.Out = None,
        set_: Set = [],  # noqa: B006 (typer copies it)
        dry_run: options.DryRun = False,
        force: options.Force = None,
        resume: Resume = "auto",
        allow_stale: options.AllowStale = False,
        keep_adapter: options.KeepAdapter = False,
        offline: Offline = False,
        quiet: Quiet = False,
        json: Json = False,
    ) -> None:
        if force is not None:
            _refuse_unknown("--force", force, FORCE_TARGETS)
        _refuse_unknown("--resume", resume, RESUME)
        loaded = load(pipeline, [*set_, *["student.keep_adapter=true"] * keep_adapter])
        from petkit.stages import pipeline as spine

        folder = out or Path("runs") / loaded.spec.task
        ready = spine.prepare(loaded, folder, stages=stages, force=force, resume=resume, allow_stale=allow_stale)
        if dry_run:
            console.show(spine.dry_run(ready), console.show_forecast, as_json=json)
            return
        with RunDisplay(quiet=quiet) as display:
            result = spine.run(ready, display)
        if json:
            paths = {"run": str(result.folder), "student": str(result.student)}
            console.show_json({**paths, "ran": result.ran, "stale": result.stale, "metrics": result.metrics})
        else:
            console.show_result(result)

    if "a" in stages:
        taken = signature(command, eval_str=True)
        kept = [option for option in taken.parameters.values() if option.name != "allow_stale"]
        vars(command)["__signature__"] = taken.replace(parameters=kept)
    app.command(name, help=text, epilog=f"Example: petkit {name} petkit:ag_news{example}")(command)


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
        with RunDisplay(quiet=quiet) as display:
            made = train(loaded, out or Path("runs") / f"{loaded.spec.task}-{result}", resume=resume, on_event=display)
        console.show(made, lambda made: console.say(made.summary(pipeline)), as_json=json)

    # Set here because its help names the folder.
    command.__annotations__["out"] = Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help=f"New folder. Default: runs/<task>-{result}.")
    ]
    app.command(name, help=text, epilog=f"Example: petkit {name} petkit:ag_news --set {example}")(command)


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


@app.command(
    epilog='Example: petkit predict runs/ag-news "Stocks fell on Monday" · petkit predict runs/ag-news --input new.csv --output out.csv'
)
def predict(
    model: options.Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to label.", show_default=False)] = None,
    inputs: options.Inputs = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="jsonl, csv or tsv. Default: JSON Lines on standard output.")
    ] = None,
    columns: Annotated[str, typer.Option(metavar="all|none|A,B", help="Columns of the input that the output has.")] = "all",
    force: options.Overwrite = False,
    set_: options.Columns = [],  # noqa: B006 (typer copies it)
    with_: options.With = "student",
    offline: Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on a terminal too; with --output a summary.")] = False,
) -> None:
    """Label new rows."""
    input = _only("--input", inputs)
    if bool(texts) == (input is not None):
        raise InvalidInput([Problem.of_option("", "give texts, or --input FILE", "petkit predict --help shows examples")])
    teachers = _teachers(with_)
    from petkit.data.precheck import STANDARD_INPUT, look_at, look_at_standard_input
    from petkit.predict.columns import OutputColumns
    from petkit.predict.output import json_writer, kind_of, output_file, output_place
    from petkit.predict.settings import chosen_columns, column_settings, refuse_paths, set_columns
    from petkit.storage.destination import identities

    wanted, settings = chosen_columns(columns), column_settings(set_)
    refuse_paths(texts or ())
    read = identities(sys.stdin if input == "-" else input)
    target = None if output is None else output_place(output, model, read, force=force)
    if output is None and any(os.path.samestat(found, other) for found in read for other in identities(sys.stdout)):
        raise InvalidInput([Problem.of_option("--input", "is the file that standard output goes to", "choose another file")])
    lines = look_at_standard_input(console.standard_input()) if input == "-" else iter(())
    if input not in (None, "-"):  # before anything heavy is imported
        look_at(str(input))
    from petkit.predict.predictor import Predictor
    from petkit.predict.row_io import argument_rows, begun, file_rows, predict_rows, stream_rows

    predictor = Predictor.load(model, teachers=teachers)
    for note in () if quiet else predictor.notes:
        console.note(note)
    set_columns(predictor, settings)
    source = "the texts" if texts else STANDARD_INPUT if input == "-" else str(input)
    written = OutputColumns(predictor, "jsonl" if target is None else kind_of(target), wanted, source)
    if texts or input == "-":
        examples = begun(argument_rows(texts, predictor) if texts else stream_rows(lines, predictor), written)
    else:
        examples = file_rows(str(input), predictor, written)
    rows = predict_rows(examples, predictor)
    if texts and target is None and sys.stdout.isatty() and not json:
        console.show_predictions(texts, [prediction for _, prediction in rows if prediction is not None])
        return
    opened = (
        nullcontext(json_writer(sys.stdout, predictor, written)) if target is None else output_file(target, predictor, written)
    )
    count = empty = 0
    with opened as write:
        for example, prediction in rows:
            write(example, prediction)
            count, empty = count + 1, empty + (prediction is None)
    if not quiet:
        for remark in written.remarks(count, empty):
            console.note(remark)
    if json and target is not None:
        console.show_json({"output": str(output), "rows": count, "without_text": empty, "renamed": written.renamed})


@app.command(epilog="Example: petkit evaluate runs/ag-news test.jsonl --json")
def evaluate(
    model: options.Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: jsonl, json, csv, tsv, parquet or hf://.", show_default=False)
    ],
    set_: options.Columns = [],  # noqa: B006 (typer copies it)
    group: Annotated[
        str | None,
        typer.Option(
            "--group", metavar="COLUMN", help="Rows with the same value here belong together: exact match.", show_default=False
        ),
    ] = None,
    with_: options.With = "student",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Compare predictions with labels."""
    teachers = _teachers(with_)
    from petkit.data.precheck import look_at
    from petkit.predict.settings import column_settings, set_columns

    settings = column_settings(set_)
    look_at(data)
    from petkit.predict.predictor import Predictor
    from petkit.predict.row_io import evaluate_file

    predictor = Predictor.load(model, teachers=teachers)
    set_columns(predictor, settings)
    for note in predictor.notes:
        console.note(note)
    metrics = evaluate_file(predictor, data, console.note, group=group).to_dict()
    console.show_json(metrics) if json else console.show_metrics(metrics)


def _only(option: str, values: Sequence[str] | None) -> str | None:
    """Return the value of an option that the command line would else take the last of; files would be left out."""
    if values and len(values) > 1:
        raise InvalidInput([Problem.of_option(option, f"given {len(values)} times", "give it once; label one file at a time")])
    return values[0] if values else None


def _teachers(who: str) -> bool:
    if who not in ("student", "teachers"):
        raise InvalidInput([Problem.of_option("--with", f"unknown {who!r}", "student or teachers")])
    return who == "teachers"


@app.command(epilog="Example: petkit validate petkit:ag_news")
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
        with RunDisplay(quiet=quiet) as display:
            found = score(loaded, display)
        console.show(found, show, as_json=json)

    app.command(name, help=text, epilog=f"Example: petkit {name} petkit:ag_news --set {example}")(command)


_ZERO_SHOT = "Zero-shot accuracy of every pattern, plain and calibrated; writes nothing."
_scoring_command("zero-shot", "commands.zero_shot", console.show_zero_shot, _ZERO_SHOT, "data.train=my.jsonl")
_RANK = "Order the patterns by how well they suit the model, without a development set; writes nothing."
_scoring_command("rank-patterns", "prompt_search.pattern_ranking", console.show_ranking, _RANK, "patterns=my-patterns.yaml")


@app.command("search-verbalizer", epilog="Example: petkit search-verbalizer petkit:ag_news --out my-words.yaml")
def search_verbalizer(
    pipeline: PipelineFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a verbalizer file. Default: show only.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="ID", help="For this pattern alone. Default: all together.")] = None,
    force: options.Overwrite = False,
    set_: Set = [],  # noqa: B006 (typer copies it)
    offline: Offline = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find label words on the labelled rows."""
    loaded = load(pipeline, set_)
    from petkit.commands import search_verbalizer as found_verbalizer

    if out is not None:
        found_verbalizer.verbalizer_file(out, loaded, force=force)
    with RunDisplay(quiet=quiet) as display:
        found = found_verbalizer.search_verbalizer(loaded, pattern, display)
    if out is not None:
        found.write(out, loaded, force=force)
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
    """Check every file of a run for damage; writes nothing. Exit code 1 if one is damaged, 2 if one cannot be read."""
    from petkit.runs.verify import verify as look

    found = look(run)
    console.show(found, console.show_verification, as_json=json)
    if not found.whole:
        raise typer.Exit(1 if found.damaged else 2)
