"""``petkit:NAME`` in place of a file: the same settings from any folder, and never a file outside of the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config import library
from petkit.config.loader import dump_spec, load_pipeline
from petkit.errors import InvalidInput
from tests.cli import project
from tests.library import EXAMPLES, ROOT

SETTINGS = ["patterns=petkit:topic", "verbalizer=petkit:ag_news"]


@pytest.fixture
def pipeline(here: Path) -> Path:
    """A pipeline that names a pattern file and a verbalizer of the library."""
    text = project.PIPELINE.format(model="embedded")
    for kind, name in (("patterns", "topic"), ("verbalizer", "ag_news")):
        text = text.replace(f"{kind}: {kind}.yaml", f"{kind}: petkit:{name}")
    (here / "pipeline.yaml").write_text(text, encoding="utf-8")
    return here / "pipeline.yaml"


def test_the_files_are_read_in_a_pipeline_and_in_set(pipeline: Path) -> None:
    spec = load_pipeline(pipeline).spec
    by_path = load_pipeline(
        pipeline, [f"patterns={ROOT}/patterns/topic.yaml", f"verbalizer={ROOT}/verbalizers/ag_news.yaml"]
    ).spec

    assert spec == by_path == load_pipeline(pipeline, SETTINGS).spec
    assert spec.labels == ("World", "Sports", "Business", "Sci/Tech")


def test_a_list_may_mix_names_and_files(pipeline: Path, here: Path) -> None:
    (here / "petkit:own").write_text('patterns: [{id: own, text: "{text} {mask}"}]', encoding="utf-8")

    loaded = load_pipeline(pipeline, ["patterns=[petkit:topic, ./petkit:own]"])

    assert [pattern.id for pattern in loaded.spec.patterns][-2:] == ["topic-after", "own"]
    assert loaded.document.place(("patterns", 0, "text"))[0] == "petkit:topic"


def test_resolved_settings_do_not_name_the_library(pipeline: Path, here: Path) -> None:
    spec = load_pipeline(pipeline).spec
    resolved = here / "elsewhere" / "config.resolved.yaml"
    resolved.parent.mkdir()
    resolved.write_text(dump_spec(spec), encoding="utf-8")

    assert "petkit:" not in resolved.read_text(encoding="utf-8")
    assert load_pipeline(resolved).spec == spec


@pytest.mark.parametrize("name", sorted(library.files("pipelines")))
def test_a_pipeline_of_the_library_reads_data_of_the_current_folder(name: str, here: Path) -> None:
    spec, by_path = load_pipeline(f"petkit:{name}").spec, load_pipeline(ROOT / "pipelines" / f"{name}.yaml").spec

    assert dump_spec(spec) == dump_spec(by_path).replace(f"{ROOT}/data", f"{here}/data")
    assert Path(spec.data.unlabeled).is_relative_to(here / "data")


@pytest.mark.parametrize("kind", ["patterns", "verbalizers", "pipelines"])
@given(
    st.one_of(st.text(max_size=20), st.sampled_from(["../patterns/topic", "./topic", "topic.yaml", f"{ROOT}/patterns/topic", ""]))
)
def test_any_other_name_is_refused(kind: str, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        library.locate(f"petkit:{name}", kind)

    assert len(str(refused.value).splitlines()) == 1


def test_every_file_is_listed_with_a_description() -> None:
    listed = {(entry.kind, entry.name.removeprefix("petkit:")) for entry in library.entries()}
    folders = [(kind, ROOT / kind) for kind in ("patterns", "verbalizers", "pipelines")]

    assert listed - {("examples", path.parent.name) for path in EXAMPLES} == {
        (kind, str(path.relative_to(folder))[: -len(".yaml")]) for kind, folder in folders for path in folder.rglob("*.yaml")
    }
    assert all(10 < len(entry.description) < 200 and "\n" not in entry.description for entry in library.entries())
    assert library.Entry("verbalizers", "petkit:sentiment", "Label words for praise and blame") in library.entries()
