"""Words that could stand for a label: whole, frequent, and found again by every verbalizer that names them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from petkit.config.schema.pipeline import VerbalizerSpec
from petkit.data.examples import Example
from petkit.prompt_search import candidates as label_candidates
from petkit.prompt_search.candidates import fitting, frequent_words, named_words, token_counts
from petkit.prompts.pattern import FieldKey, MaskContext
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.prompts.verbalizer import find_label_words
from tests.chinese import chinese_pieces
from tests.tiny import KINDS, WORDS, pieces

START, INSIDE, BRACKET = MaskContext("", ":"), MaskContext(" ", ""), MaskContext("(", ")")
every_kind = pytest.mark.parametrize("kind", KINDS)


def store(texts: list[str], tokenizer: PieceTokenizer) -> TokenStore:
    examples = [Example(f"row-{n}", {"text": text}, None, n) for n, text in enumerate(texts, 1)]
    return TokenStore.build(examples, tokenizer, [FieldKey("text", (), "")], 32, "tail")


def frequent(texts: list[str], tokenizer: PieceTokenizer, least: int = 0) -> list[str]:
    return frequent_words(tokenizer, token_counts(store(texts, tokenizer), tokenizer), least)


@pytest.mark.parametrize("chunk", [1, 2, 1024])
def test_token_counts(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_candidates, "CHUNK", chunk)
    tokenizer, texts = pieces("wordpiece"), ["a great game", "the game", "x", "game game games", "team"]
    expected = Counter(token for ids in tokenizer.encode(texts) for token in ids)

    counts = token_counts(store(texts, tokenizer), tokenizer)

    assert counts.shape == (len(tokenizer.hf),)
    assert {int(token): int(counts[token]) for token in np.flatnonzero(counts)} == expected


@every_kind
def test_frequent_words_are_whole_words_by_frequency(kind: str) -> None:
    texts = ["a this game was not a good game", "a very bad this game: teams, newses! the market", "[UNK] <unk> [MASK] it is é"]

    found = frequent(texts, pieces(kind))

    assert found[:2] == ["game", "this"]
    # Tokens of one letter, marks, pieces of words and special tokens are none.
    assert set(found) <= {*WORDS, "an"}
    assert {"was", "not", "good", "market", "it", "is"} <= set(found)
    assert "a" not in found


@every_kind
def test_equally_frequent_words_stay_in_the_tokenizers_order(kind: str) -> None:
    found = frequent(["a movie of the market", "a the market movie"], pieces(kind))

    vocabulary = pieces(kind).hf.get_vocab()
    number = {word: pieces(kind).encode([word], " ")[0][0] for word in found}
    assert sorted(("the", "movie", "market"), key=lambda word: number[word]) == found[:3]
    assert max(number.values()) < len(vocabulary)


@every_kind
def test_words_that_do_not_occur_are_taken_only_where_others_are_few(kind: str) -> None:
    texts = ["a team of the world"]  # byte-level BPE has other tokens for the first word of a text
    seen = {"team", "of", "the", "world"}

    assert set(frequent(texts, pieces(kind), 4)) == seen
    found = frequent(texts, pieces(kind), 5)
    assert set(found[:4]) == seen and len(found) > 25 and "football" in found


@pytest.mark.parametrize(
    ("kind", "slots"),
    [
        *((kind, slots) for kind in KINDS for slots in ([START], [INSIDE], [START, INSIDE])),
        *((kind, [START, INSIDE, BRACKET]) for kind in ("wordpiece", "bytebpe")),  # SentencePiece spells words after a bracket
    ],
)
def test_every_candidate_is_found_again_by_a_verbalizer(kind: str, slots: list[MaskContext]) -> None:
    tokenizer = pieces(kind)

    found = fitting(frequent(["a good game"], tokenizer, 30), tokenizer, slots)

    assert len(found.words) >= 20 and found.tokens.shape == (len(slots), len(found.words))
    half = len(found.words) // 2
    verbalizer = VerbalizerSpec(labels={"one": found.words[:half], "two": found.words[half:]})
    for slot, tokens in zip(slots, found.tokens, strict=True):
        words, problems = find_label_words(verbalizer, tokenizer, slot)
        assert problems == []
        assert [word for label in words.token_ids for word in label] == [(token,) for token in tokens]
        assert len(set(tokens.tolist())) == len(tokens)


def test_a_word_has_another_token_in_another_slot() -> None:
    found = fitting(["game", "football"], pieces("bytebpe"), [START, INSIDE])

    names = [pieces("bytebpe").hf.convert_ids_to_tokens(tokens.tolist()) for tokens in found.tokens]
    assert names == [["game", "football"], ["Ġgame", "Ġfootball"]]


def test_words_that_are_no_token_in_a_slot_are_left_out() -> None:
    tokenizer = pieces("wordpiece")

    # Where "t" follows the slot, "no" would be read as "not".
    assert fitting(["no", "game"], tokenizer, [INSIDE, MaskContext("", "t")]).words == ("game",)
    assert fitting(["game"], pieces("sentencepiece"), [INSIDE, BRACKET]).words == ()
    # Two ways of writing the same token: the first stays. Look-alikes of two alphabets: a slip.
    assert fitting(["Game", "game", "tеam", "nonsense"], tokenizer, [INSIDE]).words == ("Game",)
    assert fitting([], tokenizer, [INSIDE, START]).tokens.shape == (2, 0)


def test_chinese_characters_are_words() -> None:
    found = frequent(["足球比赛，足球！", "a1 b2"], chinese_pieces())

    assert found[:2] == ["球", "足"] or found[:2] == ["足", "球"]
    assert set(found) == set("足球比赛")


def test_chinese_words_need_no_space_before_them() -> None:
    """SentencePiece has ``▁中国`` after a space and ``中国`` inside a text."""
    from transformers import XLMRobertaTokenizer

    words = [("▁", -3.0), ("▁中国", -2.0), ("中国", -2.0), ("足球", -2.0), ("世", -4.0), ("▁world", -2.0), ("ing", -2.0)]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = PieceTokenizer(XLMRobertaTokenizer(vocab=[*special, *words, ("<mask>", 0.0)], model_max_length=64), "zh")

    assert frequent(["中国足球世", "足球 worlding"], tokenizer) == ["足球", "中国", "世", "world"]


def test_named_words() -> None:
    verbalizer = VerbalizerSpec(labels={"one": ("World", "nonsense"), "two": ("sports",)}, multi_token=True)

    found = named_words(verbalizer, pieces("wordpiece"), [START, INSIDE])

    assert found.words == ("World", "sports")
    assert found.tokens.tolist() == [[pieces("wordpiece").hf.get_vocab()[word] for word in ("world", "sports")]] * 2
