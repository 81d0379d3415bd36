"""``petkit pretrain-prompt`` as a person meets it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
SHORT = ("--set", "pretrain_prompt={steps: 2, batch_size: 2, tokens: 4, words: {same_text: very}}")
SENTENCES = (
    "the market. it was bad.",
    "a very good game. the team. it was a game.",
    "all the science. yes.",
    "no question. an answer.",
)


@pytest.fixture
def reported(tiny: Path) -> Path:
    """The tiny project with texts of several sentences."""
    (tiny / "unlabeled.jsonl").write_text(project.json_lines({"text": text} for text in SENTENCES))
    return tiny


def test_it_says_whether_it_helped_and_how_to_use_it(reported: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT)

    assert answer.code == 0
    assert answer.err.startswith("prompt: not done yet … ") and "done in " in answer.err
    right, prompt, use = answer.out.splitlines()
    assert re.fullmatch(r"next-sentence accuracy in pairs from 1 held-out rows: \d+\.\d % → \d+\.\d %", right)
    assert prompt == "prompt: runs/tiny-prompt/prompt"
    assert (
        use == "use it: petkit run pipeline.yaml --set 'teachers.adapter={kind: prompt_tuning, start: runs/tiny-prompt/prompt}'"
    )
    _, *command = shlex.split(use.removeprefix("use it: "))
    assert petkit_command(*command, "--quiet").code == 0
    assert json.loads(Path("runs/tiny/stage_a/colon-1/model/teacher.json").read_text())["adapter"]["tokens"] == 4

    again = petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT)
    assert (again.code, again.out, again.err) == (0, answer.out, "prompt: up to date\n")


def test_as_json_into_a_folder_of_choice(reported: Path, petkit_command: Petkit) -> None:
    both = (*SHORT, "--set", "pretrain_prompt.objective=both")
    answer = petkit_command("pretrain-prompt", "pipeline.yaml", *both, "--out", "my prompts/a, b", "--json", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    facts = json.loads(answer.out)
    assert (facts["prompt"], facts["ran"], facts["rows"], facts["held_out_rows"]) == ("my prompts/a, b/prompt", True, 3, 1)
    assert {"loss_before", "loss_after", "accuracy_before", "accuracy_after", "perplexity_before", "perplexity_after"} <= {*facts}
    assert not Path("runs").exists()
    shown = petkit_command("pretrain-prompt", "pipeline.yaml", *both, "--out", "my prompts/a, b").out
    assert len(shown.splitlines()) == 4
    _, *command = shlex.split(shown.splitlines()[-1].removeprefix("use it: "))
    dry = petkit_command(*command, "--dry-run")
    assert (dry.code, dry.err) == (0, "")


def test_texts_of_one_sentence_are_refused(tiny: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(tiny)

    answer = petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT)

    message = "next_sentence needs texts of two sentences or more, and unlabeled.jsonl has no row of that kind (use masked_lm)"
    assert (answer.code, answer.out, answer.err) == (2, "", f"{SHORT[0]} {SHORT[1]}: pretrain_prompt.objective: {message}\n")
    assert project.snapshot(tiny) == before


def test_neither_labels_nor_their_words_are_needed(reported: Path, petkit_command: Petkit) -> None:
    Path("train.jsonl").unlink()
    Path("verbalizer.yaml").write_text("labels: {one: [unheard], two: [unknowable]}\n")

    assert petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT, "--quiet").code == 0


def test_other_settings_are_refused(reported: Path, petkit_command: Petkit) -> None:
    petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT, "--quiet")

    answer = petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT, "--set", "pretrain_prompt.seed=3")

    why = "made with other settings: pretrain_prompt.seed 1 → 3 (choose another --out, or delete the folder to replace it)"
    assert (answer.code, answer.out, answer.err) == (2, "", f"runs/tiny-prompt: {why}\n")


def test_a_run_into_a_prompt_is_refused(reported: Path, petkit_command: Petkit) -> None:
    petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT, "--out", "prompt", "--quiet")
    before = project.snapshot(reported)

    answer = petkit_command("run", "pipeline.yaml", "--out", "prompt")

    message = "prompt: contains a pretrained prompt, not a run (choose another --out)\n"
    assert (answer.code, answer.out, answer.err) == (2, "", message)
    assert project.snapshot(reported) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain_prompt.objective=none", "must be 'next_sentence', 'masked_lm' or 'both', not 'none'"),
        ("pretrain_prompt.words={next: no}", "'no' is also the word of next"),
        ("pretrain_prompt.tokens=60", "60 virtual tokens leave 4 of "),
        ("teachers.adapter={kind: prompt_tuning, start: nowhere}", None),
    ],
)
def test_a_mistake_is_one_line(override: str, message: str | None, reported: Path, petkit_command: Petkit) -> None:
    before = project.snapshot(reported)
    answer = petkit_command("pretrain-prompt", "pipeline.yaml", *SHORT, "--set", override, "--quiet")

    if message is None:  # a prompt that is to be made need not be there yet
        assert answer.code == 0
        return
    assert (answer.code, answer.out) == (2, "") and message in answer.err
    assert project.snapshot(reported) == before


def test_a_start_that_is_not_there(reported: Path, petkit_command: Petkit) -> None:
    start = "teachers.adapter={kind: prompt_tuning, start: nowhere}"
    before = project.snapshot(reported)

    for command in ("run", "validate", "zero-shot"):
        answer = petkit_command(command, "pipeline.yaml", "--set", start)
        message = "teachers.adapter.start: nowhere: no such folder (petkit pretrain-prompt makes one)"
        assert (answer.code, answer.out, answer.err) == (2, "", f"--set {start}: {message}\n")
    assert project.snapshot(reported) == before
