"""From YAML files to a checked specification; the only module that reads configuration.

A pipeline file names pattern and verbalizer files; their content is grafted into the pipeline's
data, so that one validation sees everything and every mistake is reported at its own file and line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from petkit import limits
from petkit.config import library
from petkit.config.caps import beyond_caps
from petkit.config.grafting import graft_verbalizer, put_together
from petkit.config.mistakes import Mistakes, value_of
from petkit.config.rules import in_pipeline, inside_own_verbalizer
from petkit.config.schema.adapter import adapter_class
from petkit.config.schema.pipeline import DEVICE, PipelineSpec
from petkit.config.schema.section import NAME
from petkit.config.yaml_document import NUMBER, Document, Location, parse_document
from petkit.errors import BeyondLimit, InvalidInput, Problem, did_you_mean, shortened, split_hint

_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text without lone surrogates (invalid Unicode)",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "union_tag_not_found": "must say its kind, as in {kind: lora}",
}
_PATTERNS = {
    NAME: "must be small letters, digits, - and _, at most 64, with a letter or digit first",
    DEVICE: "must be auto, cpu, mps, cuda or cuda:N",
}
_PATHS = [("data", "train"), ("data", "unlabeled"), ("data", "test"), ("model",), ("student", "model")]
_PATHS += [("teachers", "adapter", "start"), ("student", "adapter", "start")]
_CONSTANTS = {None: "null", True: "true", False: "false"}
_SHOWN = 200  # characters of a wrong value
_LEAVE_OUT = re.compile(r"\(leave it out\b.*\)$")


@dataclass(frozen=True)
class Pipeline:
    """A checked specification and the places where its values were written.

    Attributes:
        revisions: models of the Hugging Face Hub, as written → the commit at which a run reads them.
    """

    spec: PipelineSpec
    document: Document
    revisions: Mapping[str, str] = field(default_factory=dict)

    def problem(self, location: Location, message: str, hint: str = "", *, key: str | None = None) -> Problem:
        """Return a problem at ``location`` of the specification, such as ``("data", "train")``."""
        return self.document.problem(location, message, hint, key=key)

    @classmethod
    def from_spec(cls, spec: PipelineSpec) -> Pipeline:
        """Wrap a specification that was made in Python and has no file."""
        return cls(spec, Document(None, {(): ("specification", None)}))


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read, complete and check a pipeline file.

    Args:
        path: the pipeline's YAML file, or ``petkit:NAME`` for one of the library.
        overrides: ``key.path=value`` strings (``--set``); values are YAML, paths relative to the current folder.

    >>> load_pipeline("examples/support-tickets/pipeline.yaml", ["student.hard_weight=0.1"]).spec.student.hard_weight
    0.1

    Raises:
        InvalidInput: every mistake found in the pipeline, pattern and verbalizer files, at once.
        BeyondLimit: a value is beyond its cap; other mistakes are not looked for.
    """
    name = str(path)
    if len(overrides) > limits.OVERRIDES:
        message = f"given {len(overrides):,} times; at most {limits.OVERRIDES}"
        raise BeyondLimit([Problem.of_option("--set", message, "write the values into a pipeline file")])
    document = library.read_pipeline(name)
    here: dict[Location, Path] = {}
    path = library.locate(name, "pipelines")
    folder = path.resolve().parent
    problems = [problem for override in overrides for problem in _apply(override, document, folder, here)]
    problems += put_together(document, lambda place: _named_from(place, here, folder))
    if too_much := beyond_caps(document.data):
        raise BeyondLimit([*problems, *_placed(too_much, document)])
    _resolve_paths(document.data, library.data_folder(path) if library.named(name) else folder, here)
    try:
        spec = PipelineSpec.model_validate(document.data)
    except ValidationError as error:
        # What could not be grafted was reported already; its absence is not reported again.
        reported = {problem.key for problem in problems} - {""}
        problems += [found for found in _problems(error, document) if found.key not in reported]
    if problems:
        raise InvalidInput(problems)
    return Pipeline(spec, document)


