"""Every mistake of the corpus: exit code 2, exactly the expected message, no traceback, no byte of the folder changed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_inputs.corpus import LIBRARY_WORDS, Case, load_cases
from tests.cli import project
from tests.cli.conftest import Outcome

CASES = load_cases()
BY_NAME = {case.name: case for case in CASES}
# The files, a run folder, and the command line's own refusals; standard input of a fresh process: tests/limits.
FRESH = ("two masks", "classifier cut off", "--force nonsense")


def content(folder: Path) -> dict[str, str]:
    """Return the hash of every file below ``folder``; links are not followed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check(case: Case, code: int | None, out: str, err: str) -> None:
    assert "Traceback" not in err and "internal error" not in err, err
    assert case.matches(err), f"the message was:\n{err}"
    assert (code, out) == (2, "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_mistake(case: Case, sound: Path, place: Callable[[str], Path], petkit_command: Callable[..., Outcome]) -> None:
    case.lay_out(sound, place)
    before, bytes_before = project.snapshot(sound), content(sound)

    answer = petkit_command(*case.arguments, stdin=case.stdin)

    check(case, answer.code, answer.out, answer.err)
    assert project.snapshot(sound) == before  # nor was anything written and taken away again
    assert content(sound) == bytes_before


@pytest.mark.parametrize("name", FRESH)
def test_mistake_in_a_fresh_process(name: str, sound: Path, place: Callable[[str], Path]) -> None:
    case = BY_NAME[name]
    case.lay_out(sound, place)
    bytes_before = content(sound)

    command = [sys.executable, "-m", "petkit", *case.arguments]
    answer = subprocess.run(command, input=case.stdin, capture_output=True, check=False)

    check(case, answer.returncode, answer.stdout.decode(), answer.stderr.decode())
    assert content(sound) == bytes_before


# -- the corpus itself -----------------------------------------------------------------------------------

# A line begins with the place of the mistake: a file (and line), a run or model folder, an option, a setting, an input.
PLACE = re.compile(
    r"(?:[\w./-]+\.(?:yaml|jsonl|csv|tsv|parquet|xlsx|json|txt|doc|xls|gz)(?::\d+)?"
    r"|[\w./-]*(?:run|model|foreign|prompt|bert|nowhere|empty|new|tiny|x{300}|\.)|-"
    r"|run/[\w./]+|petkit:[\w/]+(?::\d+)?"
    r"|--[a-z-]+(?: .+?)?|hf://\w+|standard input(?::\d+)?|text \d+|[a-z_]+\.[a-z_.]+): "
)
# What follows the first line of a message in several, and the command line's own usage.
MORE = re.compile(r"  \S|\((?:--|petkit )|Usage: petkit|Try 'petkit|Error: |$")
# Lines about the whole command, which has no place to name.
PLACELESS = ("give texts, or --input FILE",)


def test_the_corpus_is_large_and_of_every_subject() -> None:
    subjects = Counter(case.subject for case in CASES)

    assert len(CASES) >= 300
    assert min(subjects.values()) >= 5, subjects
    assert set(subjects) >= {
        "pipeline", "yaml files", "patterns", "verbalizers", "jsonl", "csv", "parquet", "set", "run folders", "model folders",
        "adapters", "predict", "evaluate", "init", "stages", "search verbalizer", "adapt", "pretrain prompt", "usage",
    }  # fmt: skip


def test_names_are_different() -> None:
    assert [name for name, times in Counter(case.name for case in CASES).items() if times > 1] == []
    assert set(FRESH) <= set(BY_NAME)


def test_every_line_names_its_place() -> None:
    placeless = [
        (case.id, line)
        for case in CASES
        for line in case.stderr.splitlines()
        if not (PLACE.match(line) or MORE.match(line) or line.startswith(PLACELESS))
    ]

    assert placeless == []
    assert all(PLACE.match(case.stderr) or case.stderr.startswith(("Usage: ", "Error: ", *PLACELESS)) for case in CASES)


def test_every_mistake_has_a_hint_or_is_known_to_need_none() -> None:
    for case in CASES:
        lines = [line for line in case.stderr.splitlines() if not MORE.match(line)]
        assert all(line.endswith(")") for line in lines) == case.hint, case.id
    assert sum(case.hint for case in CASES) >= 0.4 * len(CASES)


def test_no_two_mistakes_share_a_message_without_reason() -> None:
    messages: dict[str, str] = {}
    for case in CASES:
        if case.same_as:
            assert BY_NAME[case.same_as].stderr == case.stderr, case.id
            assert not BY_NAME[case.same_as].same_as, case.id
        else:
            assert messages.setdefault(case.stderr, case.name) == case.name, case.id


def test_the_words_of_libraries_are_a_part_only() -> None:
    """The text around them gives the place and the problem."""
    left_open = [line for case in CASES for line in case.stderr.splitlines() if LIBRARY_WORDS in line]

    assert 0 < len(left_open) <= 0.1 * len(CASES)
    assert all(len(line.replace(LIBRARY_WORDS, "").strip()) >= 12 for line in left_open)
