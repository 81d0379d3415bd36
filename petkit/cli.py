"""The command line: options in, exit code out. No logic, no heavy import until a command runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit import console
from petkit.errors import InvalidInput, PetkitError, Problem
from petkit.events import FORCE_TARGETS, STAGES, Stage

app = typer.Typer(
    name="petkit",
    help="Few-shot text classification: a handful of labels, unlabelled text and a few cloze patterns give a classifier.",
    epilog="Start: petkit init my-task --labels a,b,c · petkit run my-task/pipeline.yaml · petkit predict runs/my-task 'some text'",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130  # the exit code by convention, and what typer makes of Ctrl-C

PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/<task>.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. teachers.steps=50. May be repeated.")
]
Force = Annotated[
    str | None,
    typer.Option(
        metavar="[STAGE]", help="Redo steps made by other settings; with a, b, c, evaluation or all also those finished ones."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run and why; write nothing.")]
KeepAdapter = Annotated[
    bool, typer.Option("--keep-adapter", help="Keep the student's adapter beside the model it is merged into.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a classifier folder.", show_default=False)]
With = Annotated[str, typer.Option("--with", metavar="student|teachers", help="Who predicts.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Answer ``--version``."""
    if version:
        from petkit import __version__

        console.say(f"petkit {__version__}")
        raise typer.Exit


def _stages_command(name: str, stages: tuple[Stage, ...], text: str, options: str = "") -> None:
    """Add a command that works on some stages; all of them take the same options."""

    def command(
        pipeline: PipelineFile,
        out: Out = None,
        set_: Set = [],  # noqa: B006 (typer copies it)
        dry_run: DryRun = False,
        force: Force = None,
        keep_adapter: KeepAdapter = False,
        quiet: Quiet = False,
        json: Json = False,
    ) -> None:
        kept = ["student.keep_adapter=true"] if keep_adapter else []
        _run(stages, pipeline, out, [*set_, *kept], dry_run, force, quiet, json)

    app.command(name, help=text, epilog=f"Example: petkit {name} pipelines/ag_news.yaml{options}")(command)


_stages_command(
    "run", STAGES, "All stages: from labels to an evaluated classifier.", " --set data.train=my.jsonl --out runs/try-1"
)
_stages_command("stage-a", ("a",), "Stage A alone: train the teachers and score the unlabelled set.")
_stages_command("stage-b", ("b",), "Stage B alone: combine the teachers into soft labels.")
_stages_command("stage-c", ("c",), "Stage C alone: distil the soft labels into the classifier.")


@app.command(
    epilog='Example: petkit predict runs/ag-news "Stocks fell on Monday" · petkit predict runs/ag-news --input new.csv --output out.csv'
)
def predict(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to label.", show_default=False)] = None,
    input: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="jsonl, csv, tsv, parquet; - for standard input: JSON Lines, or one text per line."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="jsonl, csv or tsv. Default: JSON Lines on standard output.")
    ] = None,
    with_: With = "student",
) -> None:
    """Label new rows."""
    if bool(texts) == (input is not None):
        raise InvalidInput([Problem("", None, "", "give texts, or --input FILE", "petkit predict --help shows examples")])
    from petkit.deliver.predictor import Predictor
    from petkit.deliver.rows import argument_rows, json_writer, output_file, predict_rows, source_of, stream_rows

    predictor = Predictor.load(model, teachers=_teachers(with_))
    examples: Any
    if texts:
        examples = argument_rows(texts, predictor)
    elif input == "-":
        examples = stream_rows(sys.stdin.buffer, predictor)
    else:
        examples = source_of(str(input), predictor, labelled=False)
    rows = predict_rows(examples, predictor)
    if output is not None:
        with output_file(output, predictor) as write:
            for example, prediction in rows:
                write(example, prediction)
    elif texts and sys.stdout.isatty():
        console.show_predictions(texts, [prediction for _, prediction in rows])
    else:
        write = json_writer(sys.stdout, predictor)
        for example, prediction in rows:
            write(example, prediction)