def dump_spec(spec: PipelineSpec, leave_out: frozenset[str] = frozenset()) -> str:
    """Return ``spec`` as YAML with every default written out (but ``leave_out``); it is itself a pipeline file."""
    data = spec.model_dump(mode="json", exclude=set(leave_out))
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would come back as something else: ``1e5`` as a number, a rare line break as none."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def _apply(override: str, document: Document, folder: Path, here: dict[Location, Path]) -> list[Problem]:
    """Write one ``--set`` value into the document; below a verbalizer's file, after its content is grafted."""
    shown = f"--set {shortened(override, 100)}"
    key, equals, value = override.partition("=")
    location: Location = tuple(key.strip().split("."))
    if not equals or not all(location) or len(location) > limits.CONFIG_DEPTH:
        return [Problem.of_file(shown, "write --set key.path=value")]
    try:
        parsed = parse_document(value, shown, under=location)
    except InvalidInput as error:
        return [replace(problem, line=None) for problem in error.problems]
    data, problems = document.data, list[Problem]()
    if location[0] == "verbalizer" and location[1:]:
        problems = graft_verbalizer(document, _named_from(("verbalizer",), here, folder))
    for depth, name in enumerate(location[:-1], 1):
        if data.get(name) is None:
            data[name] = {}
            document.places[location[:depth]] = (shown, None)
        if name == "adapter" and isinstance(data[name], str):
            data[name] = {"kind": data[name]}  # written short
        data = data[name]
        if not isinstance(data, dict):
            inner = ".".join(map(str, location[:depth]))
            return [*problems, Problem.of_file(shown, "is not a mapping, so --set cannot set keys below it", key=inner)]
    data[str(location[-1])] = parsed.data
    document.places = {place: at for place, at in document.places.items() if place[: len(location)] != location}
    document.places[location] = (shown, None)
    here[location] = Path.cwd()
    return problems


def _named_from(location: Location, here: Mapping[Location, Path], folder: Path) -> Path:
    """Return the folder from which a file is named: that of the ``--set`` which wrote the value or what is around it."""
    return next((here[location[:depth]] for depth in range(len(location), 0, -1) if location[:depth] in here), folder)


def _resolve_paths(data: dict[str, Any], folder: Path, here: dict[Location, Path]) -> None:
    """Make file names absolute: relative ones belong to the file (or the ``--set``) that names them."""
    for location in _PATHS:
        value = value_of(data, *location)
        if not isinstance(value, str) or not value or value.startswith("hf://") or value == "embedded":
            continue
        named_in = _named_from(location, here, folder)
        with suppress(RuntimeError, ValueError, OSError):  # no such user, or no possible name: refused when it is opened
            path = named_in / Path(value).expanduser()
            if location[-1] != "model" or path.is_dir() or value.startswith((".", "/", "~")):  # or a name on the hub
                # A file that is a link keeps its name, whose ending says its format.
                whole = path.parent.resolve() / path.name if location[0] == "data" else path.resolve()
                value_of(data, *location[:-1])[location[-1]] = str(whole)


def _placed(mistakes: Mistakes, document: Document) -> list[Problem]:
    """Give mistakes their lines; those of patterns and labels say themselves what they are about."""
    return [
        document.problem(
            place,
            *split_hint(_by_origin(place, message, document)),
            key=_shown_key(place),
        )
        for place, message in mistakes
    ]


def _shown_key(place: Location) -> str | None:
    """Return the key to show of a place whose message does not say what it is about; None: all of it."""
    if inside := inside_own_verbalizer(place):
        return "" if inside[1:2] == ("labels",) and inside[2:] else ".".join(map(str, inside))
    return "" if place[0] == "patterns" or place[:2] == ("verbalizer", "labels") else None


def _by_origin(place: Location, message: str, document: Document) -> str:
    """Return a message with a hint that can be followed where the value comes from ``--set``."""
    if not document.place(place)[0].startswith("--set "):
        return message
    return _LEAVE_OUT.sub("(remove this option)" if place in document.places else "(remove it from this option)", message)


