"""Long texts are cut before they are tokenised, and the row is the same as without."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from petkit.data.examples import Example
from petkit.models.loading import load_tokenizer
from petkit.prompts import long_texts, pvp
from petkit.prompts.pattern import CompiledPattern, FieldKey, Pattern, Truncate
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer

WORDS = ("the", "good", "game", "antidisestablishmentarian", "…", "12345", "x" * 150, "\n", "   " * 40, "née", "日本", "b-a;d")


def texts(count: int) -> list[str]:
    """Return texts of ordinary and odd words: short ones, long ones, and some with few tokens in many characters."""
    random_ = random.Random(7)
    found = [" ".join(random_.choices(WORDS, k=random_.choice((5, 500, 3000)))) for _ in range(count)]
    return [*found, "x" * 100_000, "a" + " " * 100_000 + "b", "good " * 20_000]


@pytest.mark.parametrize("truncate", get_args(Truncate))
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_row_is_the_same(
    name: str, truncate: Truncate, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(str(model_folder(name)), needs_mask=False)
    rows = [{"text": text, "second": other} for text, other in zip(texts(12), reversed(texts(12)), strict=True)]
    for fields, verbatim in ((("text",), False), (("text", "second"), False), (("text", "second"), True)):
        pattern = CompiledPattern(Pattern.plain(fields), tokenizer, 32, truncate, verbatim=verbatim)
        cut = [pattern.encode(tokens).ids for tokens in pvp.tokenised(rows, pattern, tokenizer)]
        examples = [Example("row", row, None, 1) for row in rows]
        stored = TokenStore.build(examples, tokenizer, pattern.keys, 32, truncate)
        with monkeypatch.context() as patch:
            patch.setattr(long_texts, "_CHARACTERS", 10**6)
            whole = [pattern.encode(tokens).ids for tokens in pvp.tokenised(rows, pattern, tokenizer)]

        assert all(np.array_equal(one, other) for one, other in zip(cut, whole, strict=True))
        assert all(np.array_equal(pattern.encode(one).ids, other) for one, other in zip(stored, whole, strict=True))


@pytest.mark.parametrize("stored", [True, False])
def test_little_of_a_long_text_is_tokenised(stored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer("embedded", needs_mask=False)
    pattern = CompiledPattern(Pattern.plain(("text",)), tokenizer, 64, "tail")
    encode, longest = PieceTokenizer.encode, 0

    def watched(self: PieceTokenizer, texts: Sequence[str], glue: str = "", **more: bool) -> list[list[int]]:
        nonlocal longest
        longest = max([longest, *map(len, texts)])
        return encode(self, texts, glue, **more)

    monkeypatch.setattr(PieceTokenizer, "encode", watched)
    fields = {"text": "a good game " * 300_000}
    if stored:
        TokenStore.build([Example("row", fields, None, 1)], tokenizer, pattern.keys, 64, "tail")
    else:
        list(pvp.tokenised([fields], pattern, tokenizer))

    assert 0 < longest <= 4096


@pytest.mark.parametrize("truncate", get_args(Truncate))
@pytest.mark.parametrize("text", ["x" * 50_000, "a" + " " * 50_000 + "b"])
def test_never_is_a_very_long_text_tokenised_whole(text: str, truncate: Truncate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "_LONGEST", 20_000)
    tokenizer, longest = load_tokenizer("embedded", needs_mask=False), 0
    encode = tokenizer.encode

    def watched(texts: Sequence[str], *rest: str, **more: bool) -> list[list[int]]:
        nonlocal longest
        longest = max([longest, *map(len, texts)])
        return encode(texts, *rest, **more)

    monkeypatch.setattr(tokenizer, "encode", watched)
    assert long_texts.used_tokens([text], FieldKey("text", (), ""), tokenizer, 64, truncate)
    assert 0 < longest <= 20_000


def test_long_texts_are_stored_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.data.chunks.CHUNK_CHARACTERS", 1000)
    held = most = 0

    def examples() -> Iterator[Example]:
        nonlocal held, most
        for _ in range(50):
            held += 400
            most = max(most, held)
            yield Example("row", {"text": "good" * 100}, None, 1)

    def used(texts: Sequence[str], *rest: object) -> list[list[int]]:
        nonlocal held
        held -= sum(map(len, texts))
        return [[1]] * len(texts)

    monkeypatch.setattr("petkit.prompts.token_store.used_tokens", used)
    TokenStore.build(examples(), load_tokenizer("embedded"), (FieldKey("text", (), ""),), 64, "tail")
    assert most <= 1200
