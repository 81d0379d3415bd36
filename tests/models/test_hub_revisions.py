"""A hub model is read at the revision its name says, and a run goes on at the commit it began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from peft import PeftConfig

from petkit import network
from petkit.errors import ModelRefused
from petkit.models.hub import at_commit
from petkit.models.loading import load_config, open_folder, shown_name
from tests.hub_cache import NAME, cache, put_into_cache
from tests.tiny_task import run_task, write_task

__all__ = ["cache"]

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"
QUICK = ("teachers.seeds=[1]", "teachers.steps=1", "student.steps=1")


@pytest.fixture
def two_commits(
    model_folder: Callable[[str], Path], cache: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """The older of two commits is in the cache, with a branch of its own; calling it makes the other the newest."""
    monkeypatch.setattr(network, "is_forbidden", lambda: True)
    put_into_cache(model_folder("bert"), cache, OLD)
    (cache / f"models--{NAME.replace('/', '--')}" / "refs" / "v1").write_text(OLD)
    changed = shutil.copytree(model_folder("bert"), here / "changed")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    return lambda: put_into_cache(changed, cache, NEW) and None


@pytest.mark.parametrize("revision", ["v1", OLD])
def test_the_named_revision_is_read(revision: str, two_commits: Callable[[], None]) -> None:
    two_commits()

    assert open_folder(NAME).path.name == NEW
    assert open_folder(f"{NAME}@{revision}").path.name == OLD
    assert load_config(f"{NAME}@{revision}").layer_norm_eps != load_config(NAME).layer_norm_eps


@pytest.mark.parametrize("revision", ["", "..", "../../etc", "/etc/passwd", "a b", "a@b", "x" * 300])
def test_what_is_not_a_revision_is_refused(revision: str, two_commits: Callable[[], None]) -> None:
    with pytest.raises(ModelRefused, match="is not a revision"):
        load_config(f"{NAME}@{revision}")


def test_a_name_is_resolved_to_its_recorded_or_present_commit(two_commits: Callable[[], None], here: Path) -> None:
    two_commits()

    assert at_commit(NAME, {}) == f"{NAME}@{NEW}"
    assert at_commit(NAME, {NAME: OLD}) == f"{NAME}@{OLD}"
    assert at_commit(f"{NAME}@v1", {NAME: NEW}) == f"{NAME}@{OLD}"
    assert at_commit(NAME, {NAME: "../../elsewhere"}) == f"{NAME}@{NEW}"
    assert at_commit("somebody/nothing", {}) == "somebody/nothing"  # refused where it is loaded
    (here / "m@v1").mkdir()
    assert at_commit("m@v1", {}) == "m@v1"
    assert shown_name(f"{NAME}@{OLD}") == f"{NAME}@{OLD[:7]}"


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_goes_on_at_its_commit(lost: bool, two_commits: Callable[[], None], here: Path) -> None:
    pipeline_file = write_task(here / "task", Path(NAME))
    content = yaml.safe_load(pipeline_file.read_text()) | {"model": NAME}
    pipeline_file.write_text(yaml.safe_dump(content))
    run_task(pipeline_file, here / "run", *QUICK, stages=("a",))
    two_commits()
    if lost:
        (here / "run" / "manifest.json").unlink()

    result = run_task(pipeline_file, here / "run", *QUICK)

    assert result.ran[0] == "stage_b"  # the teachers are not made again
    assert json.loads((here / "run" / "manifest.json").read_text())["revisions"] == {NAME: OLD}
    assert yaml.safe_load((here / "run" / "config.resolved.yaml").read_text())["model"] == f"{NAME}@{OLD}"


def test_an_adapter_names_model_and_revision_as_peft_does(two_commits: Callable[[], None], here: Path) -> None:
    pipeline_file = write_task(here / "task", Path(NAME))
    pipeline_file.write_text(yaml.safe_dump(yaml.safe_load(pipeline_file.read_text()) | {"model": f"{NAME}@v1"}))

    run_task(pipeline_file, here / "run", *QUICK, "teachers.adapter=lora", stages=("a",))

    (config, *_) = (PeftConfig.from_pretrained(str(path.parent)) for path in (here / "run").rglob("adapter_config.json"))
    assert (config.base_model_name_or_path, config.revision) == (NAME, OLD)
