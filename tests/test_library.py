"""The YAML library: every file loads, every label word is one token, and what the comments say can be run."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from petkit.lm.backbone import load_tokenizer
from petkit.spec.loader import Pipeline, load_pipeline
from petkit.task.pvp import compile_pvps
from petkit.task.tokenization import PieceTokenizer

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "support-tickets"
PIPELINES = (*sorted((ROOT / "pipelines").glob("*.yaml")), EXAMPLE / "pipeline.yaml")
PARTS = (
    *sorted((ROOT / "patterns").glob("*.yaml")),
    *sorted((ROOT / "verbalizers").glob("*.yaml")),
    EXAMPLE / "patterns.yaml",
    EXAMPLE / "verbalizer.yaml",
)
FILES = (*PIPELINES, *PARTS)
BENCH_TASKS = ("ag_news", "sst2", "imdb", "trec", "sick")


@dataclass(frozen=True)
class Command:
    """A ``petkit run`` line of a file's opening comment."""

    pipeline: str
    overrides: tuple[str, ...]


def shown(path: Path) -> str:
    """Return ``path`` as the comments write it, from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def opening_comment(path: Path) -> list[str]:
    """Return the comment lines a file starts with, without their marks."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def commands(path: Path) -> list[Command]:
    """Return the commands of a file's opening comment; each stands on a line of its own."""
    found: list[Command] = []
    for line in opening_comment(path):
        if not line.startswith("petkit "):
            continue
        program, verb, pipeline, *options = shlex.split(line)
        assert (program, verb) == ("petkit", "run"), line
        assert len(options) % 2 == 0 and {*options[::2]} <= {"--set", "--out"}, line
        pairs = zip(options[::2], options[1::2], strict=True)
        found.append(Command(pipeline, tuple(value for option, value in pairs if option == "--set")))
    return found


def parts_of(pipeline: Pipeline) -> set[str]:
    """Return the pattern and verbalizer files that a pipeline read, seen from the current folder."""
    spec = pipeline.spec
    places = [("patterns", index, "id") for index in range(len(spec.patterns))]
    return {pipeline.document.place(place)[0] for place in (*places, ("verbalizer", "labels"))}


def problems_of(pipeline: Pipeline, tokenizer: PieceTokenizer) -> list[str]:
    """Return what is wrong with a pipeline's patterns and label words for a tokenizer."""
    _, problems = compile_pvps(pipeline, tokenizer, pipeline.spec.max_length)
    return [str(problem) for problem in problems]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the commands of the comments are meant to be typed."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def tokenizer() -> PieceTokenizer:
    """The embedded model's tokenizer."""
    return load_tokenizer("embedded")


@pytest.mark.parametrize("path", PIPELINES, ids=shown)
def test_pipeline_compiles_for_the_embedded_model(path: Path, tokenizer: PieceTokenizer) -> None:
    pipeline = load_pipeline(path)

    assert pipeline.spec.model == "embedded"
    assert problems_of(pipeline, tokenizer) == []


@pytest.mark.parametrize("path", PIPELINES, ids=shown)
def test_class_numbers_mean_the_verbalizers_labels(path: Path) -> None:
    spec = load_pipeline(path).spec

    assert set(spec.data.label_names or spec.labels) == set(spec.labels)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_file_opens_with_commands_that_load(path: Path, tokenizer: PieceTokenizer) -> None:
    found = commands(path)

    assert found, f"{shown(path)} starts with no comment that says how to run it"
    for command in found:
        assert problems_of(load_pipeline(command.pipeline, command.overrides), tokenizer) == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_first_command_is_about_the_file_itself(path: Path) -> None:
    command = commands(path)[0]

    assert shown(path) in {command.pipeline, *parts_of(load_pipeline(command.pipeline, command.overrides))}


@pytest.mark.parametrize("path", PARTS, ids=shown)
def test_part_is_used_by_a_pipeline(path: Path) -> None:
    """A pipeline uses a file as its default, or in a command that its comment offers."""
    offered = [command for pipeline in PIPELINES for command in commands(pipeline)]

    assert any(shown(path) in parts_of(load_pipeline(command.pipeline, command.overrides)) for command in offered)


def test_every_pipeline_has_its_own_run_folder() -> None:
    tasks = [load_pipeline(path).spec.task for path in PIPELINES]

    assert len(set(tasks)) == len(tasks)


def test_example_trains_one_teacher_for_each_of_four_patterns() -> None:
    spec = load_pipeline(EXAMPLE / "pipeline.yaml").spec

    assert len(spec.patterns) * len(spec.teachers.seeds) == 4
    assert spec.labels == ("delivery", "returns", "payment", "account", "product")
    assert all(Path(source or "").is_file() for source in (spec.data.train, spec.data.unlabeled, spec.data.test))


@pytest.mark.parametrize("name", BENCH_TASKS)
def test_labels_are_those_of_the_benchmark_data(name: str) -> None:
    folder = os.environ.get("PETKIT_BENCH_DATA")
    if not folder:
        pytest.skip("PETKIT_BENCH_DATA names no folder with the benchmark data sets")
    labels = (Path(folder) / name / "labels.txt").read_text(encoding="utf-8").split("\n")

    assert load_pipeline(ROOT / "pipelines" / f"{name}.yaml").spec.labels == tuple(label for label in labels if label)