@app.command(epilog="Example: petkit evaluate runs/ag-news test.jsonl --json")
def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: jsonl, csv, tsv, parquet or hf://.", show_default=False)
    ],
    with_: With = "student",
    json: Json = False,
) -> None:
    """Compare predictions with labels."""
    from petkit.deliver.evaluation import evaluate_file
    from petkit.deliver.predictor import Predictor

    metrics = evaluate_file(Predictor.load(model, teachers=_teachers(with_)), data).to_dict()
    console.show_json(metrics) if json else console.show_metrics(metrics)


@app.command(epilog="Example: petkit validate pipelines/ag_news.yaml")
def validate(pipeline: PipelineFile, set_: Set = [], json: Json = False) -> None:  # noqa: B006 (typer copies it)
    """Find every mistake before training."""
    from dataclasses import asdict

    loaded = _load(pipeline, set_)
    from petkit.insight.check import check_pipeline

    check = check_pipeline(loaded)
    console.show_json(asdict(check)) if json else console.show_check(check)


@app.command("zero-shot", epilog="Example: petkit zero-shot pipelines/ag_news.yaml --set data.train=my.jsonl")
def zero_shot(pipeline: PipelineFile, set_: Set = [], quiet: Quiet = False, json: Json = False) -> None:  # noqa: B006
    """What every pattern knows untrained, plain and calibrated; writes nothing."""
    from dataclasses import asdict

    loaded = _load(pipeline, set_)
    from petkit.insight.zero_shot import zero_shot as ask

    with console.RunDisplay(quiet=quiet) as display:
        found = ask(loaded, display)
    console.show_json(asdict(found)) if json else console.show_zero_shot(found)


@app.command("rank-patterns", epilog="Example: petkit rank-patterns pipelines/ag_news.yaml --set patterns=my-patterns.yaml")
def rank_patterns(pipeline: PipelineFile, set_: Set = [], quiet: Quiet = False, json: Json = False) -> None:  # noqa: B006
    """Order the patterns by how well they suit the model, without a development set; writes nothing."""
    from dataclasses import asdict

    loaded = _load(pipeline, set_)
    from petkit.insight.ranking import rank_patterns as rank

    with console.RunDisplay(quiet=quiet) as display:
        found = rank(loaded, display)
    console.show_json(asdict(found)) if json else console.show_ranking(found)


