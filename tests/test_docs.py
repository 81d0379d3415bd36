"""What the documents promise is so: commands parse, YAML is valid, versions agree, house rules hold."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

import petkit
from petkit.cli import FORCE_TARGETS, app, spell_out_force
from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.config.yaml_document import parse_document
from petkit.models.loading import load_tokenizer
from petkit.prompts.pattern import MaskContext
from petkit.prompts.verbalizer import find_label_words

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINKED = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SOURCES = sorted((ROOT / "petkit").rglob("*.py"))
# A folder of somebody's machine: as in a traceback, a shell history or a notebook.
MACHINE_PATH = re.compile(r"(?<![\w.~*\]}<-])/(home|root|Users|work|tmp|mnt|scratch)/\w")


def shell_commands() -> list[list[str]]:
    """Return every petkit command of the README's shell blocks, as arguments."""
    found = []
    for kind, block in BLOCKS:
        if kind != "sh":
            continue
        for line in block.splitlines():
            for part in line.split("&&"):
                program, *arguments = shlex.split(part, comments=True) or [""]
                if Path(program).name == "petkit":
                    found.append(arguments)
    return found


def yaml_block(key: str) -> dict[str, Any]:
    """Return the README's one YAML block that begins with this key."""
    parsed = [parse_document(block, "README.md").data for kind, block in BLOCKS if kind == "yaml"]
    (found,) = [data for data in parsed if next(iter(data)) == key]
    return dict(found)


def tracked() -> list[Path]:
    """Return the repository's files, new ones included."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository here")
    return [path for path in (ROOT / name for name in listed.splitlines()) if path.is_file()]


def test_readme_has_commands() -> None:
    assert {arguments[0] for arguments in shell_commands()} >= {"run", "predict", "evaluate", "init", "validate"}


@pytest.mark.parametrize("arguments", shell_commands(), ids=" ".join)
def test_readme_command_parses(arguments: list[str]) -> None:
    name, *rest = spell_out_force(arguments)

    with COMMANDS[name].make_context(name, rest) as context:
        assert context.params

    for argument in rest:
        if argument.startswith("examples/"):
            assert (ROOT / argument).is_file()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_readme_tree_names_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "petkit").glob("*/__init__.py")}

    assert set(re.findall(r"^  (\w+)/ +\w", README, re.MULTILINE)) == packages


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    assert {*re.findall(r"\]\((\w+\.md)\)", PAGES["README.md"])} == PAGES.keys() - {"README.md"}


def test_the_table_lists_every_command() -> None:
    page = PAGES["commands.md"]
    table = page[page.index("| command |") : page.index("Exit codes")]

    assert set(re.findall(r"`(?:petkit )?(stage-[abc]|[a-z][a-z-]*)(?: [A-Z]|`)", table.partition("\nOptions")[0])) == set(
        COMMANDS
    )


def test_options_exist() -> None:
    known = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
    known |= {"--help", "--version", "--install-completion", "--extra-index-url"}

    written = [README, PAGES["choices.md"], PAGES["commands.md"]]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join(written))) <= known


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_page_has_no_gaps(path: Path) -> None:
    assert re.findall(r"@@\w+@@|TODO|TBD", path.read_text(encoding="utf-8")) == []


def test_readme_patterns_are_patterns() -> None:
    patterns = [PatternSpec.model_validate(entry) for entry in yaml_block("patterns")["patterns"]]

    assert [len(pattern.segments) for pattern in patterns] == [1, 1, 2]


@pytest.mark.parametrize(
    "place", [MaskContext("", ""), MaskContext(" ", ""), MaskContext(" ", " ")], ids=["start", "end", "middle"]
)
def test_readme_label_words_are_single_tokens(place: MaskContext) -> None:
    words, problems = find_label_words(VerbalizerSpec.model_validate(yaml_block("labels")), load_tokenizer("embedded"), place)

    assert problems == []
    assert [len(of_label) for of_label in words.words] == [2, 2, 2]


@pytest.mark.parametrize("page", [README, PAGES["choices.md"]], ids=["README", "choices"])
def test_the_pipeline_shown_loads(page: str, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(task:.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "patterns.yaml").write_text(next(block for _, block in BLOCKS if block.startswith("patterns:")), encoding="utf-8")
    (tmp_path / "verbalizer.yaml").write_text(next(block for _, block in BLOCKS if block.startswith("labels:")), encoding="utf-8")

    spec = load_pipeline(tmp_path / "pipeline.yaml").spec

    assert spec.task == yaml_block("task")["task"]


def test_readme_python_names_exist() -> None:
    for kind, block in BLOCKS:
        if kind == "python":
            names = re.findall(r"petkit\.(\w+)", block)
            assert names and all(name in petkit.__all__ and hasattr(petkit, name) for name in names)
            ast.parse(block)


def test_force_targets_are_in_the_help() -> None:
    help_of_force = next(parameter.help for parameter in COMMANDS["run"].params if parameter.name == "force")

    assert "with a, b, c, evaluation or all" in help_of_force
    assert {"stale", "a", "b", "c", "evaluation", "all"} == set(FORCE_TARGETS)


def test_changelog_has_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert headings[0] == "Unreleased" or headings[0] == petkit.__version__


def test_version_is_the_package_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == petkit.__version__


def test_the_lowest_versions_of_the_security_statement_are_those_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = {name.lower(): version for name, _, version in (line.partition(">=") for line in project["dependencies"])}
    stated = re.findall(r"^\| (\w[\w-]*) \| (\d[\d.]*) \| CVE", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert len(stated) > 5
    assert dict(stated) == {name: lowest[name] for name, _ in stated}


@pytest.mark.parametrize("name", petkit.__all__)
def test_public_name(name: str) -> None:
    value = getattr(petkit, name)

    assert isinstance(value, str) if name == "__version__" else value.__doc__


def test_unknown_public_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'petkit' has no attribute 'nonsense'"):
        _ = petkit.nonsense


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 350
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    assert named.isdisjoint({"eval", "exec"} | (set() if path.name == "console.py" else {"print"}))


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = []
    for path in tracked():
        if "older_run" in path.parts:  # names the folder it was made in, as every run does
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights
        lines = [number for number, line in enumerate(text.splitlines(), 1) if MACHINE_PATH.search(line)]
        found += [f"{path.relative_to(ROOT)}:{number}" for number in lines]

    assert found == []


def test_no_source_file_is_kept_out_of_the_repository() -> None:
    """A line of .gitignore that fits a package would also keep it out of the wheel."""
    files = set(tracked())
    sources = [*SOURCES, *(ROOT / "tests").rglob("*.py")]

    assert [path.relative_to(ROOT).as_posix() for path in sources if path not in files] == []
