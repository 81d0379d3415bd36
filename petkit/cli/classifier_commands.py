"""Commands that use a classifier: ``predict``, ``evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from petkit.cli import app, console
from petkit.cli.options import Json, Model, Offline, With
from petkit.errors import InvalidInput, Problem


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
    offline: Offline = False,
) -> None:
    """Label new rows."""
    if bool(texts) == (input is not None):
        raise InvalidInput([Problem.of_command("give texts, or --input FILE", "petkit predict --help shows examples")])
    from petkit.data.precheck import look_at, look_at_standard_input

    lines = look_at_standard_input(sys.stdin.buffer) if input == "-" else iter(())
    if input not in (None, "-"):  # before anything heavy is imported
        look_at(str(input))
    from petkit.predict.predictor import Predictor
    from petkit.predict.row_io import argument_rows, json_writer, output_file, predict_rows, source_of, stream_rows

    predictor = Predictor.load(model, teachers=_teachers(with_))
    if texts:
        examples: Any = argument_rows(texts, predictor)
    elif input == "-":
        examples = stream_rows(lines, predictor)
    else:
        examples = source_of(str(input), predictor, labelled=False)
    rows = _reported_if_none(predict_rows(examples, predictor), input)
    if texts and output is None and sys.stdout.isatty():
        console.show_predictions(texts, [prediction for _, prediction in rows])
        return
    with output_file(output, predictor) if output is not None else nullcontext(json_writer(sys.stdout, predictor)) as write:
        for example, prediction in rows:
            write(example, prediction)


@app.command(epilog="Example: petkit evaluate runs/ag-news test.jsonl --json")
def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: jsonl, csv, tsv, parquet or hf://.", show_default=False)
    ],
    with_: With = "student",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Compare predictions with labels."""
    from petkit.data.precheck import look_at

    look_at(data)
    from petkit.predict.predictor import Predictor
    from petkit.predict.row_io import evaluate_file

    metrics = evaluate_file(Predictor.load(model, teachers=_teachers(with_)), data).to_dict()
    console.show_json(metrics) if json else console.show_metrics(metrics)


def _reported_if_none(rows: Iterable[Any], source: str | None) -> Iterator[Any]:
    """Pass rows on; where there are none, print a note: it may be the wrong file."""
    number = 0
    for number, row in enumerate(rows, 1):  # noqa: B007
        yield row
    if not number:
        console.note(f"{'standard input' if source == '-' else source}: contains no rows")


def _teachers(who: str) -> bool:
    if who not in ("student", "teachers"):
        raise InvalidInput([Problem.of_option("--with", f"unknown {who!r}", "student or teachers")])
    return who == "teachers"
