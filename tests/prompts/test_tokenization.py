"""Pieces of a row come out as in the whole sentence, for every kind of tokenizer.

What "as in the whole sentence" means was found by asking the tokenizers:

- WordPiece: exactly, everywhere.
- byte-level BPE: exactly, if the mask swallows the space before it (``lstrip``, as in RoBERTa's checkpoints). If it
  does not, the tokenizer leaves a lone ``Ġ`` before the mask; petkit leaves it out, because it is part of the label
  word (``Ġgreat``) that the mask stands for.
- SentencePiece: exactly, too: the tokenizers start a new word after the mask (``<mask>``, ``▁``, ``.``), and so does
  petkit, whereas what touches a field goes on in its last word (``▁good``, ``.``).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.errors import ModelRefused
from petkit.prompts.pattern import Pattern
from petkit.prompts.tokenizer import PieceTokenizer
from tests.prompts.rendering import assembled, pattern, tokens
from tests.tiny import CAPITALS, KINDS, WORDS, pieces, tiny_tokenizer

PATTERNS = [
    ("{mask}: {a}",),
    ("{a}. It was {mask}.",),
    ("[ Category: {mask} ] {a}",),
    ("{a} ( {mask} )",),
    ("It was {mask}. {a}",),
    ("({mask}) {a}",),
    ("({a}) {mask}!",),
    ("{a} {b} {mask}",),
    ("{a}, {b}? {mask}",),
    ('"{a}" is {mask} news',),
    ("{a}{mask}",),
    ("{mask}{a}",),
    ("{mask} news:", "{a}"),
    ("{a}?", "{mask}, {b}"),
    ("{a}", "it was {mask}."),
]
TEXTS = [
    {"a": "the great game (very good) was it", "b": "bad team"},
    {"a": "Great! It's a Berlin game, no?", "b": "x"},
    {"a": "  spaces  \n around\tit  ", "b": "café 世界 🙂"},
    {"a": "great", "b": "great"},
]
SPECIAL = ["[MASK]", "<mask>", "[SEP]", "</s>", "[CLS] it [PAD]", "a <mask> and a [MASK].", "<s><pad><unk>[UNK]", "<PAD>(<mask>)"]


def whole(kind: str, made: Pattern, fields: dict[str, str]) -> Any:
    """Ask the tokenizer for the whole sentence, mask in place, white space in the fields' ends removed."""
    tokenizer = tiny_tokenizer(kind)
    stripped = {name: text.strip() for name, text in fields.items()}
    return tokenizer(*made.render(stripped, tokenizer.mask_token))


@pytest.mark.parametrize("fields", TEXTS, ids=lambda fields: fields["a"].strip()[:9])
@pytest.mark.parametrize("segments", PATTERNS, ids=" || ".join)
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_make_the_whole_sentence(kind: str, segments: tuple[str, ...], fields: dict[str, str]) -> None:
    made = pattern(*segments)
    row, sentence = assembled(kind, made, fields), whole(kind, made, fields)
    expected = tiny_tokenizer(kind).convert_ids_to_tokens(sentence["input_ids"])
    if kind == "bytebpe-strict" and expected[expected.index("<mask>") - 1] == "Ġ":
        del expected[expected.index("<mask>") - 1]

    assert tokens(kind, row) == expected
    assert row.ids[row.mask] == pieces(kind).mask_id


@pytest.mark.parametrize("fields", [("a",), ("a", "b")])
@pytest.mark.parametrize("kind", KINDS)
def test_plain_pieces_make_the_whole_sentence(kind: str, fields: tuple[str, ...]) -> None:
    row = assembled(kind, Pattern.plain(fields), TEXTS[0])
    sentence = tiny_tokenizer(kind)(*(TEXTS[0][name] for name in fields))

    assert row.ids.tolist() == sentence["input_ids"]
    assert row.mask == -1


@pytest.mark.parametrize("segments", PATTERNS, ids=" || ".join)
@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece-spaces"])
def test_token_types_are_the_tokenizers_own(kind: str, segments: tuple[str, ...]) -> None:
    made = pattern(*segments)
    row = assembled(kind, made, TEXTS[0])

    assert pieces(kind).uses_token_types
    assert [int(index >= row.second) for index in range(len(row.ids))] == whole(kind, made, TEXTS[0])["token_type_ids"]


@pytest.mark.parametrize("kind", ["bytebpe", "sentencepiece"])
def test_kinds_without_token_types(kind: str) -> None:
    row = assembled(kind, pattern("{mask} news:", "{a}"), TEXTS[0])

    assert not pieces(kind).uses_token_types
    assert row.second == len(row.ids)


@pytest.mark.parametrize(
    ("kind", "single", "pair", "second_type_from"),
    [
        ("wordpiece", ["[CLS]", "|", "[SEP]"], ["[CLS]", "|", "[SEP]", "|", "[SEP]"], 1),
        ("bytebpe", ["<s>", "|", "</s>"], ["<s>", "|", "</s>", "</s>", "|", "</s>"], 0),
        ("sentencepiece", ["<s>", "|", "</s>"], ["<s>", "|", "</s>", "</s>", "|", "</s>"], 0),
        ("sentencepiece-lower", ["[CLS]", "|", "[SEP]"], ["[CLS]", "|", "[SEP]", "|", "[SEP]"], 0),
        ("sentencepiece-spaces", ["[CLS]", "|", "[SEP]"], ["[CLS]", "|", "[SEP]", "|", "[SEP]"], 1),
    ],
)
def test_special_tokens_around_segments(kind: str, single: list[str], pair: list[str], second_type_from: int) -> None:
    tokenizer = pieces(kind)
    name = tokenizer.hf.convert_ids_to_tokens

    assert [*name(tokenizer.single.prefix), "|", *name(tokenizer.single.suffix)] == single
    found = tokenizer.pair
    assert [*name(found.prefix), "|", *name(found.middle), "|", *name(found.suffix)] == pair
    assert found.second_type_from == second_type_from
    assert (tokenizer.single.size, found.size) == (len(single) - 1, len(pair) - 2)


