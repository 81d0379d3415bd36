"""Any manifest and any step record: what is called finished is as recorded, and everything else has a state of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petkit.errors import IncompleteRun, PetkitError, RunConflict
from petkit.runs.fingerprint import Inputs, fingerprint
from petkit.runs.store import RunStore
from tests.fuzz.mutations import STRANGE_VALUES, mutated

STEP = "stage_a/colon-1/model"
INPUTS: Inputs = {"teachers.steps": 100, "model": "0123456789abcdef" * 4, "labels": ["World", "Sports"]}
STATES = ("finished", "stale", "damaged", "missing")
NAMES = st.one_of(
    st.sampled_from(["/etc/passwd", "../../../manifest.json", "logits/../../x", "", ".", "..", "logits", "no", "a\0b", "\ud800", "n" * 300, "model.bin/x"]),
    st.text(max_size=5),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one finished step."""
    store = RunStore(tmp_path_factory.mktemp("made") / "run")
    with store.locked():
        store.write_manifest({"task": "test", "data": {"columns": {}}, "arithmetic": {"precision": "float32"}})
        with store.publishing(STEP, INPUTS, {"seconds": 1.5}) as folder:
            (folder / "model.bin").write_text("weights")
            (folder / "logits").mkdir()
            (folder / "logits" / "part.bin").write_text("logits")
    return store.folder


@pytest.fixture(scope="module")
def record(made: Path) -> dict[str, Any]:
    return read(made / STEP / "step.json")


