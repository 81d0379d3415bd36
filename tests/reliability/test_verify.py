"""``petkit verify``: what is whole, damaged or unknown in a run folder, and what to do about it; and the fault matrix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import IncompleteRun, InvalidInput, ModelRefused, RunConflict
from petkit.runs.layout import ENSEMBLE_FILE
from petkit.runs.store import RunStore
from petkit.runs.verify import verify
from petkit.storage import integrity
from petkit.storage.checksum import json_with_checksum
from petkit.storage.integrity import RECORD
from tests.cli.conftest import Outcome, petkit_command
from tests.reliability.benches import BENCHES, Bench
from tests.reliability.matrix import Matrix, artefacts, checksums, flip, products
from tests.tiny_task import STEPS, load, run_task

__all__ = ["petkit_command"]
Command = Callable[..., Outcome]
Folder = Callable[[str], Path]


def entry(folder: Path, name: str) -> tuple[str, str, str]:
    (found,) = [entry for entry in verify(folder).entries if entry.name == name]
    return found.state, found.why, found.hint


# -- the command -------------------------------------------------------------------------------------------


def test_a_whole_run(copy: Path, petkit_command: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    answer = petkit_command("verify", copy)
    assert (answer.code, answer.err) == (0, "") and answer.out.endswith("\nNothing is damaged.\n")
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    reported = json.loads(petkit_command("verify", copy, "--json").out)
    assert reported == verify(copy).to_dict()
    assert reported["whole"] is True and {item["state"] for item in reported["entries"]} == {"whole"}
    expected = {"manifest.json", "config.resolved.yaml", "events.jsonl", *STEPS}
    assert {item["name"] for item in reported["entries"]} == expected


def test_a_damaged_run_and_the_command_that_fixes_it(copy: Path, finished: Path, petkit_command: Command) -> None:
    flip(copy / "stage_b" / "ensemble.json", copy)
    answer = petkit_command("verify", copy)
    assert (answer.code, answer.err) == (1, "") and answer.out.endswith("\nDamaged: see above.\n")
    again = f"petkit run {copy}/config.resolved.yaml --out {copy}"
    state, why, hint = entry(copy, "stage_b")
    assert (state, why, hint) == ("damaged", "ensemble.json has changed", f"{again} makes it again, and nothing else")
    assert why in answer.out and hint in answer.out
    assert json.loads(petkit_command("verify", copy, "--json").out)["whole"] is False

    assert petkit_command(*again.split()[1:], "--quiet").code == 0
    assert petkit_command("verify", copy).code == 0 and products(copy) == products(finished)


def test_what_petkit_did_not_write(copy: Path) -> None:
    (copy / "thesis.txt").write_text("mine")
    (copy / "stage_c" / "model" / "README.md").write_text("mine")
    (copy / "stage_b" / "soft_labels" / "part-00009.parquet").write_text("mine")
    (copy / "stage_a" / "notes.md").write_text("mine")
    assert entry(copy, "thesis.txt")[0] == entry(copy, "stage_a/notes.md")[0] == "unknown"
    assert entry(copy, "stage_c/model")[:2] == ("unknown", "README.md was added later")
    state, why, hint = entry(copy, "stage_b")
    assert (state, hint) == ("damaged", "move it out of the folder") and why.startswith(
        "soft_labels/part-00009.parquet was added later"
    )


def test_what_a_killed_run_left_is_not_damage(copy: Path) -> None:
    (copy / ".work" / "steps").mkdir(parents=True)
    (copy / ".manifest.json.1a2b3c4d.tmp").write_text("{")
    log = copy / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    shutil.rmtree(copy / "evaluation")
    found = {item.name: item.state for item in verify(copy).entries if item.state != "whole"}
    assert found == {".work": "remark", ".manifest.json.1a2b3c4d.tmp": "remark", "events.jsonl": "remark"} and verify(copy).whole


def test_steps_without_a_record_and_in_the_place_of_others(copy: Path) -> None:
    (copy / "stage_b" / RECORD).unlink()
    shutil.rmtree(copy / "stage_a" / "colon-2")
    shutil.copytree(copy / "stage_a" / "colon-1", copy / "stage_a" / "colon-2")
    assert entry(copy, "stage_b")[:2] == ("damaged", "step.json is missing")
    assert entry(copy, "stage_a/colon-2/model")[:2] == ("damaged", "step.json is that of stage_a/colon-1/model")


@pytest.mark.parametrize("name", ["stage_a/a\0b", "stage_a/../../elsewhere"])
def test_a_record_that_names_what_cannot_be_a_step(name: str, copy: Path) -> None:
    path = copy / "stage_b" / RECORD
    record = json.loads(path.read_text())
    del record["seal"]
    record["inputs"][name] = "0"
    path.write_text(json_with_checksum(record))
    assert entry(copy, name)[:2] == ("damaged", "is missing, and stage_b was made from it")


def test_a_step_that_others_were_made_from_is_missed(copy: Path, finished: Path, petkit_command: Command) -> None:
    shutil.rmtree(copy / "stage_a" / "colon-2")
    state, why, hint = entry(copy, "stage_a/colon-2/logits")
    assert (state, why) == ("damaged", "is missing, and stage_b was made from it") and hint.endswith(
        "makes it again, and nothing else"
    )
    assert petkit_command("run", copy / "config.resolved.yaml", "--out", copy, "--quiet").code == 0
    assert verify(copy).whole and products(copy) == products(finished)


@pytest.mark.parametrize(
    ("gone", "reported"), [(("stage_c", "evaluation"), "stage_c"), (("stage_b", "stage_c", "evaluation"), "stage_b")]
)
def test_what_is_still_to_come_is_said(gone: tuple[str, ...], reported: str, copy: Path, petkit_command: Command) -> None:
    for name in gone:
        shutil.rmtree(copy / name)
    (copy / reported).mkdir()  # as a kill just before the rename leaves it
    state, why, hint = entry(copy, reported)
    assert (state, why) == ("unfinished", "not done yet, or deleted") and hint.endswith(f"--out {copy} goes on")
    answer = petkit_command("verify", copy)
    assert answer.code == 0 and answer.out.endswith("\nNothing is damaged; not all of it is finished.\n")


def test_what_somebody_put_beside_the_steps_may_be_no_step(copy: Path) -> None:
    shutil.copytree(copy / "stage_c" / "model", copy / "stage_c" / "backup")
    (copy / "stage_c" / "mine").mkdir()
    (copy / "stage_c" / "mine" / "a.json").write_text("{}")
    for name, reported in (("backup", "step.json is that of stage_c/model"), ("mine", "step.json is missing")):
        state, why, hint = entry(copy, f"stage_c/{name}")
        assert (state, why) == ("damaged", reported)
        assert hint.endswith("makes it again, and nothing else; if it is not a step of this pipeline, move it away")


def test_a_copy_of_a_classifier_can_be_proven_too(copy: Path, here: Path, petkit_command: Command) -> None:
    model = Path(shutil.copytree(copy / "stage_c" / "model", here / "classifier"))
    assert petkit_command("verify", model).code == 0 == petkit_command("predict", model, "a game").code
    flip(model / "model.safetensors", model)
    answer = petkit_command("verify", model)
    assert answer.code == 1 and "model.safetensors has changed" in answer.out
    refused = petkit_command("predict", model, "a game")
    hint = "take the folder from its run again, or, if you changed it yourself, delete its step.json"
    assert (refused.code, refused.err) == (2, f"classifier: model.safetensors has changed ({hint})\n")
    (model / RECORD).unlink()
    assert petkit_command("predict", model, "a game").code == 0  # its owner has spoken


@pytest.mark.parametrize("made", [False, True])
def test_no_run_at_all(made: bool, here: Path, petkit_command: Command) -> None:
    if made:
        (here / "folder").mkdir()
    answer = petkit_command("verify", "folder")
    assert (answer.code, answer.err) == (2, f"folder: {'does not contain a petkit run' if made else 'no such folder'}\n")


# -- nothing damaged is read -----------------------------------------------------------------------------


READERS = [
    ("stage_a/colon-1/model/model.safetensors", ("b",), {"force": "b"}, ("soft_labels.weighting=train_accuracy",)),
    ("stage_a/colon-1/logits/part-00000.parquet", ("b",), {"force": "b"}, ()),
    ("stage_b/soft_labels/part-00000.parquet", ("c",), {"force": "c"}, ()),
    ("stage_b/ensemble.json", ("c",), {"force": "c"}, ()),
    ("stage_c/model/model.safetensors", ("evaluation",), {"force": "evaluation"}, ()),
    ("stage_a/brackets-2/model/model.safetensors", ("evaluation",), {"force": "evaluation"}, ()),
]


@pytest.mark.parametrize(("name", "stages", "options", "overrides"), READERS, ids=[f"{row[1][0]}: {row[0]}" for row in READERS])
def test_a_stage_alone_refuses_what_it_cannot_prove(
    name: str, stages: tuple[str, ...], options: dict[str, str], overrides: tuple[str, ...], pipeline_file: Path, copy: Path
) -> None:
    flip(copy / name, copy)
    before = checksums(copy)
    with pytest.raises(
        IncompleteRun, match=r"^run: stage_.* is damaged: \S+ has changed \(petkit run makes it again; petkit verify"
    ):
        run_task(pipeline_file, copy, *overrides, stages=stages, **options)
    assert checksums(copy) == before


def test_a_flipped_bit_is_reported_by_the_next_run(pipeline_file: Path, copy: Path, finished: Path) -> None:
    """It is found although nothing would have to be done, and nothing else is done again."""
    flip(copy / "stage_a" / "colon-1" / "model" / "model.safetensors", copy)
    assert run_task(pipeline_file, copy).ran == ("stage_a/colon-1/model",)
    assert products(copy) == products(finished)


def test_a_table_put_in_by_hand_is_not_read(pipeline_file: Path, copy: Path) -> None:
    logits = copy / "stage_a" / "colon-1" / "logits"
    shutil.copy(logits / "part-00000.parquet", logits / "part-00001.parquet")
    with pytest.raises(RunConflict, match=r"part-00001\.parquet was not written by petkit"):
        run_task(pipeline_file, copy, force="b")
    assert (logits / "part-00001.parquet").is_file()


def test_a_run_goes_on_without_its_manifest(pipeline_file: Path, copy: Path, petkit_command: Command) -> None:
    (copy / "manifest.json").write_text("{")
    refused = petkit_command("predict", copy, "a game")
    hint = "run the same petkit run again: it writes a new one, and finished steps stay"
    assert (refused.code, refused.err) == (2, f"{copy.name}: manifest.json was damaged ({hint})\n")
    heard: list[object] = []
    assert run_task(pipeline_file, copy, on_event=heard.append).ran == ()
    assert "manifest.json was damaged and is rewritten; finished steps stay" in str(heard)
    assert petkit_command("predict", copy, "a game").code == 0 and verify(copy).whole


@pytest.mark.parametrize("record", ["kept", "lost"])
def test_a_damaged_model_is_not_a_model_to_start_from(record: str, pipeline_file: Path, copy: Path) -> None:
    """A pipeline that names a step's folder as its model reads it only while it is as it was made."""
    model = copy / "stage_a" / "colon-1" / "model"
    load_it = lambda: run_task(pipeline_file, copy.parent / "next", f"model={model}", "teachers.steps=1", stages=("a",))  # noqa: E731
    if record == "lost":
        (model / RECORD).unlink()
    else:
        flip(model / "model.safetensors", copy)
    with pytest.raises(
        InvalidInput, match=f"model: run/.*: {'step.json is missing' if record == 'lost' else 'model.safetensors has'}"
    ):
        load_it()
    assert load(pipeline_file) and not (copy.parent / "next").exists()


