"""Strict YAML: the traps that are closed, what is refused, and the line each mistake is reported at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from petkit import limits
from petkit.config.yaml_document import parse_document, read_document
from petkit.errors import InvalidInput


def parse(text: str) -> Any:
    return parse_document(text, "x.yaml").data


def mistakes(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_document(text, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("NO", "NO"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("null", None),
        ("~", None),
        ("", None),
        ("''", ""),
        ("7", 7),
        ("-7", -7),
        ("010", 10),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("1.2.3", "1.2.3"),
        ("'7'", "7"),
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("2.5", 2.5),
        (".5", 0.5),
        ("-1.", -1.0),
        (".inf", float("inf")),
        ("e5", "e5"),
        (".", "."),
    ],
)
def test_scalar(written: str, value: object) -> None:
    data = parse(f"key: {written}")

    assert data == {"key": value}
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize("written", ["no", "007", "1e5", "true", "null", "~", "2024-01-31", "0"])
@pytest.mark.parametrize("under", ["text: {}", "id: {}", "task: {}", "labels: [{}]", "label_names: [{}]", "columns: {{x: [{}]}}"])
def test_scalars_where_text_is_meant_stay_as_written(under: str, written: str) -> None:
    (value,) = parse(under.format(written)).values()
    while not isinstance(value, str):
        (value,) = value.values() if isinstance(value, dict) else value

    assert value == written


@pytest.mark.parametrize("key", ["labels", "label_names", "columns"])
def test_null_in_place_of_a_list_of_texts_is_nothing(key: str) -> None:
    assert parse(f"{key}: null") == {key: None}


@pytest.mark.parametrize(("under", "value"), [((), 7), (("columns",), 7), (("columns", "label"), "007"), (("task",), "007")])
def test_text_that_belongs_into_a_larger_document(under: tuple[str, ...], value: object) -> None:
    assert parse_document("007", "--set", under=under).data == value


def test_keys_are_always_text() -> None:
    assert parse("no: 1\n1: 2\nnull: 3\n2024-01-31: 4") == {"no": 1, "1": 2, "null": 3, "2024-01-31": 4}


def test_digits_beyond_what_a_number_can_have_are_no_crash() -> None:
    assert parse(f"key: {'9' * 5000}") == {"key": "9" * 5000}


def test_duplicate_key_is_refused_with_both_lines() -> None:
    assert mistakes("a:\n  b: 1\n  c: 2\n  b: 3\n") == ["x.yaml:4: a: key 'b' is written twice (first on line 2)"]


def test_every_duplicate_key_is_reported() -> None:
    assert [line.split(": ")[0] for line in mistakes("a: 1\na: 2\nb:\n  c: 1\n  c: 2\na: 3\n")] == [
        "x.yaml:2",
        "x.yaml:5",
        "x.yaml:6",
    ]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [true]", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: 1\nb: !env HOME", "!env"),
        ("a: 1\nb: !!binary aGk=", "tag:yaml.org,2002:binary"),
        ("a: 1\nb: !!set {x}", "tag:yaml.org,2002:set"),
    ],
)
def test_tags_are_refused(text: str, tag: str) -> None:
    assert mistakes(text) == [f"x.yaml:2: b: tag {tag!r} is not allowed"]


def test_merge_keys_are_plain_keys() -> None:
    assert parse("base: &b {x: 1}\nuse:\n  <<: *b") == {"base": {"x": 1}, "use": {"<<": {"x": 1}}}


def test_aliases_repeat_a_value() -> None:
    document = parse_document("a: &words\n  - good\nb: *words", "x.yaml")

    assert document.data == {"a": ("good",), "b": ("good",)}
    assert document.place(("b",)) == ("x.yaml", 3)


def test_alias_bomb_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONFIG_VALUES", 10_000)
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

    (reported,) = mistakes(bomb)

    assert "more than 10,000 values" in reported


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_value_that_holds_itself_is_refused(text: str) -> None:
    (reported,) = mistakes(text)

    assert reported == "x.yaml:1: nested more than 32 deep (too large for a configuration file)"


@pytest.mark.parametrize("opens", ["[", "{", "- ", "? "])
@pytest.mark.parametrize("depth", [34, 1_000, 20_000])
def test_deep_nesting_is_refused(opens: str, depth: int) -> None:
    assert mistakes(opens * depth) == ["x.yaml:1: nested more than 32 deep (too large for a configuration file)"]


@pytest.mark.parametrize(
    ("written", "most"), [("- a\n" * 1_001, "- a\n" * 1_000), ("".join(f"k{n}: v\n" for n in range(1_001)), "a: b\n")]
)
def test_a_long_list_is_read_no_further(written: str, most: str) -> None:
    reported = "more than 1,000 entries in one list or mapping (200 patterns or 1,000 labels at most)"

    assert mistakes(written + "[broken") == [f"x.yaml:1: {reported}"]
    assert len(parse(most)) in (1, 1_000)


def test_nesting_that_somebody_may_mean_is_read() -> None:
    data = parse("[" * 33 + "]" * 33)

    for _ in range(32):
        (data,) = data
    assert data == ()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a: [1, 2\nb: 3", "x.yaml:2: not valid YAML: "),
        ("a: b: c", "x.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "x.yaml:2: not valid YAML: "),
        ("a: *nowhere", "x.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", "x.yaml:2: not valid YAML: expected a single document in the stream, but found another document"),
        ("a: 1\nb: \0", "x.yaml:2: not valid YAML: unacceptable character"),
        ("? [a, b]\n: 1", "x.yaml:1: a key must be plain text"),
    ],
)
def test_broken_text_is_reported_with_its_line(text: str, reported: str) -> None:
    (found,) = mistakes(text)

    assert found.startswith(reported)


def test_place_falls_back_to_the_nearest_written_parent() -> None:
    document = parse_document("a:\n  b:\n    - 1\n    - 2\n", "x.yaml")

    assert document.place(("a", "b", 1)) == ("x.yaml", 4)
    assert document.place(("a", "b", 9)) == ("x.yaml", 2)
    assert document.place(("a", "x", "y")) == ("x.yaml", 1)
    assert str(document.problem(("a", "b", 1), "wrong", "fix it")) == "x.yaml:4: a.b.1: wrong (fix it)"


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "x.yaml:1: the file is empty"),
        (b"# only a comment\n", "x.yaml:1: the file is empty"),
        (b"- a\n- b\n", "x.yaml:1: the top level must be a mapping of keys to values"),
        (b"just text", "x.yaml:1: the top level must be a mapping of keys to values"),
        (b"a: 1\nb: 2\nc: caf\xe9\n", "x.yaml:3: not UTF-8 (save the file as UTF-8)"),
        ("a: 1".encode("utf-16"), "x.yaml:1: not UTF-8 (save the file as UTF-8)"),
    ],
)
def test_file_that_is_not_a_specification(here: Path, content: bytes, reported: str) -> None:
    path = here / "x.yaml"
    path.write_bytes(content)

    with pytest.raises(InvalidInput) as caught:
        read_document(path)

    assert str(caught.value) == reported


def test_byte_order_mark_is_not_part_of_the_first_key(here: Path) -> None:
    path = here / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")

    assert read_document(path).data == {"a": 1}


def test_windows_line_ends_keep_their_lines(here: Path) -> None:
    path = here / "x.yaml"
    path.write_bytes(b"a: 1\r\nb: 2\r\na: 3\r\n")

    with pytest.raises(InvalidInput, match=r"x\.yaml:3: key 'a' is written twice \(first on line 1\)"):
        read_document(path)


def test_missing_file_folder_and_huge_file(here: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml: no such file"):
        read_document(here / "nowhere.yaml")
    with pytest.raises(InvalidInput, match="is a folder, not a file"):
        read_document(here)
    (here / "huge.yaml").write_bytes(b"a: 1\n" + b"#" * 2**20)
    with pytest.raises(InvalidInput, match="larger than 1 MiB"):
        read_document(here / "huge.yaml")
