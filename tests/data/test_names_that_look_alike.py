"""Names that only a computer tells apart, and data files that are links."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from petkit.data.records import format_of
from petkit.errors import did_you_mean, shown_path
from petkit.formatting import hidden_difference

NFC, NFD = "t\u00e9xt", "te\u0301xt"


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        (NFC, NFD, "its Unicode form (NFC or NFD)"),
        ("text", "\u200btext", "an invisible character (U+200B)"),
        ("my text", "my\u00a0text", "an invisible character (U+00A0)"),
        ("text", "\ufefftext", "an invisible character (U+FEFF)"),
        ("text", "text", ""),
        ("text", "Text", ""),
    ],
)
def test_hidden_difference(one: str, other: str, how: str) -> None:
    assert hidden_difference(one, other) == hidden_difference(other, one) == how
    if how:
        assert did_you_mean(one, ["label", other]) == f"{other!r} looks the same and differs in {how}"


def test_a_link_keeps_its_own_ending(here: Path) -> None:
    (here / "blobs").mkdir()
    (here / "blobs" / "0123abcd").write_text('{"text": "a", "label": "x"}\n', encoding="utf-8")
    (here / "data").mkdir()
    (here / "data" / "train.jsonl").symlink_to("../blobs/0123abcd")
    (here / "p.yaml").write_text(
        "task: t\ndata: {train: data/train.jsonl, unlabeled: data/train.jsonl}\n"
        'patterns: [{id: a, text: "{mask}: {text}"}]\nverbalizer: {labels: {x: [good], y: [bad]}}\n',
        encoding="utf-8",
    )

    train = str(load_pipeline("p.yaml").spec.data.train)

    assert Path(train) == here.resolve() / "data" / "train.jsonl"
    assert (format_of(train), shown_path(train)) == ("jsonl", "data/train.jsonl")
