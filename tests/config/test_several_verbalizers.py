"""Verbalizers of patterns' own, and a list of verbalizers that goes with every pattern."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from petkit import limits
from petkit.config import library
from petkit.config.loader import dump_spec, load_pipeline
from petkit.errors import BeyondLimit
from tests.config.pipelines import PATTERNS, PIPELINE, loaded, mistakes, write

SECOND = "labels:\n  Sports: [game]\n  World: [earth]\n"
NAMED = "verbalizer: ../verbalizers/news.yaml"


def with_verbalizers(folder: Path, written: str, patterns: str = PATTERNS) -> Path:
    """Write a pipeline with ``verbalizers``, and a second verbalizer file, whose labels are in another order."""
    path = write(folder, PIPELINE.replace(NAMED, f"verbalizers: {written}"), patterns)
    (folder / "verbalizers/other.yaml").write_text(SECOND)
    return path


def test_every_pattern_goes_with_every_verbalizer(here: Path) -> None:
    spec = loaded(with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]"))

    assert [pattern.id for pattern in spec.patterns] == [
        "topic-colon-news", "topic-colon-other", "news-pair-news", "news-pair-other",
    ]  # fmt: skip
    assert spec.labels == ("World", "Sports")
    words = [spec.verbalizer_of(pattern).labels for pattern in spec.patterns]
    # In the order of the first verbalizer, which is that of class numbers.
    assert [list(own.items()) for own in words[:2]] == [
        [("World", ("world",)), ("Sports", ("sports", "football"))],
        [("World", ("earth",)), ("Sports", ("game",))],
    ]
    assert words[2:] == words[:2]


def test_one_verbalizer_in_a_list_is_the_pipelines(here: Path) -> None:
    assert loaded(with_verbalizers(here, "[../verbalizers/news.yaml]")) == loaded(write(here))


def test_mapping_names_files_and_verbalizers(here: Path) -> None:
    spec = loaded(with_verbalizers(here, "{a: ../verbalizers/news.yaml, b: {labels: {World: [earth], Sports: [game]}}}"))

    assert [pattern.id for pattern in spec.patterns] == ["topic-colon-a", "topic-colon-b", "news-pair-a", "news-pair-b"]
    assert spec.verbalizer_of(spec.patterns[3]).labels == {"World": ("earth",), "Sports": ("game",)}


def test_library_verbalizers_go_by_their_name(here: Path) -> None:
    written = "verbalizers=[petkit:mnli_v1, petkit:mnli_v2]"
    spec = loaded(write(here), "verbalizer=null", written, "patterns=petkit:pet_paper_mnli", "data.columns={}")

    assert [pattern.id.removeprefix("paper-") for pattern in spec.patterns] == [
        "p1-mnli_v1",
        "p1-mnli_v2",
        "p2-mnli_v1",
        "p2-mnli_v2",
    ]


def test_pattern_names_its_verbalizer_from_where_the_pattern_is(here: Path) -> None:
    path = write(here, patterns=PATTERNS + "    verbalizer: own/other.yaml\n")
    (here / "patterns/own").mkdir()
    (here / "patterns/own/other.yaml").write_text(SECOND)
    spec = loaded(path)

    assert spec.patterns[0].verbalizer is None
    assert spec.verbalizer_of(spec.patterns[1]).labels == {"World": ("earth",), "Sports": ("game",)}
    assert load_pipeline(path).document.place(("patterns", 1, "verbalizer", "labels", "World")) == ("patterns/own/other.yaml", 3)


def test_written_out_it_is_the_same_pipeline(here: Path) -> None:
    spec = loaded(with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]"))
    again = here / "again.yaml"
    again.write_text(dump_spec(spec))

    assert loaded(again) == spec


def test_every_value_keeps_its_file_and_line(here: Path) -> None:
    pipeline = load_pipeline(with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]"))

    assert pipeline.document.place(("patterns", 3, "text")) == ("patterns/topic.yaml", 5)
    assert pipeline.document.place(("patterns", 3, "verbalizer", "labels", "World")) == ("verbalizers/other.yaml", 3)
    assert pipeline.document.place(("verbalizer", "labels", "Sports")) == ("verbalizers/news.yaml", 3)


def test_mistakes_of_a_shared_file_are_reported_once(here: Path) -> None:
    path = with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml, ../verbalizers/none.yaml]")
    (here / "verbalizers/other.yaml").write_text("labels:\n  World: [earth, earth]\n  Art: [art]\n  Sports: [game]\nkind: loud\n")

    assert sorted(mistakes(path)) == [
        "pipelines/news.yaml:6: verbalizers.2: verbalizers/none.yaml: no such file",
        "verbalizers/other.yaml:2: label 'World' lists 'earth' twice",
        "verbalizers/other.yaml:3: label 'Art' is not in the pipeline's verbalizer (known: World, Sports)",
        "verbalizers/other.yaml:5: verbalizer.kind: must be 'words', 'soft' or 'prototype', not 'loud'",
    ]


def test_unread_verbalizer_is_the_only_mistake(here: Path) -> None:
    """Nothing is compared with what stands for it."""
    path = write(here, patterns=PATTERNS + "    verbalizer: {labels: {World: [earth], Sports: [game]}}\n", verbalizer=None)

    assert mistakes(path) == ["pipelines/news.yaml:6: verbalizer: verbalizers/news.yaml: no such file"]


def test_product_beyond_the_cap_is_refused_before_it_is_made(here: Path) -> None:
    patterns = "patterns:\n" + "".join(f'  - {{id: p{number}, text: "{{text}} {{mask}}"}}\n' for number in range(150))
    path = with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]", patterns)

    with pytest.raises(BeyondLimit, match=f"150 patterns × 2 verbalizers are 300 patterns; at most {limits.PATTERNS}"):
        load_pipeline(path)


def test_words_of_all_verbalizers_count_together(here: Path) -> None:
    labels = "labels:\n" + "".join(
        f"  l{number}: [{', '.join(f'w{number}x{word}' for word in range(20))}]\n" for number in range(90)
    )
    path = with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]")
    for name in ("news", "other"):
        (here / f"verbalizers/{name}.yaml").write_text(labels)
    patterns = "patterns:\n" + "".join(f'  - {{id: p{number}, text: "{{text}} {{mask}}"}}\n' for number in range(5))
    (here / "patterns/topic.yaml").write_text(patterns)

    with pytest.raises(BeyondLimit, match="10,800 words of all labels are more than 10,000"):
        load_pipeline(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(names=st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True), min_size=2, max_size=5, unique=True))
def test_every_pair_has_a_name_of_its_own_or_is_refused(here: Path, names: list[str]) -> None:
    """``a-b`` with ``c`` and ``a`` with ``b-c`` would be called alike."""
    written = ", ".join(f"{name}: {{labels: {{World: [earth], Sports: [game]}}}}" for name in names)
    patterns = "patterns:\n" + "".join(f'  - {{id: {name!r}, text: "{{text}} {{mask}}"}}\n' for name in names)
    path = with_verbalizers(here, f"{{{written}}}", patterns)
    ids = [f"{pattern}-{verbalizer}" for pattern in names for verbalizer in names]

    if len(set(ids)) == len(ids) and not any(name.isdigit() for name in names):
        assert [pattern.id for pattern in loaded(path).patterns] == ids
    elif len(set(ids)) < len(ids):
        assert any("is used twice" in line for line in mistakes(path))


@pytest.mark.parametrize(
    "patterns", ["[../patterns/topic.yaml, none.yaml]", "[../patterns/topic.yaml, empty.yaml]", "[none.yaml]"]
)
def test_pattern_files_that_cannot_be_read(here: Path, patterns: str) -> None:
    path = with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]")
    (here / "pipelines/empty.yaml").write_text("patterns: []\n")
    path.write_text(path.read_text().replace("../patterns/topic.yaml", patterns))

    if "none" in patterns:
        assert mistakes(path) == ["pipelines/news.yaml:5: patterns: pipelines/none.yaml: no such file"]
    else:
        assert len(loaded(path).patterns) == 4


def test_patterns_that_are_none_beside_an_unread_verbalizer(here: Path) -> None:
    path = write(here, PIPELINE.replace("../patterns/topic.yaml", "5"), verbalizer=None)

    assert [line.partition(": ")[2] for line in mistakes(path)] == [
        "verbalizer: verbalizers/news.yaml: no such file", "patterns: must be a list, not 5",
    ]  # fmt: skip


def test_file_of_an_override_is_named_from_the_current_folder(here: Path) -> None:
    path = with_verbalizers(here, "{a: ../verbalizers/news.yaml, b: ../verbalizers/other.yaml}")
    (here / "mine.yaml").write_text("labels: {World: [globe], Sports: [match]}\n")
    spec = loaded(path, "verbalizers.b=mine.yaml")

    assert spec.verbalizer_of(spec.patterns[1]).labels == {"World": ("globe",), "Sports": ("match",)}


def test_one_verbalizer_by_an_override_needs_another(here: Path) -> None:
    path = with_verbalizers(here, "[../verbalizers/news.yaml, ../verbalizers/other.yaml]")

    assert mistakes(path, "verbalizer=verbalizers/other.yaml") == [
        "pipelines/news.yaml:6: verbalizers: verbalizer is given too (add --set verbalizers=null)"
    ]
    assert loaded(path, "verbalizer=verbalizers/other.yaml", "verbalizers=null").labels == ("Sports", "World")


def test_bad_file_that_many_patterns_name_is_read_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Counter[str]()
    plain = library.read
    monkeypatch.setattr(library, "read", lambda name, *rest: read.update([name]) or plain(name, *rest))
    patterns = "patterns:\n" + "".join(
        f'  - {{id: p{number}, text: "{{text}} {{mask}}", verbalizer: bad.yaml}}\n' for number in range(50)
    )
    path = write(here, patterns=patterns)
    (here / "patterns/bad.yaml").write_text("labels: [\n")

    assert len(mistakes(path)) == 1 and read["bad.yaml"] == 1


def test_too_many_patterns_are_refused_before_their_verbalizers_are_read(here: Path) -> None:
    patterns = "patterns:\n" + "".join(
        f'  - {{id: p{number}, text: "{{text}} {{mask}}", verbalizer: none.yaml}}\n' for number in range(limits.PATTERNS + 1)
    )
    with pytest.raises(BeyondLimit, match="201 patterns are more than 200") as refused:
        load_pipeline(write(here, patterns=patterns))

    assert "none.yaml" not in str(refused.value)
