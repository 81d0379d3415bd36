"""Rows of causal models: they end before the slot, and row and word together are what the tokenizer makes of the sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.prompts.pattern import CompiledPattern, Encoded, Pattern
from petkit.prompts.pvp import PVP, compile_pvp
from petkit.prompts.tokenizer import PieceTokenizer
from tests.tiny import CAUSAL, tiny_tokenizer

KINDS = sorted(CAUSAL.values())
every_kind = pytest.mark.parametrize("kind", KINDS)
WORDS = {"World": ("world",), "Sports": ("sports", "football")}
TEXT = "the game was very good"


def opened(kind: str) -> PieceTokenizer:
    made: Any = tiny_tokenizer(kind)
    made.pad_token = made.eos_token  # as load_tokenizer does
    return PieceTokenizer(made, f"tiny-{kind}", causal=True)


def pvp_of(kind: str, text: str, words: dict[str, tuple[str, ...]] | None = None, max_length: int = 32) -> PVP:
    verbalizer = VerbalizerSpec(labels=words or WORDS, multi_token=words is not None)
    pvp, wrong = compile_pvp(PatternSpec(id="one", text=text), verbalizer, opened(kind), max_length, "tail")
    assert wrong == []
    return pvp


def row(pvp: PVP, kind: str, text: str = TEXT) -> Encoded:
    (made,) = pvp.encode_texts([{"text": text}], opened(kind))
    return made


@every_kind
@pytest.mark.parametrize(
    "text", ["{text} category: {mask}", "the news: {text} it is {mask} ", "( {text} ) {mask}", "{text} {mask}"]
)
def test_row_and_word_are_the_sentence(kind: str, text: str) -> None:
    pvp, tokenizer = pvp_of(kind, text), tiny_tokenizer(kind)
    made = row(pvp, kind)
    for words, written in zip(pvp.words.words, WORDS.values(), strict=True):
        for word, as_written in zip(words, written, strict=True):
            sentence = text.strip().format(text=TEXT, mask=as_written)
            assert [*made.ids.tolist(), *word.token_ids] == tokenizer(sentence)["input_ids"]
    assert made.mask == len(made.ids) - 1 and made.masks == 0


@every_kind
def test_words_of_several_tokens_are_those_of_the_sentence(kind: str) -> None:
    pvp = pvp_of(kind, "{text} it is {mask}", {"Sports": ("very good game",), "World": ("the world",)})
    tokens = [word.token_ids for words in pvp.words.words for word in words]
    made = row(pvp, kind)
    assert [*made.ids.tolist(), *tokens[0]] == tiny_tokenizer(kind)(f"{TEXT} it is very good game")["input_ids"]
    assert [len(word) for word in tokens] == [3, 2]


@every_kind
def test_the_longest_word_has_room(kind: str) -> None:
    pvp = pvp_of(kind, "{text} it is {mask}", {"Sports": ("very good game",), "World": ("world",)}, max_length=12)
    made = row(pvp, kind, "game " * 40)
    assert len(made.ids) + 3 == 12 and pvp.pattern.fixed == 12 - pvp.pattern.room


def test_what_the_tokenizer_adds_at_the_end_is_left_out() -> None:
    class Closing:
        """Llama's tokenizer, asked to end every text."""

        def __init__(self) -> None:
            self.inner = tiny_tokenizer("sentencepiece-open")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __call__(self, *args: Any, **options: Any) -> Any:
            made = self.inner(*args, **options)
            return {**made, "input_ids": [*made["input_ids"], 2]} if not options else made

    closing: Any = Closing()
    tokenizer = PieceTokenizer(closing, "closing", causal=True)
    assert tokenizer.single.suffix == (2,)
    verbalizer = VerbalizerSpec(labels=WORDS)
    pvp, _ = compile_pvp(PatternSpec(id="one", text="{text} it is {mask}"), verbalizer, tokenizer, 32, "tail")
    (made,) = pvp.encode_texts([{"text": TEXT}], tokenizer)
    assert made.ids[-1] == opened("sentencepiece-open").encode(["is"], " ")[0][0]
    classifier = CompiledPattern(Pattern.plain(["text"]), tokenizer, 32, "tail")
    (key,) = classifier.keys
    assert classifier.encode({key: made.ids[1:4]}).ids[-1] == 2  # a classifier's row is as the tokenizer makes it


@every_kind
def test_no_row_is_empty(kind: str) -> None:
    """Calibration asks about empty texts, and GPT-2's tokenizer puts nothing before them."""
    made = row(pvp_of(kind, "{text} {mask}"), kind, "")
    tokenizer = tiny_tokenizer(kind)
    assert made.ids.tolist() == [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id]
    assert made.mask == 0


@every_kind
def test_demonstrations_end_their_line(kind: str) -> None:
    pvp = pvp_of(kind, "{text} it is {mask}")
    (key,) = pvp.pattern.keys
    tokens = {key: row(pvp_of(kind, "{text}{mask}"), kind).ids[-5:]}
    filled = pvp.pattern.filled(tokens, pvp.words.words[0][0].token_ids)
    decoded = tiny_tokenizer(kind).decode(filled.tolist())
    assert decoded.startswith("the game was very good it is world") and decoded[-1:] == "\n"


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("{text} {mask}", True),
        ("{text} {mask} ", True),
        ("{text} {mask}.", False),
        ("{mask} {text}", False),
        ("{text} {mask} {soft:2}", False),
        (("{text}", "{mask}"), False),
    ],
)
def test_where_the_slot_is(text: str | tuple[str, ...], last: bool) -> None:
    assert Pattern.from_spec(PatternSpec(id="one", text=text)).answers_last is last


@pytest.mark.parametrize(("kind", "tells"), [("bytebpe-open", False), ("sentencepiece-open", True)])
def test_two_fields_of_a_classifier_are_distinguished(kind: str, tells: bool) -> None:
    """By the tokenizer where it puts something between them, else by a line break."""
    tokenizer = opened(kind)
    assert tokenizer.distinguishes_pairs is tells
    pattern = Pattern.plain(["one", "two"], pairs=tokenizer.distinguishes_pairs)
    assert len(pattern.segments) == (2 if tells else 1)
    compiled = CompiledPattern(pattern, tokenizer, 32, "tail")
    tokens = {key: opened(kind).encode(["game"], key.glue)[0] for key in compiled.keys}
    ids = compiled.encode({key: np.array(own) for key, own in tokens.items()}).ids.tolist()
    expected = tiny_tokenizer(kind)("game", "game") if tells else tiny_tokenizer(kind)("game\ngame")
    assert ids == expected["input_ids"]
