"""Any pipeline, pattern or verbalizer file either loads, or every mistake is reported with its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.errors import InvalidInput
from tests.config.pipelines import PATTERNS, PIPELINE, VERBALIZER, write
from tests.fuzz.mutations import mutated

FILES = {"pipelines/news.yaml": PIPELINE, "patterns/topic.yaml": PATTERNS, "verbalizers/news.yaml": VERBALIZER}
# Every section with every key, as a run folder's own config.resolved.yaml writes them.
WHOLE: dict[str, Any] = {
    **PipelineSpec(
        task="news",
        data={"train": "a.jsonl", "unlabeled": "b.jsonl", "columns": {"text": "body"}, "label_names": ("World", "Sports")},
        patterns=({"id": "colon", "text": "{mask}: {text}"}, {"id": "pair", "text": ("{mask} news:", "{text}")}),
        verbalizer={"labels": {"World": ("world",), "Sports": ("sports", "football")}},
        teachers={"adapter": {"kind": "lora"}},
        student={"adapter": {"kind": "prompt_tuning"}},
        soft_labels={"prior": {"World": 0.5, "Sports": 0.5}},
    ).model_dump(mode="json")
}
PLACED = re.compile(r"(?:pipelines/news|patterns/topic|verbalizers/news)\.yaml(?::\d+)?: ")
PYTHON = re.compile(
    r"\b(?:None|True|False|NoneType|dict|tuple|str|int|bool|float|object|instance|pydantic|\w*(?:Spec|Section|Error|Exception))\b"
)
YAMLISH = st.text(st.sampled_from("abc:- \n\t#[]{},&*!|>'\"%@`?\\0123.~\u00e9\u2028\x07<="), max_size=60)


def outcome(path: Path, *overrides: str) -> PipelineSpec | list[str]:
    """Load a pipeline: the specification, or the lines of the report. Nothing else may come out of it."""
    try:
        return load_pipeline(path, overrides).spec
    except InvalidInput as error:
        return str(error).split("\n")


def check(found: PipelineSpec | list[str], place: re.Pattern[str] = PLACED) -> None:
    if isinstance(found, list):
        assert found
        for line in found:
            assert place.match(line), line
            assert line.isprintable() or not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", line), line
            assert not PYTHON.search(line), line


def dumped(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)


def test_the_sound_files_load(here: Path) -> None:
    """What the mutations start from has no mistake of its own."""
    assert isinstance(outcome(write(here)), PipelineSpec)
    assert isinstance(outcome(write(here, dumped(WHOLE))), PipelineSpec)


@pytest.mark.slow
@settings(max_examples=300)
@given(mutated(WHOLE))
def test_a_pipeline_with_broken_places(here: Path, data: Any) -> None:
    check(outcome(write(here, dumped(data))))


@pytest.mark.parametrize("name", ["pipelines/news.yaml", "patterns/topic.yaml", "verbalizers/news.yaml"])
@given(st.data())
def test_a_file_with_broken_places(here: Path, name: str, data: st.DataObject) -> None:
    path = write(here)
    sound = yaml.safe_load(FILES[name])
    (here / name).write_text(dumped(data.draw(mutated(sound))), encoding="utf-8")

    check(outcome(path))


@pytest.mark.parametrize("name", ["pipelines/news.yaml", "patterns/topic.yaml", "verbalizers/news.yaml"])
@settings(max_examples=150)
@given(data=st.data())
def test_a_file_with_a_broken_text(here: Path, name: str, data: st.DataObject) -> None:
    """A piece of the file is cut out and replaced by something else or nothing."""
    path = write(here)
    text = FILES[name]
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(start + 20, len(text))))
    piece = data.draw(st.one_of(YAMLISH, st.text(max_size=10), st.just(text[start:stop] * 2)))
    (here / name).write_text(text[:start] + piece + text[stop:], encoding="utf-8", newline="")

    check(outcome(path))


@pytest.mark.parametrize("name", ["pipelines/news.yaml", "patterns/topic.yaml", "verbalizers/news.yaml"])
@given(content=st.one_of(st.binary(max_size=60), YAMLISH.map(str.encode), st.text(max_size=60).map(str.encode)))
def test_a_file_with_any_content(here: Path, name: str, content: bytes) -> None:
    path = write(here)
    (here / name).write_bytes(content)

    check(outcome(path))


@given(st.one_of(YAMLISH, st.text(max_size=40)), st.sampled_from(["", "task=", "teachers.steps=", "data.", "student.adapter="]))
def test_any_override(here: Path, text: str, start: str) -> None:
    found = outcome(write(here), f"{start}{text}")

    check(found, re.compile(rf"{PLACED.pattern}|--set "))


@pytest.mark.parametrize(
    "text", ['a: "\\UFFFFFFFF"', 'a: "\\U00110000"', f"%YAML {'1' * 5000}.1\n---\na: 1", "%TAG ! tag:x,%\n---\n!a b", "!%zz a", "a: !<%ff> b"]
)  # fmt: skip
def test_escapes_of_what_does_not_exist(here: Path, text: str) -> None:
    found = outcome(write(here, text))

    assert isinstance(found, list)
    assert found[0].startswith("pipelines/news.yaml")
    assert "not valid YAML" in found[0]


@pytest.mark.parametrize("name", ["patterns", "verbalizer", "model", "data.train", "student.model"])
def test_a_file_name_longer_than_the_system_knows(here: Path, name: str) -> None:
    found = outcome(write(here), f"{name}={'n' * 5000}")

    if name in ("patterns", "verbalizer"):  # the others are opened later
        assert isinstance(found, list)
        assert found[0].endswith("cannot be read: File name too long")
    check(found, re.compile("--set "))
