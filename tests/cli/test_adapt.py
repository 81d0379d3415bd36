"""``petkit adapt`` as a person meets it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from petkit.storage.checksum import json_with_checksum
from tests.cli import project
from tests.cli.conftest import Outcome

Petkit = Callable[..., Outcome]
SHORT = ("--set", "adapt.steps=2", "--set", "adapt.batch_size=2")


def test_adapt_says_whether_it_helped_and_how_to_use_it(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("adapt", "pipeline.yaml", *SHORT)

    assert answer.code == 0
    assert answer.err.startswith("model: not done yet … done in ")
    perplexity, model, use = answer.out.splitlines()
    assert re.fullmatch(r"perplexity on 1 held-out rows: \d+\.\d → \d+\.\d", perplexity)
    assert model == "model: runs/tiny-adapted/model"
    assert use == "use it: petkit run pipeline.yaml --set model=runs/tiny-adapted/model"
    _, *command = shlex.split(use.removeprefix("use it: "))
    dry = petkit_command(*command, "--dry-run")
    assert (dry.code, dry.err) == (0, "")

    again = petkit_command("adapt", "pipeline.yaml", *SHORT)
    assert (again.code, again.out) == (0, answer.out)
    assert again.err == "model: up to date\n"


def test_adapt_as_json_into_a_folder_of_choice(tiny: Path, petkit_command: Petkit) -> None:
    answer = petkit_command("adapt", "pipeline.yaml", *SHORT, "--out", "my models/a", "--json", "--quiet")

    assert (answer.code, answer.err) == (0, "")
    reported = json.loads(answer.out)
    assert (reported["model"], reported["ran"], reported["rows"], reported["held_out_rows"]) == ("my models/a/model", True, 4, 1)
    assert reported["perplexity_after"] > 1
    assert not Path("runs").exists()
    assert "--set 'model=my models/a/model'" in petkit_command("adapt", "pipeline.yaml", *SHORT, "--out", "my models/a").out


def test_adapt_refuses_an_empty_unlabelled_set(tiny: Path, petkit_command: Petkit) -> None:
    Path("unlabeled.jsonl").write_text("")
    before = project.snapshot(tiny)

    answer = petkit_command("adapt", "pipeline.yaml")

    assert (answer.code, answer.out, answer.err) == (2, "", "unlabeled.jsonl: the file contains no rows\n")
    assert project.snapshot(tiny) == before


def test_adapt_needs_no_labelled_rows(tiny: Path, petkit_command: Petkit) -> None:
    Path("train.jsonl").unlink()

    assert petkit_command("adapt", "pipeline.yaml", *SHORT, "--quiet").code == 0


def test_adapt_refuses_a_model_made_by_other_settings(tiny: Path, petkit_command: Petkit) -> None:
    petkit_command("adapt", "pipeline.yaml", *SHORT, "--quiet")

    answer = petkit_command("adapt", "pipeline.yaml", *SHORT, "--set", "adapt.seed=3")

    assert (answer.code, answer.out) == (2, "")
    reported = "runs/tiny-adapted: made with other settings: adapt.seed 1 → 3 (choose another --out, or delete the folder to replace it)\n"
    assert answer.err == reported


def test_adapt_into_a_run_is_refused(tiny: Path, petkit_command: Petkit) -> None:
    Path("run").mkdir()
    Path("run/manifest.json").write_text(json_with_checksum({"schema": 1, "task": "tiny", "labels": ["World", "Sports"]}))

    answer = petkit_command("adapt", "pipeline.yaml", *SHORT, "--out", "run")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "run: contains a run, not an adapted model (choose another --out)\n"
    assert [path.name for path in Path("run").iterdir()] == ["manifest.json"]


def test_a_run_into_an_adapted_model_is_refused(tiny: Path, petkit_command: Petkit) -> None:
    petkit_command("adapt", "pipeline.yaml", *SHORT, "--out", "adapted", "--quiet")
    before = project.snapshot(tiny)

    for also in ((), ("--dry-run",)):
        answer = petkit_command("run", "pipeline.yaml", "--out", "adapted", *also)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == "adapted: contains an adapted model, not a run (choose another --out)\n"
    assert project.snapshot(tiny) == before


def test_adapt_whose_last_step_spoils_the_model_is_not_an_internal_error(tiny: Path, petkit_command: Petkit) -> None:
    diverging = ("--set", "adapt.steps=1", "--set", "adapt.learning_rate=1e30", "--quiet")

    answer = petkit_command("adapt", "pipeline.yaml", *diverging)

    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "training diverged: the loss on held-out rows is nan (lower adapt.learning_rate)\n"
    assert not Path("runs/tiny-adapted/model").exists()