@pytest.mark.parametrize("text", SPECIAL)
@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_a_special_token_stays_text(kind: str, text: str) -> None:
    tokenizer = pieces(kind)
    row = assembled(kind, pattern("{a} {mask}. ({b})"), {"a": text, "b": f"{text} it"})
    special = set(tokenizer.hf.all_special_ids) - {tokenizer.unknown_id}
    inside = [int(token) for token in row.ids[1:-1] if int(token) in special]

    assert inside == [tokenizer.mask_id]
    assert row.ids.tolist().index(tokenizer.mask_id) == row.mask


MENTIONS = st.lists(st.sampled_from([*"[]<>/ masMASKsepSEP", "[MASK]", "<mask>", "</s>", "<PAD>"]), max_size=12).map("".join)


@given(MENTIONS, st.sampled_from(KINDS))
def test_no_text_makes_a_second_mask(text: str, kind: str) -> None:
    row = assembled(kind, pattern("{a} is {mask}"), {"a": text})

    assert row.ids.tolist().count(pieces(kind).mask_id) == 1


@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        ("wordpiece", "it [ m ##a ##s ##k ] it"),
        ("bytebpe", "it Ġ < m as k > Ġit"),
        ("bytebpe-strict", "it Ġ < m as k > Ġit"),
    ],
)
def test_mentioned_special_token_is_read_like_any_text(kind: str, reported: str) -> None:
    tokenizer = pieces(kind)
    (ids,) = tokenizer.encode([f"it {tokenizer.hf.mask_token} it"])

    assert " ".join(tokenizer.hf.convert_ids_to_tokens(ids)) == reported


@pytest.mark.parametrize("kind", ["sentencepiece", "sentencepiece-spaces"])
def test_mentioned_special_token_is_spelled_out(kind: str) -> None:
    tokenizer = pieces(kind)
    (ids,) = tokenizer.encode([f"it {tokenizer.hf.mask_token} it"])
    spelled = "".join(tokenizer.hf.convert_ids_to_tokens(ids)).replace("▁", "")

    assert spelled == f"it{tokenizer.hf.mask_token}it"


@pytest.mark.parametrize(
    ("kind", "glue", "reported"),
    [
        ("wordpiece", "", ["great"]),
        ("wordpiece", " ", ["great"]),
        ("wordpiece", "(", ["great"]),
        ("bytebpe", "", ["great"]),
        ("bytebpe", " ", ["Ġgreat"]),
        ("bytebpe", "(", ["great"]),
        ("bytebpe", "( ", ["Ġgreat"]),
        ("sentencepiece", "", ["▁great"]),
        ("sentencepiece", " ", ["▁great"]),
        ("sentencepiece", "(", ["g", "r", "e", "a", "t"]),
        ("sentencepiece-spaces", " ", ["▁great"]),
    ],
)
def test_a_piece_depends_on_its_glue(kind: str, glue: str, reported: list[str]) -> None:
    (ids,) = pieces(kind).encode(["great"], glue)

    assert pieces(kind).hf.convert_ids_to_tokens(ids) == reported


@pytest.mark.parametrize("kind", KINDS)
def test_no_texts_and_empty_texts(kind: str) -> None:
    tokenizer = pieces(kind)

    assert tokenizer.encode([]) == []
    assert [tokenizer.encode(["", "it"], glue)[0] for glue in ("", " ", "(", "a ")] == [[], [], [], []]


@pytest.mark.parametrize("kind", KINDS)
@given(glue=st.sampled_from(["", " ", "(", "- ", "\n", '"', "a", "it was"]), word=st.sampled_from(WORDS))
def test_canonical_glue_changes_no_token(kind: str, glue: str, word: str) -> None:
    tokenizer = pieces(kind)

    assert tokenizer.encode([word], tokenizer.canonical_glue(glue)) == tokenizer.encode([word], glue)


def test_glue_means_nothing_to_wordpiece() -> None:
    assert [pieces("wordpiece").canonical_glue(glue) for glue in ("", " ", "(", "\n", "a")] == ["", "", "", "", "a"]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_the_tiny_vocabularies_are_single_tokens(kind: str) -> None:
    cased = CAPITALS if kind not in ("wordpiece", "sentencepiece-lower") else ()
    words = [*WORDS, *cased]

    assert [word for word in words if len(pieces(kind).encode([word], " ")[0]) != 1] == []
    assert len(tiny_tokenizer(kind)) <= 400


@pytest.mark.parametrize(("token", "reported"), [("mask_token", "no mask token"), ("pad_token", "no padding token")])
def test_tokenizer_without_a_needed_token_is_refused(token: str, reported: str) -> None:
    tokenizer = type("Bare", (), {"mask_token_id": 4, "pad_token_id": 0, f"{token}_id": None})()

    with pytest.raises(ModelRefused, match=f"^tiny: the tokenizer has {reported}"):
        PieceTokenizer(tokenizer, "tiny")


def test_classifier_needs_no_mask_token() -> None:
    tokenizer = type("Bare", (), {"mask_token_id": None, "pad_token_id": 0, "unk_token_id": 1, "model_input_names": ()})()

    assert PieceTokenizer(tokenizer, "tiny", needs_mask=False).mask_id == -1