@app.command("search-verbalizer", epilog="Example: petkit search-verbalizer pipelines/ag_news.yaml --out my-words.yaml")
def search_verbalizer(
    pipeline: PipelineFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a verbalizer file. Default: show only.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(metavar="ID", help="For this pattern alone. Default: all together.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    set_: Set = [],  # noqa: B006 (typer copies it)
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find label words on the few-shot examples."""
    from dataclasses import asdict

    loaded = _load(pipeline, set_)
    from petkit.deliver import found_verbalizer

    if out is not None:
        found_verbalizer.refuse_taken(out, force=force)
    with console.RunDisplay(quiet=quiet) as display:
        found = found_verbalizer.search_verbalizer(loaded, pattern, display)
    if out is not None:
        found.write(out, force=force)
    console.show_json(asdict(found)) if json else console.show_verbalizer(found)
    if out is not None and not json:
        console.say(f"written to {out}")


@app.command(epilog="Example: petkit init my-task --labels complaint,praise,question --from messages.csv")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.", show_default=False)],
    labels: Annotated[str, typer.Option(metavar="A,B,C", help="The labels.")] = "",
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Rows to start from; those without a label are unlabelled.")
    ] = None,
) -> None:
    """Write a project to fill in."""
    from petkit.deliver.scaffold import create_project

    names = [label.strip() for label in labels.split(",")] if labels else []
    console.show_scaffold(create_project(folder, names, source))


@app.command(epilog="Example: petkit adapt pipelines/ag_news.yaml --set adapt.steps=1000")
def adapt(
    pipeline: PipelineFile,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="New folder. Default: runs/<task>-adapted.")] = None,
    set_: Set = [],  # noqa: B006 (typer copies it)
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the language model on the unlabelled set, for pipelines to start from."""
    loaded = _load(pipeline, set_)
    from petkit.stages.adaptation import adapt as adapt_model

    with console.RunDisplay(quiet=quiet) as display:
        adapted = adapt_model(loaded, out or Path("runs") / f"{loaded.spec.task}-adapted", listen=display)
    console.show_json(adapted.to_dict()) if json else console.say(adapted.summary(pipeline))


@app.command(
    "pretrain-prompt", epilog="Example: petkit pretrain-prompt pipelines/ag_news.yaml --set pretrain_prompt.objective=masked_lm"
)
def pretrain_prompt(
    pipeline: PipelineFile,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="New folder. Default: runs/<task>-prompt.")] = None,
    set_: Set = [],  # noqa: B006 (typer copies it)
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a soft prompt on the unlabelled set, for prompt tuning to start from."""
    loaded = _load(pipeline, set_)
    from petkit.stages.prompt_pretraining import pretrain_prompt as pretrain

    with console.RunDisplay(quiet=quiet) as display:
        made = pretrain(loaded, out or Path("runs") / f"{loaded.spec.task}-prompt", listen=display)
    console.show_json(made.to_dict()) if json else console.say(made.summary(pipeline))


@app.command(epilog="Example: petkit doctor --json")
def doctor(json: Json = False) -> None:
    """Check this installation and machine."""
    from petkit.insight.doctor import examine

    findings = examine()
    console.show_json(console.as_data(findings)) if json else console.show_findings(findings)
    if not all(finding.healthy for finding in findings):
        raise typer.Exit(1)


def _run(
    stages: Any, pipeline: Path, out: Path | None, overrides: list[str], dry_run: bool, force: str | None, quiet: bool, json: bool
) -> None:
    if force is not None and force not in FORCE_TARGETS:
        raise InvalidInput([Problem("", None, "--force", f"unknown stage {force!r}", f"one of {', '.join(FORCE_TARGETS)}")])
    loaded = _load(pipeline, overrides)
    from petkit.stages import pipeline as spine

    folder = out or Path("runs") / loaded.spec.task
    if dry_run:
        planned = spine.preview(loaded, folder, stages=stages, force=force)
        console.show_json(console.as_data(planned)) if json else console.show_plan(planned)
        return
    with console.RunDisplay(quiet=quiet) as display:
        result = spine.run(loaded, folder, stages=stages, force=force, listen=display)
    if json:
        console.show_json(
            {"run": str(result.folder), "student": str(result.student), "ran": result.ran, "metrics": result.metrics}
        )
    else:
        console.show_result(result)


def _load(pipeline: Path, overrides: list[str]) -> Any:
    """Read a pipeline file, before anything heavy is imported: most mistakes show here."""
    from petkit.spec.loader import load_pipeline

    return load_pipeline(pipeline, overrides)


def _teachers(who: str) -> bool:
    if who not in ("student", "teachers"):
        raise InvalidInput([Problem("", None, "--with", f"unknown {who!r}", "student or teachers")])
    return who == "teachers"


def spell_out_force(arguments: list[str]) -> list[str]:
    """Write a bare ``--force`` as ``--force=stale``: an option with an optional value, which typer does not know."""
    if arguments[:1] == ["search-verbalizer"]:  # here it is a plain switch
        return arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)  # what follows are no options
    spelt = []
    for argument, following in zip(arguments[:end], [*arguments[1:end], ""], strict=False):
        spelt.append("--force=stale" if argument == "--force" and following not in FORCE_TARGETS else argument)
    return spelt + arguments[end:]


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    try:
        try:
            app(spell_out_force(sys.argv[1:]))
        finally:
            sys.stdout.flush()  # a reader that has gone is met here, not while Python shuts down
    except PetkitError as error:
        console.show_error(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as leaving:
        if isinstance(leaving, SystemExit) and leaving.code != INTERRUPTED:
            raise
        console.note("interrupted; finished steps are kept, run the same command to go on")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (head, a pager): leave quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("PETKIT_DEBUG"):
            raise
        console.show_failure(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