# -- the matrix ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BENCHES, ids=lambda bench: bench.name)
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Matrix:
    kind: type[Bench] = request.param
    home = tmp_path_factory.mktemp("matrix")
    return Matrix(kind(home, model_folder("bert")), home)


def test_every_fault_in_every_file_is_found(matrix: Matrix) -> None:
    cells = matrix.cells()
    assert len(cells) > 5 * len(artefacts(matrix.bench.clean))
    missed = [
        (kind, fault)
        for kind, name, fault in cells
        if name != ".lock" and matrix.found(matrix.damaged(name, fault)) == "not found"
    ]
    assert missed == []
    assert matrix.found(matrix.bench.copy(matrix.scratch / "run")) in ("not found", "remark")


def test_a_part_of_the_matrix(matrix: Matrix) -> None:
    """Each kind of file with one fault, another one for each; the whole is ``benchmarks/fault_matrix.py``."""
    cells = matrix.cells()[::23]
    assert [cell for cell in (matrix.cell(*cell) for cell in cells) if cell.wrong] == []


@pytest.mark.parametrize("name", ["manifest.json", "config.resolved.yaml"])
def test_what_describes_a_folder_is_written_again(name: str, matrix: Matrix) -> None:
    cell = matrix.cell(name, name, "truncated")
    assert (cell.found, cell.wrong) == ("damaged", "") and cell.again in ("nothing to do", "repaired")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_matrix(matrix: Matrix) -> None:
    assert [cell for cell in (matrix.cell(*cell) for cell in matrix.cells()) if cell.wrong] == []


