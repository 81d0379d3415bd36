"""What a predictor takes as rows, and what it says of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from petkit import InvalidInput
from petkit.metrics.decision import Decision
from petkit.predict import row_io
from petkit.predict.columns import OutputColumns
from petkit.predict.predictor import Predictor
from petkit.predict.settings import set_columns
from tests.predict.test_columns import predictor_of

TEXTS = ["a text", "another one", "b"]
FRAME = pd.DataFrame({"more": [1, 2, 3], "text": TEXTS}, index=[7, 7, 9])


def dataset() -> Any:
    """Return the rows as ``datasets`` has them."""
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list([{"text": text, "more": 1} for text in TEXTS])


@pytest.mark.parametrize(
    "rows",
    [
        lambda: TEXTS,
        lambda: tuple(TEXTS),
        lambda: iter(TEXTS),
        lambda: np.array(TEXTS),
        lambda: [{"text": text, "more": 1} for text in TEXTS],
        lambda: [TEXTS[0], {"text": TEXTS[1]}, np.str_(TEXTS[2])],
        lambda: FRAME,
        lambda: FRAME.text,
        lambda: FRAME.text.astype("category"),
        dataset,
    ],
)
def test_rows_of_every_kind(rows: Callable[[], Any]) -> None:
    predictor = predictor_of()
    expected = [predictor([text])[0] for text in TEXTS]

    assert predictor(rows()) == expected
    assert list(predictor.stream(rows())) == expected
    assert len(predictor.logits(rows())) == 3


def test_one_text_is_one_row() -> None:
    predictor = predictor_of()

    assert predictor("the game was great") == predictor(["the game was great"])
    assert predictor([]) == predictor(pd.Series([], dtype=object)) == []


def test_columns_of_other_names() -> None:
    predictor = predictor_of(columns={"text": "body"})
    frame = pd.DataFrame({"body": TEXTS})

    assert predictor(frame) == predictor(TEXTS) == predictor([{"body": text} for text in TEXTS])


@pytest.mark.parametrize(
    ("rows", "reported"),
    [
        ({"text": "x"}, "give a text, or a list of texts or mappings, not dict (put it in a list)"),
        (b"x", "give a text, or a list of texts or mappings, not bytes"),
        (5, "give a text, or a list of texts or mappings, not int"),
        (None, "give a text, or a list of texts or mappings, not NoneType"),
        ([None], "row 1: missing"),
        (["a", 5, b"x"], "row 2: must be a text or a mapping, not 5\nrow 3: must be a text or a mapping, not b'x'"),
        ([" "], "row 1: text: empty"),
        (["a\ud800"], "row 1: text: contains a lone surrogate (invalid Unicode)"),
        ([{"text": 5}], "row 1: text: must be text, not 5"),
        (
            [{"txt": "a"}, {"text": None}],
            "row 1: a row needs the fields text; missing: text (it has: txt)\nrow 2: a row needs the fields text; missing: text",
        ),
        (pd.Series(["a", None, float("nan"), pd.NA, pd.NaT], dtype=object), "\n".join(f"row {n}: missing" for n in range(2, 6))),
        (pd.DataFrame({"text": ["a", None]}), "row 2: a row needs the fields text; missing: text"),
        (pd.DataFrame({"txt": ["a"]}), "column 'text' is missing (the DataFrame has: txt)"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "column 'text' is named twice (the DataFrame has: text, text)"),
    ],
)
def test_anything_else_is_refused_with_its_row(rows: Any, reported: str) -> None:
    for use in (predictor_of(), predictor_of().logits):
        with pytest.raises(InvalidInput) as refused:
            use(rows)
        assert str(refused.value).encode("utf-8", "backslashreplace").decode() == reported


def test_long_texts_come_in_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.data.chunks.CHUNK_CHARACTERS", 1000)
    seen: list[list[int]] = []

    def score(rows: Sequence[Any]) -> Any:
        seen.append([len(row["text"]) for row in rows])
        return np.zeros((len(rows), 2), np.float32)

    predictor = Predictor(("a", "b"), ("text",), {}, score, Decision())
    texts = ["x" * length for length in (600, 600, 10, 3000, 1, *[1] * 2000)]

    def rows() -> Iterator[str]:
        yield from texts

    assert len(list(predictor.stream(rows()))) == len(texts)
    assert [sum(chunk) for chunk in seen] == [1200, 3010, 1000, 1000, 1]


PAIRS = [{"second": "b", "premise": "aaaa"}, {"second": "ddd", "premise": "cc"}]


def pair_predictor(**columns: str) -> Predictor:
    """Return a predictor of two fields, premise and hypothesis, that tells them apart."""

    def score(rows: Sequence[Any]) -> Any:
        return np.array([[len(row["premise"]), len(row["hypothesis"])] for row in rows], np.float32)

    return Predictor(("a", "b"), ("premise", "hypothesis"), {"columns": columns}, score, Decision())


def renamed(**names: str) -> list[dict[str, str]]:
    """Return PAIRS under other names."""
    return [{names.get(name, name): text for name, text in row.items()} for row in PAIRS]


def from_file(kind: str) -> Callable[[Predictor, list[dict[str, str]]], Any]:
    """Return a function that predicts rows as a file of this kind, or as standard input."""

    def answer(predictor: Predictor, rows: list[dict[str, str]]) -> Any:
        lines = [json.dumps(row) for row in rows]
        if kind == "-":
            examples: Any = row_io.stream_rows([line.encode() for line in lines], predictor)
        else:
            Path("in.jsonl").write_text("\n".join(lines))
            if kind == "csv":
                pd.DataFrame(rows).to_csv("in.csv", index=False)
            elif kind == "parquet":
                pd.DataFrame(rows).to_parquet("in.parquet")
            examples = row_io.file_rows(f"in.{kind}", predictor, OutputColumns(predictor, "jsonl"))
        return [prediction for _, prediction in row_io.predict_rows(examples, predictor)]

    return answer


WAYS: dict[str, Callable[[Predictor, list[dict[str, str]]], Any]] = {
    "mappings": lambda predictor, rows: predictor(rows),
    "stream": lambda predictor, rows: list(predictor.stream(rows)),
    "DataFrame": lambda predictor, rows: predictor(pd.DataFrame(rows)),
    **{kind: from_file(kind) for kind in ("jsonl", "csv", "parquet", "-")},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_field_is_read_from_its_column_or_else_from_its_own_name(way: str, here: Path) -> None:
    ask, expected = WAYS[way], pair_predictor()(renamed(second="hypothesis"))
    mapped, swapped = pair_predictor(hypothesis="second"), pair_predictor(hypothesis="premise", premise="hypothesis")

    assert ask(mapped, PAIRS) == expected
    assert ask(mapped, renamed(second="hypothesis")) == expected
    assert ask(mapped, [{**row, "hypothesis": "never read"} for row in PAIRS]) == expected
    assert ask(swapped, renamed(second="premise", premise="hypothesis")) == expected
    with pytest.raises(InvalidInput, match="second"):  # the field's name is the column of the id
        ask(pair_predictor(hypothesis="second", id="hypothesis"), renamed(second="hypothesis"))
    with pytest.raises(InvalidInput, match="premise"):  # and here that of the other field
        ask(pair_predictor(hypothesis="premise", premise="first"), renamed(second="hypothesis"))
    with pytest.raises(
        InvalidInput, match=r"second.*[( ]txt, premise|second.*\(known: premise, txt\)|second.*\(known: txt, premise"
    ):
        ask(mapped, renamed(second="txt"))


def test_a_labelled_file_may_have_the_fields_own_name(here: Path) -> None:
    rows = [{**row, "label": "a"} for row in renamed(second="hypothesis")]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, rows)))

    assert row_io.evaluate_file(pair_predictor(hypothesis="second"), "in.jsonl").rows == 2


def test_a_column_that_the_command_names_is_not_guessed(here: Path) -> None:
    predictor = pair_predictor()
    set_columns(predictor, {"hypothesis": "secnod"})
    Path("in.jsonl").write_text("\n".join(map(json.dumps, renamed(second="hypothesis"))))

    with pytest.raises(InvalidInput, match=r"^in\.jsonl: secnod: missing, in all 2 rows"):
        row_io.file_rows("in.jsonl", predictor, OutputColumns(predictor, "jsonl"))
