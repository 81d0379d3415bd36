"""Settings of ``predict`` and ``evaluate``: the columns of the fields, and those of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from petkit.config.yaml_document import parse_document
from petkit.errors import InvalidInput, Problem, did_you_mean, shortened
from petkit.predict.predictor import Predictor

_KEY = ["data", "columns"]


def column_settings(overrides: Sequence[str]) -> dict[str, str]:
    """Return field → column as ``--set data.columns.FIELD=COLUMN`` says, or ``--set data.columns={FIELD: COLUMN}``."""
    columns: dict[str, str] = {}
    problems: list[Problem] = []
    for override in overrides:
        shown = f"--set {shortened(override, 100)}"
        key, equals, value = override.partition("=")
        place = key.strip().split(".")
        if not equals or place[:2] != _KEY or len(place) > 3:
            problems.append(Problem.of_option(shown, "only data.columns can be set here", "write --set data.columns.text=COLUMN"))
            continue
        if len(place) == 3:
            columns[place[2]] = value.strip()
            continue
        try:
            found = parse_document(value, shown, under=tuple(place)).data
        except InvalidInput as error:
            problems += [replace(problem, line=None) for problem in error.problems]
            continue
        if isinstance(found, dict):
            columns |= {str(field): str(column) for field, column in found.items()}
        else:
            problems.append(Problem.of_option(shown, "must be a mapping", "write --set data.columns.text=COLUMN"))
    problems += [Problem.of_option(f"--set data.columns.{field}", "must not be empty") for field in columns if not columns[field]]
    if problems:
        raise InvalidInput(problems)
    return columns


def set_columns(predictor: Predictor, columns: dict[str, str]) -> None:
    """Let a predictor read its fields from these columns and no others; refuse fields that it does not have."""
    known = [*predictor.read_fields, "label", "id"]
    if unknown := [field for field in columns if field not in known]:
        option = "--set data.columns.{}"
        raise InvalidInput(Problem.of_option(option.format(name), "unknown field", did_you_mean(name, known)) for name in unknown)
    predictor.columns |= columns
    predictor.exact |= columns.keys()


def chosen_columns(choice: str) -> list[str] | None:
    """Return the columns that ``--columns`` names; None: all."""
    if choice in ("all", "none"):
        return None if choice == "all" else []
    names = [name.strip() for name in choice.split(",")]
    if not all(names) or len(set(names)) < len(names):
        message = f"cannot read {shortened(choice, 100)!r}"
        raise InvalidInput([Problem.of_option("--columns", message, "write all, none, or names as in a,b, each once")])
    return names


def refuse_paths(texts: Sequence[str]) -> None:
    """Refuse texts that are names of files: their rows are probably meant."""
    problems = []
    for number, text in enumerate(texts, 1):
        try:
            is_file = Path(text).is_file()
        except (OSError, ValueError):
            continue
        if is_file:
            hint = f"--input {text} labels its rows; send this very text with --input -"
            problems.append(Problem.of_option(f"text {number}", f"{text!r} is a file", hint))
    if problems:
        raise InvalidInput(problems)