def test_refusals_of_a_folder_that_is_not_a_run_name_it(here: Path) -> None:
    with pytest.raises(ModelRefused, match=r"^nowhere: no such folder$"):
        verify(Path("nowhere"))
    assert RunStore(here).steps() == []


# -- links, and files that cannot be read ----------------------------------------------------------------


def test_links_that_nothing_follows_are_unknown_and_runs_go_on(pipeline_file: Path, copy: Path, petkit_command: Command) -> None:
    """What SECURITY.md says about links in run folders."""
    added = {"loop": "loop", "stage_a/up": "..", "stage_a/colon-1/model/self": "."}
    for name, target in added.items():
        (copy / name).symlink_to(target)
    assert run_task(pipeline_file, copy).ran == ()
    states = {entry.name: entry.state for entry in verify(copy).entries if entry.state != "whole"}
    assert states == {"loop": "unknown", "stage_a/up": "unknown", "stage_a/colon-1/model": "unknown"}
    assert petkit_command("verify", copy).code == 0


@pytest.mark.parametrize("name", ["stage_a", "stage_a/colon-1", "stage_a/colon-1/model", "stage_b", "evaluation"])
def test_a_link_in_place_of_a_step_is_damage_and_refused(
    name: str, pipeline_file: Path, copy: Path, here: Path, petkit_command: Command
) -> None:
    (copy / name).rename(here / "elsewhere")
    (copy / name).symlink_to(here / "elsewhere")
    assert {entry.name: entry.state for entry in verify(copy).entries}[name] == "damaged"
    assert petkit_command("verify", copy).code == 1
    with pytest.raises(RunConflict, match=f"{name} is a link"):
        run_task(pipeline_file, copy)


@pytest.mark.parametrize("step", ["stage_a/colon-1/logits", "stage_c/model"])
def test_a_file_that_cannot_be_read_is_not_damage(
    step: str, copy: Path, monkeypatch: pytest.MonkeyPatch, petkit_command: Command
) -> None:
    """What docs/reliability.md says about files that cannot be read."""
    path = copy / step / RECORD
    whole = integrity.content_of

    def refuse(asked: Path) -> bytes | None:
        if asked == path:
            raise integrity.Unreadable(asked, PermissionError(13, "Permission denied"))
        return whole(asked)

    monkeypatch.setattr(integrity, "content_of", refuse)
    found = verify(copy)
    assert {entry.name: entry.state for entry in found.entries if entry.state != "whole"} == {step: "unreadable"}
    assert not found.whole and not found.damaged
    answer = petkit_command("verify", copy)
    assert answer.code == 2 and answer.out.endswith("Not all of it can be read; what was read is not damaged.\n")
    (copy / "stage_b" / ENSEMBLE_FILE).unlink()
    answer = petkit_command("verify", copy)
    assert answer.code == 1 and answer.out.endswith("Damaged: see above.\n")