def _problems(error: ValidationError, document: Document) -> list[Problem]:
    """Return what the rules and pydantic found, placed and in plain words."""

    def problem(location: Location, message: str, hint: str = "") -> Problem:
        return document.problem(location, message, hint, key=".".join(map(str, inside_own_verbalizer(location))) or None)

    details, mistakes = [], in_pipeline(document.data)  # of all sections: pydantic checks those without a wrong value
    for detail in error.errors():
        if detail["type"] == "petkit":  # of values and defaults, which are not in the data
            mistakes += [((*detail["loc"], *place), message) for place, message in detail["ctx"]["found"]]
        else:
            details.append(detail)
    problems = _placed(list(dict.fromkeys(mistakes)), document)
    reported: dict[Location, int] = {}
    locations = [_written_location(detail["loc"], document.data) for detail in details]
    holders = {location[:depth] for location in locations for depth in range(len(location))}
    for number, (detail, location) in enumerate(zip(details, locations, strict=True)):
        if len(problems) > limits.SHOWN_PROBLEMS:  # advice on every one of thousands would take its time
            problems.append(document.problem((), f"… and up to {len(details) - number:,} more mistakes"))
            break
        if location in holders or (detail["type"] == "too_short" and detail["input"]):
            continue  # a branch of a union that was not meant, or a list: a value inside is wrong, and reported
        if detail["type"] == "extra_forbidden" and location[-2:] == ("adapter", "start"):
            problems.append(problem(location, "only prompt_tuning starts from a folder", "set kind: prompt_tuning"))
        elif detail["type"] == "extra_forbidden":
            known = _known_keys(location[:-1], document.data)
            problems.append(problem(location, "unknown key", did_you_mean(str(location[-1]), known)))
        elif detail["type"] == "missing":
            problems.append(problem(location, "required key is missing"))
        elif location in reported:  # another branch of a union
            first = problems[reported[location]]
            so_far, _, value = first.message.partition(", not ")
            also = _in_words(detail).partition(", not ")[0].removeprefix("must be ").replace("must not be", "not")
            problems[reported[location]] = replace(first, message=f"{so_far} or {also}" + (f", not {value}" if value else ""))
        else:
            reported[location] = len(problems)
            problems.append(problem(location, _in_words(detail)))
    return problems


def _in_words(detail: ErrorDetails) -> str:
    if detail["type"] == "union_tag_invalid":
        known = detail["ctx"]["expected_tags"].replace("'", "")
        return f"must be one of {known}, not {_as_written(detail['ctx']['tag'])}"
    message = _WORDS.get(detail["type"]) or _PATTERNS.get(detail.get("ctx", {}).get("pattern", ""))
    if message is None:
        message = detail["msg"].replace("Input should be", "must be").replace("String should", "must")
        message = message[:1].lower() + message[1:]
    value = detail["input"]
    shown = isinstance(value, (str, int, float, type(None))) and detail["type"] != "string_too_short"
    return f"{message}, not {_as_written(value)}" if shown else message


def _as_written(value: str | float | None) -> str:
    """Return a value as YAML has it: ``null`` and ``true``, text in quotes."""
    return _CONSTANTS.get(value, repr(value)) if value is None or isinstance(value, bool) else f"{value!r:.{_SHOWN}}"


def _written_location(location: tuple[int | str, ...], data: Any) -> Location:
    """Drop what pydantic adds to a place: the branch of a union, and ``[key]`` for a mapping's key."""
    written: list[int | str] = []
    for index, step in enumerate(location):
        # Pydantic names types: str, dict[…], constrained-int.
        names_key = isinstance(step, int) or (step not in ("str", "int", "float") and step.isidentifier())
        if isinstance(data, Mapping) and (step in data or (names_key and index == len(location) - 1)):
            data = data.get(step)
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(step, int):
            data = data[step] if step < len(data) else None
        else:
            continue
        written.append(step)
    return tuple(written)


def _known_keys(location: Location, data: Any) -> list[str]:
    """Return the keys that are allowed at ``location`` of the specification."""
    model: type[BaseModel] = PipelineSpec
    for step in location:
        data = data[step]
        if step == "adapter":
            model = adapter_class(data)
        elif isinstance(step, str):
            annotation = model.model_fields[step].annotation
            candidates = (annotation, *get_args(annotation))
            model = next(entry for entry in candidates if isinstance(entry, type) and issubclass(entry, BaseModel))
    return list(model.model_fields)
