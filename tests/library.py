"""The YAML library as its tests see it: which files there are, and the commands their opening comments offer."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from petkit.config.loader import Pipeline, load_pipeline
from petkit.config.yaml_document import Location
from petkit.models.loading import load_tokenizer
from petkit.prompts.pvp import compile_pvps
from petkit.prompts.tokenizer import PieceTokenizer
from tests.chinese import CHINESE_MODELS, chinese_pieces

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "support-tickets"
CHINESE = tuple(sorted((ROOT / "pipelines").glob("*_zh.yaml")))
PAPER = tuple(sorted((ROOT / "pipelines" / "paper").glob("*.yaml")))
EXAMPLES = tuple(sorted((ROOT / "examples").glob("*/pipeline.yaml")))
EMBEDDED = (*sorted({*(ROOT / "pipelines").glob("*.yaml")} - {*CHINESE}), *EXAMPLES)
PIPELINES = (*EMBEDDED, *CHINESE, *PAPER)
PARTS = (
    *sorted((ROOT / "patterns").glob("*.yaml")),
    *sorted((ROOT / "verbalizers").glob("*.yaml")),
    EXAMPLE / "patterns.yaml",
    EXAMPLE / "verbalizer.yaml",
)
FILES = (*PIPELINES, *PARTS)


@dataclass(frozen=True)
class Command:
    """A ``petkit run`` line of a file's opening comment."""

    pipeline: str
    overrides: tuple[str, ...]

    def load(self) -> Pipeline:
        """Read what the command would run."""
        return load_pipeline(self.pipeline, self.overrides)


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
    places: list[Location] = [("patterns", index, "id") for index in range(len(spec.patterns))]
    places += [("patterns", index, "verbalizer", "labels") for index, pattern in enumerate(spec.patterns) if pattern.verbalizer]
    return {pipeline.document.place(place)[0] for place in (*places, ("verbalizer", "labels"))}


def tokenizer_for(pipeline: Pipeline) -> PieceTokenizer:
    """Return a tokenizer of the model's language: nothing is downloaded here."""
    return chinese_pieces() if pipeline.spec.model in CHINESE_MODELS else load_tokenizer("embedded")


def problems_of(pipeline: Pipeline) -> list[str]:
    """Return what is wrong with a pipeline's patterns and label words."""
    _, problems = compile_pvps(pipeline, tokenizer_for(pipeline), pipeline.spec.max_length)
    return [str(problem) for problem in problems]