def read(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def checksummed_anyhow(data: Any) -> bytes:
    """Return data as petkit would write it, had it come to such data: with a checksum that fits, but in ASCII and with any number."""
    if not isinstance(data, dict):
        return json.dumps(data).encode()
    data = {key: value for key, value in data.items() if key != "seal"}
    return with_checksum(json.dumps({**data, "seal": ""}, indent=2) + "\n")


def with_checksum(text: str) -> bytes:
    """Fill in the empty checksum at the end of a text."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'"seal": "{digest}"'.join(text.rsplit('"seal": ""', 1)).encode()


def write(path: Path, data: Any) -> None:
    """Write a record or a manifest with its checksum."""
    path.write_bytes(checksummed_anyhow(data))


def is_as_recorded(folder: Path, data: Any) -> bool:
    """Say whether the files of a step are those of its record, without asking petkit."""
    if not isinstance(data, dict) or not isinstance(data.get("files"), dict):
        return False
    for name, entry in data["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file() or not isinstance(entry, dict):
            return False
        content = path.read_bytes()
        if entry.get("bytes") != len(content) or entry.get("sha256") != hashlib.sha256(content).hexdigest():
            return False
    return True


def check(folder: Path, data: Any) -> None:
    """Ask a store everything about the step; compare with what its record says."""
    store = RunStore(folder)
    for inputs in (INPUTS, {**INPUTS, "teachers.steps": 5}):
        for unknown in ((), ("model", "nothing")):
            status = store.status(STEP, inputs, unknown)
            assert status.state in STATES
            assert bool(status.why) == (status.state != "finished")
            if status.state == "finished":
                assert data["fingerprint"] == fingerprint(inputs) or unknown
    content, inputs_of, facts = store.content(STEP), store.inputs(STEP), store.facts(STEP)
    status = store.status(STEP, INPUTS)
    assert (content is None) == (status.state == "missing" or status.why == "step.json is damaged")
    assert isinstance(inputs_of, dict) and isinstance(facts, dict)
    try:
        path, refused = store.path(STEP), ""
    except IncompleteRun as error:
        path, refused = None, str(error)
    assert (path == folder / STEP and is_as_recorded(folder / STEP, data)) or refused.startswith(f"{store.shown}: {STEP} is ")


def test_the_sound_step_is_finished(made: Path, record: dict[str, Any]) -> None:
    store = RunStore(made)

    assert (store.status(STEP, INPUTS).state, store.path(STEP)) == ("finished", made / STEP)
    assert is_as_recorded(made / STEP, record)


@settings(max_examples=300)
@given(data=st.data())
def test_a_record_with_broken_places(made: Path, record: dict[str, Any], data: st.DataObject) -> None:
    broken = data.draw(mutated(record))
    try:
        write(made / STEP / "step.json", broken)
        check(made, broken)
    finally:
        write(made / STEP / "step.json", record)


@settings(max_examples=100)
@given(
    name=NAMES, entry=st.one_of(STRANGE_VALUES, st.fixed_dictionaries({"bytes": st.integers(), "sha256": st.text(max_size=3)}))
)
def test_a_record_that_names_strange_files(made: Path, record: dict[str, Any], name: str, entry: Any) -> None:
    broken = {**record, "files": {**record["files"], name: entry}}
    try:
        write(made / STEP / "step.json", broken)
        check(made, broken)
        assert RunStore(made).status(STEP, INPUTS).state in ("damaged", "missing")
    finally:
        write(made / STEP / "step.json", record)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../manifest.json", "logits/../../../../manifest.json"])
def test_a_file_outside_of_the_step_proves_nothing(made: Path, record: dict[str, Any], name: str) -> None:
    """Even where it is there, and is as recorded."""
    outside = made / STEP / name
    content = outside.read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        write(made / STEP / "step.json", {**record, "files": {**record["files"], name: entry}})
        assert RunStore(made).status(STEP, INPUTS).state in ("damaged", "missing")
        with pytest.raises(IncompleteRun):
            RunStore(made).path(STEP)
    finally:
        write(made / STEP / "step.json", record)


TEXTS = st.one_of(
    st.binary(max_size=40),
    st.recursive(STRANGE_VALUES, lambda inner: st.lists(inner, max_size=2)).map(lambda data: json.dumps(data).encode()),
    st.sampled_from([b"[" * 100_000, b'{"schema": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}", b"null", b'{"schema": true}']),
)  # fmt: skip


@settings(max_examples=150)
@given(content=TEXTS)
def test_a_record_of_any_content(made: Path, record: dict[str, Any], content: bytes) -> None:
    try:
        (made / STEP / "step.json").write_bytes(content)
        check(made, None)
        assert RunStore(made).status(STEP, INPUTS).state in ("damaged", "missing")
    finally:
        write(made / STEP / "step.json", record)


def test_a_record_that_says_two_things(made: Path, record: dict[str, Any]) -> None:
    """The second would win, and hide that the first does not fit."""
    text = json.dumps({**record, "seal": ""})
    twice = f'{{"files": {{"gone.bin": {{"bytes": 1, "sha256": "x"}}}}, {text[1:]}'
    try:
        (made / STEP / "step.json").write_bytes(with_checksum(twice))
        assert RunStore(made).status(STEP, INPUTS).state in ("damaged", "missing")
    finally:
        write(made / STEP / "step.json", record)


@settings(max_examples=150)
@given(data=st.data())
def test_a_manifest_of_any_content(made: Path, data: st.DataObject) -> None:
    """It is a run's, or refused; and its readers can trust the shape of its content."""
    path = made / "manifest.json"
    sound = path.read_bytes()
    broken = data.draw(st.one_of(TEXTS, mutated(json.loads(sound)).map(checksummed_anyhow)))
    store = RunStore(made)
    try:
        path.write_bytes(broken)
        for ask in (store.manifest, store.refuse_foreign):
            answer, refused = {}, f"{store.shown}: "
            try:
                answer = ask() or {}
            except RunConflict as error:
                refused = str(error)
            assert all(isinstance(answer.get(key, {}), dict) for key in ("data", "arithmetic", "versions", "machine"))
            assert refused.startswith(f"{store.shown}: ") and len(refused.splitlines()) == 1
        assert store.status(STEP, INPUTS).state == "finished"  # a step speaks for itself
    finally:
        path.write_bytes(sound)


@settings(max_examples=100)
@given(precision=STRANGE_VALUES, data=st.data())
def test_a_lost_manifest_is_restored_from_any_record(
    made: Path, record: dict[str, Any], precision: Any, data: st.DataObject
) -> None:
    """What a record says in its place has the shape of a manifest."""
    sound = (made / "manifest.json").read_bytes()
    inputs = {**record["inputs"], "precision": precision}
    broken = data.draw(st.one_of(st.just({**record, "inputs": inputs}), mutated(record)))
    store = RunStore(made)
    try:
        (made / "manifest.json").unlink()
        write(made / STEP / "step.json", broken)
        answer = store.manifest()
        assert all(isinstance(answer.get(key, {}), dict) for key in ("arithmetic", "versions", "machine"))
    finally:
        (made / "manifest.json").write_bytes(sound)
        write(made / STEP / "step.json", record)


@pytest.mark.parametrize("folder", ["n" * 300, "file/run"])
def test_a_folder_that_cannot_be(here: Path, folder: str) -> None:
    (here / "file").write_text("")
    store = RunStore(folder)

    assert store.status(STEP, INPUTS).state == "missing"
    with pytest.raises(PetkitError), store.locked():
        raise AssertionError("must not be reached")
