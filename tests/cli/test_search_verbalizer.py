"""``petkit search-verbalizer``: words in a table, and in a file that is an ordinary verbalizer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from petkit.formatting import in_one_line
from petkit.task.task import Task
from tests.cli import project
from tests.cli.conftest import Outcome

Command = Callable[..., Outcome]
SEARCH = ("search-verbalizer", "pipeline.yaml")
ODD_LABELS = (
    "yes",
    "1.5",
    "Sci/Tech: x",
    "- {a} #b",
    "'quoted' \"twice\"",
    "~",
    "体育",
    "a\nb\u2028c\x85d",
    " spaced ",
    "x" * 200,
)


@pytest.fixture
def search(tiny: Path, petkit_command: Command) -> Command:
    """``search("--json")`` in the folder of the tiny project."""
    return lambda *options: petkit_command(*SEARCH, *options)


def test_the_table_shows_found_and_named_words(search: Command, tiny: Path) -> None:
    before = project.snapshot(tiny)

    shown = search()

    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["label", "word", "log-likelihood", "ratio"]
    assert [line[0] for line in lines[1:-1] if "found" in line[3]] == ["World"] * 3 + ["Sports"] * 3
    assert {(line[0], line[1]) for line in lines[1:-1] if line[-1] == "named"} == {
        ("World", "world"), ("Sports", "sports"), ("Sports", "football"),
    }  # fmt: skip
    assert " ".join(lines[-1]) == "note: found on 4 labelled rows; in nats per row, sum over 2 patterns"
    assert "label words: 4 labelled rows in 2 patterns … done in" in shown.err
    assert project.snapshot(tiny) == before


def test_json(search: Command) -> None:
    found = json.loads(search("--json", "--quiet").out)

    assert sorted(found) == ["descriptions", "kind", "named", "patterns", "rows", "words"]
    assert (found["kind"], found["patterns"], found["rows"]) == ("words", ["colon", "brackets"], 4)
    assert list(found["words"]) == ["World", "Sports"]
    for words in found["words"].values():
        assert len(words) == 3 and list(words.values()) == sorted(words.values(), reverse=True)
    assert list(found["named"]["Sports"]) == ["sports", "football"]


def test_the_file_is_an_ordinary_verbalizer(search: Command, tiny: Path) -> None:
    shown = search("--out", "words.yaml")
    assert shown.out.splitlines()[-1] == "written to words.yaml"

    assert shown.code == 0, shown.err
    found = json.loads(search("--json").out)["words"]
    loaded = load_pipeline(tiny / "pipeline.yaml", ["verbalizer=words.yaml"])
    assert loaded.spec.verbalizer.auto is None
    assert {label: list(words) for label, words in loaded.spec.verbalizer.labels.items()} == {
        label: list(words) for label, words in found.items()
    }
    Task.checked(loaded)  # every word is found again in every pattern
    lines = (tiny / "words.yaml").read_text(encoding="utf-8").splitlines()
    for label, words in found.items():
        scores = ", ".join(f"{score:.2f}" for score in words.values())
        (line,) = (line for line in lines if line.startswith(f"  {label}: ["))
        assert line.endswith(f"]  # log-likelihood ratio {scores}")
    assert "#   petkit run PIPELINE --set verbalizer=words.yaml" in lines
    assert search("--out", "again.yaml").code == 0
    assert (tiny / "again.yaml").read_text() == (tiny / "words.yaml").read_text().replace("words.yaml", "again.yaml")


def test_labels_that_need_quotes(search: Command, tiny: Path) -> None:
    texts = [text for text, _ in project.TRAIN]
    rows = [
        {"text": f"{text} {word}", "label": label} for label in ODD_LABELS for text, word in zip(texts, ["a", "b"], strict=False)
    ]
    (tiny / "train.jsonl").write_text(project.json_lines(rows), encoding="utf-8")
    auto = ("--set", "verbalizer={auto: {per_label: 1}}", "--set", "data.test=null")

    shown = search("--out", "words.yaml", *auto)

    assert shown.code == 0, shown.err
    loaded = load_pipeline(tiny / "pipeline.yaml", ["verbalizer=words.yaml", "data.test=null"])
    assert sorted(loaded.spec.labels) == sorted(ODD_LABELS)
    assert Task.checked(loaded).labels == tuple(sorted(ODD_LABELS))
    assert all(len(words) == 1 for words in loaded.spec.verbalizer.labels.values())


def test_words_found_by_auto_are_asked_for_as_there(search: Command) -> None:
    auto = "verbalizer={auto: {per_label: 2, candidates: 5, scope: pattern}}"

    found = json.loads(search("--set", auto, "--json").out)

    assert [len(words) for words in found["words"].values()] == [2, 2]  # joint, whatever the scope
    assert list(found["words"]) == ["Sports", "World"] and found["named"] == {}


def test_one_pattern_alone(search: Command, tiny: Path) -> None:
    assert search("--pattern", "brackets", "--out", "words.yaml").code == 0
    alone = json.loads(search("--pattern", "brackets", "--json").out)
    other = json.loads(search("--pattern", "colon", "--json").out)
    together = json.loads(search("--json").out)

    assert alone["patterns"] == ["brackets"]
    assert "on 4 labelled rows in pattern brackets." in (tiny / "words.yaml").read_text()
    for label, words in together["named"].items():
        for word, score in words.items():
            assert score == pytest.approx(alone["named"][label][word] + other["named"][label][word])


def test_the_way_words_are_read_is_kept(search: Command, tiny: Path) -> None:
    (tiny / "verbalizer.yaml").write_text(f"kind: soft\n{project.VERBALIZER}")

    assert search("--out", "words.yaml").code == 0

    assert load_pipeline(tiny / "pipeline.yaml", ["verbalizer=words.yaml"]).spec.verbalizer.kind == "soft"


def test_descriptions_are_kept(search: Command, tiny: Path) -> None:
    written = {"World": ["Elections: held #1.", 'a\u2028b "c" \x85'], "Sports": [{"text": "They won."}]}
    (tiny / "verbalizer.yaml").write_text(f"{project.VERBALIZER}\ndescriptions: {json.dumps(written)}\n")

    assert search("--out", "words.yaml").code == 0

    kept = load_pipeline(tiny / "pipeline.yaml", ["verbalizer=words.yaml"]).spec.verbalizer.descriptions
    assert kept == load_pipeline(tiny / "pipeline.yaml").spec.verbalizer.descriptions
    assert {label: list(texts) for label, texts in kept.items()} == {**written, "World": ["Elections: held #1.", 'a\u2028b "c"']}


def test_named_words_of_several_tokens_have_no_score(search: Command, tiny: Path) -> None:
    (tiny / "verbalizer.yaml").write_text("multi_token: true\nlabels:\n  World: [world, worldly]\n  Sports: [olympics]\n")

    found = json.loads(search("--json").out)

    assert {label: list(words) for label, words in found["named"].items()} == {"World": ["world"], "Sports": []}


# -- what is refused -----------------------------------------------------------------------------------


def test_a_file_is_overwritten_only_with_force(search: Command, tiny: Path) -> None:
    (tiny / "words.yaml").write_text("mine")

    refused = search("--out", "words.yaml")

    reported = "words.yaml: already exists (choose another file, or overwrite it with --force)\n"
    assert (refused.code, refused.out, refused.err) == (2, "", reported)  # before any work
    assert (tiny / "words.yaml").read_text() == "mine"
    assert search("--force", "--out", "words.yaml").code == 0
    assert "labels:" in (tiny / "words.yaml").read_text()
    assert [path.name for path in tiny.glob("*words*")] == ["words.yaml"]


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (("--out", "nowhere/words.yaml"), "nowhere/words.yaml: is in a folder that does not exist (make the folder first)"),
        (("--out", "."), ".: is a folder (name a file in it)"),
        (("--pattern", "colom"), "--pattern: unknown pattern 'colom' (did you mean 'colon'?)"),
        (
            ("--set", "data.train=null"),
            "verbalizer.yaml:1: verbalizer.auto: needs labelled rows, and data.train names none",
        ),
        (
            ("--set", "label_kind=multi"),
            "verbalizer.yaml:1: verbalizer.auto: is about one label per row, and label_kind is multi",
        ),
        (
            ("--set", "verbalizer={auto: {candidates: 5}}"),
            "--set verbalizer={auto: {candidates: 5}}: verbalizer.auto.candidates: "
            "5 candidates are too few: 2 labels of 3 words need 6",
        ),
    ],
)  # fmt: skip
def test_refused(options: tuple[str, ...], reported: str, search: Command, tiny: Path) -> None:
    before = project.snapshot(tiny)

    refused = search(*options, "--quiet")

    assert (refused.code, refused.out, refused.err) == (2, "", f"{reported}\n")
    assert project.snapshot(tiny) == before


def test_a_label_with_one_row(search: Command, tiny: Path) -> None:
    (tiny / "train.jsonl").write_text(project.json_lines({"text": text, "label": label} for text, label in project.TRAIN[:3]))

    refused = search("--quiet")

    assert refused.code == 2 and len(refused.err.splitlines()) == 1
    assert "label 'Sports' has one row in train.jsonl; label words cannot be found on it" in refused.err


def test_a_file_that_cannot_be_written(search: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from petkit.commands import search_verbalizer as found_verbalizer

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(found_verbalizer, "write_text", full)

    refused = search("--out", "words.yaml", "--quiet")

    assert (refused.code, refused.out, refused.err) == (2, "", "words.yaml: cannot be written: No space left on device\n")


@pytest.mark.parametrize("name", ["my words.yaml", "it's.yaml", "two\nkind: soft\u2028lines.yaml"])
def test_the_file_tells_a_command_that_can_be_pasted_whatever_its_name(name: str, search: Command, tiny: Path) -> None:
    assert search("--out", name).code == 0

    written = (tiny / name).read_text(encoding="utf-8")
    (tiny / name).rename(tiny / "plain.yaml")
    assert load_pipeline(tiny / "pipeline.yaml", ["verbalizer=plain.yaml"]).spec.verbalizer.kind == "words"
    (reported,) = [line for line in written.splitlines() if line.startswith("#   petkit run ")]
    assert shlex.split(reported.removeprefix("#"))[-2:] == ["--set", f"verbalizer={in_one_line(name)}"]
