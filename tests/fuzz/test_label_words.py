"""Any word for a label: it is tokens that can stand in the slot, or there is a reason why not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from petkit.config.schema.pipeline import VerbalizerSpec
from petkit.errors import InvalidInput, Problem
from petkit.prompts.pattern import MaskContext
from petkit.prompts.verbalizer import MOST_TOKENS, find_label_words
from tests.tiny import KINDS, WORDS, pieces, tiny_tokenizer

ANYTHING = st.one_of(
    st.text(min_size=1, max_size=12),
    st.sampled_from(WORDS),
    st.sampled_from(["[MASK]", "<mask>", "[SEP] a", "</s>", "[UNK]", "<unk>", "世界", "sсience", "Ġgreat", "▁great", "##ing", "\u200b", "\u0301", "x" * 300, "{mask}", "\0", "\x1b[0m", "ﬁne", "İ", "ẞ", "🙂‍↔️", "very good", "a b c"]),
    st.tuples(st.sampled_from(WORDS), st.text(max_size=3)).map("".join),
)  # fmt: skip
CONTEXTS = st.builds(
    MaskContext,
    st.sampled_from(["", " ", "(", "[ ", "\n", "was", '"', "-"]) | st.text(max_size=3),
    st.sampled_from(["", ".", ")", "t", "'"]) | st.characters(exclude_categories=["Cs", "Zs", "Cc"]),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(words=st.lists(ANYTHING, min_size=2, max_size=5, unique=True), context=CONTEXTS, multi_token=st.booleans())
def test_a_word_can_stand_in_the_slot_or_there_is_a_reason(
    kind: str, words: list[str], context: MaskContext, multi_token: bool
) -> None:
    half = len(words) // 2
    labels = {"A": tuple(words[:half]), "B": tuple(words[half:])}
    try:
        verbalizer = VerbalizerSpec(labels=labels, multi_token=multi_token)
    except ValidationError:  # blank, or the same word twice: reported before a tokenizer is asked
        return
    tokenizer, special = pieces(kind), {*tiny_tokenizer(kind).all_special_ids}
    found, problems = find_label_words(verbalizer, tokenizer, context)

    refused = {(problem.label, problem.message) for problem in problems}
    assert len(refused) == len(problems)
    for label, written, answers in zip(labels, labels.values(), found.words, strict=True):
        reported = [message for of, message in refused if of == label]
        asked = verbalizer.labels[label]
        assert {word.written for word in answers} <= set(asked), written
        for word in asked:
            answer = [entry for entry in answers if entry.written == word]
            reasons = [message for message in reported if message.startswith(repr(word))]
            assert answer or reasons, word
        for entry in answers:
            assert 1 <= len(entry.token_ids) <= (MOST_TOKENS if multi_token else 1)
            assert special.isdisjoint(entry.token_ids)
            assert len(entry.tokens) == len(entry.token_ids)
    sound = [entry.token_ids for answers in found.words for entry in answers]
    assert len(set(sound)) == len(sound) or problems
    for problem in problems:
        line = str(Problem.of_file("verbalizer.yaml", f"label {problem.label!r}: {problem.message}", problem.hint, line=2))
        assert len(line.splitlines()) == 1
        assert InvalidInput([Problem.of_file("v", problem.message, line=1)]).exit_code == 2


@given(st.text(st.characters(categories=["Cs", "L"]), min_size=1, max_size=3))
def test_half_a_character_never_reaches_a_tokenizer(word: str) -> None:
    try:
        verbalizer = VerbalizerSpec(labels={"A": (word,), "B": ("other",)})
    except ValidationError:
        return
    assert "".join(verbalizer.labels["A"]).encode().decode() == word
