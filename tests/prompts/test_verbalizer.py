"""Label words found in place, and what is said of those that cannot be used."""

from __future__ import annotations

import pytest

from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import DataSpec, PatternSpec, PipelineSpec, VerbalizerSpec
from petkit.prompts.pattern import MaskContext
from petkit.prompts.pvp import compile_pvps
from petkit.prompts.verbalizer import MOST_TOKENS, LabelWord, LabelWords, WordProblem, find_label_words, scripts
from tests.prompts.rendering import compiled, pattern
from tests.tiny import KINDS, pieces

OTHER = "category"  # a sound word for the label that a test is not about


def find(
    kind: str, text: str, labels: dict[str, tuple[str, ...]], *, multi_token: bool = False
) -> tuple[LabelWords, list[WordProblem]]:
    context = compiled(kind, pattern(text)).mask_context
    assert context is not None
    return find_label_words(VerbalizerSpec(labels=labels, multi_token=multi_token), pieces(kind), context)


def found(kind: str, text: str, *words: str, multi_token: bool = False) -> list[str]:
    """Return the tokens of words that are all sound."""
    words_found, problems = find(kind, text, {"A": words, "B": (OTHER,)}, multi_token=multi_token)
    assert problems == []
    return [word.token for word in words_found.words[0]]


def problem(kind: str, text: str, word: str, *, multi_token: bool = False) -> str:
    """Return what is said of one word."""
    _, problems = find(kind, text, {"A": (word,), "B": (OTHER,)}, multi_token=multi_token)
    (only,) = (problem for problem in problems if problem.label == "A")
    return f"{only.message} ({only.hint})"


@pytest.mark.parametrize(
    ("kind", "text", "token"),
    [
        ("wordpiece", "{mask}: {a}", "great"),
        ("wordpiece", "{a} ({mask})", "great"),
        ("bytebpe", "{mask}: {a}", "great"),
        ("bytebpe", "{a} It was {mask}.", "Ġgreat"),
        ("bytebpe", "{a} ({mask})", "great"),
        ("bytebpe", "{a} ( {mask} )", "Ġgreat"),
        ("bytebpe-strict", "{a} It was {mask}.", "Ġgreat"),
        ("sentencepiece", "{mask}: {a}", "▁great"),
        ("sentencepiece", "{a} It was {mask}.", "▁great"),
        ("sentencepiece-lower", "{a} {mask}", "▁great"),
        ("sentencepiece-spaces", "{a} {mask}", "▁great"),
    ],
)
def test_word_takes_the_form_of_its_place(kind: str, text: str, token: str) -> None:
    assert found(kind, text, "great") == [token]


@pytest.mark.parametrize(
    ("kind", "written", "token"),
    [
        ("wordpiece", "World", "world"),
        ("wordpiece", "WORLD", "world"),
        ("bytebpe", "World", "ĠWorld"),  # as written, where that is a token
        ("bytebpe", "Sports", "Ġsports"),  # else in lower case
        ("bytebpe", "SPORTS", "Ġsports"),
        ("bytebpe", "berlin", "ĠBerlin"),  # else with a capital
        ("sentencepiece", "World", "▁World"),
        ("sentencepiece", "Sports", "▁sports"),
        ("sentencepiece-lower", "World", "▁world"),
    ],
)
def test_casing(kind: str, written: str, token: str) -> None:
    assert found(kind, "{a} {mask}.", written) == [token]


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_columns_of_the_vocabulary_in_class_order(kind: str) -> None:
    labels = {"Good": ("good", "great"), "Bad": ("terrible",)}
    words, problems = find(kind, "{a} It was {mask}.", labels)
    names = [[word.token for word in group] for group in words.words]

    assert problems == []
    ids = tuple(tuple((pieces(kind).hf.convert_tokens_to_ids(name),) for name in group) for group in names)
    assert (words.token_ids, words.longest) == (ids, 1)
    assert [[word.written for word in group] for group in words.words] == [list(group) for group in labels.values()]


def test_unknown_word() -> None:
    assert problem("wordpiece", "{a} {mask}.", "世界") == "'世界' is unknown to tiny-wordpiece (use a word of its vocabulary)"
    assert problem("sentencepiece", "{a} {mask}.", "世").startswith("'世' is unknown to tiny-sentencepiece")


@pytest.mark.parametrize(
    ("kind", "word", "reported"),
    [
        (
            "wordpiece",
            "wor",
            "'wor' is 3 tokens for tiny-wordpiece ('w', '##o', '##r') (use one token, such as 'world'; or set multi_token: true)",
        ),
        (
            "bytebpe",
            "sportsgame",
            "'sportsgame' is 2 tokens for tiny-bytebpe ('Ġsports', 'game') (use one token, such as 'sports'; or set multi_token: true)",
        ),
        (
            "sentencepiece",
            "goo",
            "'goo' is 4 tokens for tiny-sentencepiece ('▁', 'g', 'o', 'o') (use one token, such as 'good'; or set multi_token: true)",
        ),
        (
            "wordpiece",
            "xyz",
            "'xyz' is 3 tokens for tiny-wordpiece ('x', '##y', '##z') (use a word that is one token, or set multi_token: true)",
        ),
        (
            "wordpiece",
            "very good",
            "'very good' is 2 tokens for tiny-wordpiece ('very', 'good') (use one token, such as 'very'; or set multi_token: true)",
        ),
    ],
)
def test_word_of_several_tokens_and_what_to_use_instead(kind: str, word: str, reported: str) -> None:
    assert problem(kind, "{a} {mask}.", word) == reported


@pytest.mark.parametrize("kind", ["sentencepiece", "sentencepiece-spaces"])
def test_word_that_is_not_a_token_without_a_space(kind: str) -> None:
    assert problem(kind, "{a} ({mask})", "great").startswith(f"'great' is 5 tokens for tiny-{kind} ('g', 'r', ")


@pytest.mark.parametrize("multi_token", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_special_token_is_not_a_label_word(kind: str, multi_token: bool) -> None:
    for word in pieces(kind).hf.all_special_tokens:
        reported = problem(kind, "{a} {mask}.", word, multi_token=multi_token)
        assert reported == f"{word!r} is a special token of tiny-{kind} (use a word)"


def test_special_token_inside_a_label_word() -> None:
    reported = problem("wordpiece", "{a} {mask}.", "[MASK] game", multi_token=True)
    assert reported == "'[MASK] game' contains '[MASK]', a special token of tiny-wordpiece (use a word)"


def test_special_token_of_another_model_is_a_text_of_several_tokens() -> None:
    assert problem("wordpiece", "{a} {mask}.", "<s>").startswith("'<s>' is 3 tokens for tiny-wordpiece ('<', 's', '>')")


@pytest.mark.parametrize(
    ("word", "reported"),
    [
        ("sсience", "Cyrillic and Latin"),  # the second letter is Cyrillic
        ("Βad", "Greek and Latin"),  # the first is Greek
        ("sport спорт", "Cyrillic and Latin"),
    ],
)
@pytest.mark.parametrize("multi_token", [False, True])
def test_word_of_alphabets_that_look_alike(word: str, reported: str, multi_token: bool) -> None:
    for kind in ("wordpiece", "bytebpe"):
        said = problem(kind, "{a} {mask}.", word, multi_token=multi_token)
        assert said == f"{word!r} mixes {reported} letters that look alike (type it again in one alphabet)"


@pytest.mark.parametrize("word", ["IT体育", "体育 news", "спорт", "Αθήνα", "caféß", "サッカー", "3D", "K-pop!", "µm"])
def test_word_of_alphabets_that_nobody_mistakes(word: str) -> None:
    (token,) = found("bytebpe", "{a} {mask}.", word, multi_token=True)

    assert len(token.split()) > 1


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("体育", {"CJK"}), ("Sport体育", {"LATIN", "CJK"}), ("Спорт!", {"CYRILLIC"}), ("1 + 2", set()), ("ñ", {"LATIN"})],
)
def test_scripts(text: str, kinds: set[str]) -> None:
    assert scripts(text) == kinds


@pytest.mark.parametrize(
    ("kind", "text", "word", "reported"),
    [
        ("wordpiece", "{a} {mask}.", "very good", "very good"),
        ("wordpiece", "{a} {mask}.", "Sportsgame", "sports ##g ##a ##m ##e"),
        ("wordpiece", "{a} {mask}.", "WORLD", "world"),  # one token where there is a form of one token
        ("bytebpe", "{a} {mask}.", "very good", "Ġvery Ġgood"),
        ("bytebpe", "{mask}: {a}", "very good", "very Ġgood"),
        ("bytebpe", "({mask}) {a}", "good game", "good Ġgame"),
        ("sentencepiece", "{a} {mask}.", "very good", "▁very ▁good"),
        ("sentencepiece", "{a} ({mask})", "good", "g o o d"),  # no space before it
        ("sentencepiece-spaces", "{mask} {a}", "Berlin team", "▁Berlin ▁team"),
    ],
)
def test_word_of_several_tokens(kind: str, text: str, word: str, reported: str) -> None:
    assert found(kind, text, word, multi_token=True) == [reported]


def test_words_of_different_lengths() -> None:
    labels = {"A": ("good", "very good"), "B": ("it is not good",)}
    words, problems = find("bytebpe", "{a} {mask}.", labels, multi_token=True)
    ids = pieces("bytebpe").hf.convert_tokens_to_ids

    assert problems == []
    assert words.longest == 4
    assert words.token_ids == (
        ((ids("Ġgood"),), (ids("Ġvery"), ids("Ġgood"))),
        ((ids("Ġit"), ids("Ġis"), ids("Ġnot"), ids("Ġgood")),),
    )
    assert words.words[0][1] == LabelWord("very good", ("Ġvery", "Ġgood"), (ids("Ġvery"), ids("Ġgood")))


@pytest.mark.parametrize(
    ("kind", "text", "word", "reported"),
    [
        ("wordpiece", "{a} {mask}.", "good 世界", "'good 世界' is unknown to tiny-wordpiece (use a word of its vocabulary)"),
        ("wordpiece", "{a} {mask}.", "\u200b", "'\\u200b' is nothing to tiny-wordpiece (use a word of its vocabulary)"),
        ("bytebpe", "{mask}: {a}", "x" * 17, f"'{'x' * 17}' is 17 tokens for tiny-bytebpe (use at most 16)"),
        (
            "bytebpe",
            "{mask}t {a}",
            "very no",
            "'very no' merges with the 't' after {mask} into other tokens (put a space after {mask})",
        ),
    ],
)
def test_what_no_number_of_tokens_helps(kind: str, text: str, word: str, reported: str) -> None:
    assert problem(kind, text, word, multi_token=True) == reported


def test_as_many_tokens_as_allowed() -> None:
    (token,) = found("bytebpe", "{mask} {a}", "x" * MOST_TOKENS, multi_token=True)

    assert len(token.split()) == MOST_TOKENS


def test_same_tokens_for_two_labels_and_twice_for_one() -> None:
    labels = {"A": ("very good", "Very Good"), "B": ("VERY good",)}
    _, problems = find("wordpiece", "{a} {mask}.", labels, multi_token=True)

    assert problems == [
        WordProblem("A", "'Very Good' and 'very good' are the same tokens 'very good'", "keep one"),
        WordProblem("B", "'VERY good' is the same tokens 'very good' as 'very good' of label 'A'"),
    ]


def test_longest_of_no_words_is_one() -> None:
    assert LabelWords(((), ())).longest == 1


def test_word_glued_to_what_follows() -> None:
    assert (
        problem("bytebpe", "{mask}t {a}", "no")
        == "'no' merges with the 't' after {mask} into other tokens (put a space after {mask})"
    )
    assert found("bytebpe", "{mask} t {a}", "no") == ["no"]
    assert found("bytebpe", "{mask}, {a}", "no") == ["no"]


def test_same_token_for_two_labels() -> None:
    _, problems = find("wordpiece", "{a} {mask}.", {"A": ("World",), "B": ("world",)})

    assert problems == [WordProblem("B", "'world' is the same token 'world' as 'World' of label 'A'")]


def test_same_token_twice_for_a_label() -> None:
    _, problems = find("wordpiece", "{a} {mask}.", {"A": ("World", "WORLD"), "B": (OTHER,)})

    assert problems == [WordProblem("A", "'WORLD' and 'World' are the same token 'world'", "keep one")]


def test_casing_keeps_labels_apart_where_the_tokenizer_does() -> None:
    words, problems = find("bytebpe", "{a} {mask}.", {"A": ("World",), "B": ("world",)})

    assert problems == []
    assert words.token_ids[0] != words.token_ids[1]


def test_every_bad_word_is_reported() -> None:
    _, problems = find("wordpiece", "{a} {mask}.", {"A": ("xyz", "great", "世"), "B": ("Great", "qq")})

    assert [(problem.label, problem.message.split()[0]) for problem in problems] == [
        ("A", "'xyz'"),
        ("A", "'世'"),
        ("B", "'Great'"),
        ("B", "'qq'"),
    ]


def test_probing_needs_no_context() -> None:
    words, problems = find_label_words(
        VerbalizerSpec(labels={"A": ("good",), "B": ("bad",)}), pieces("bytebpe"), MaskContext("", "")
    )

    assert (problems, [word.token for group in words.words for word in group]) == ([], ["good", "bad"])


def spec(**settings: object) -> PipelineSpec:
    return PipelineSpec(
        task="news",
        data=DataSpec(train="a.jsonl", unlabeled="b.jsonl"),
        patterns=(PatternSpec(id="one", text="{mask}: {text}"), PatternSpec(id="two", text="it was {mask}. {text}")),
        verbalizer=VerbalizerSpec(labels={"A": ("good",), "B": ("bad",)}),
    ).model_copy(update=settings)


def test_pvps_of_a_pipeline() -> None:
    pvps, problems = compile_pvps(Pipeline.from_spec(spec()), pieces("bytebpe"), 32)

    assert problems == []
    assert [pvp.id for pvp in pvps] == ["one", "two"]
    assert [pvp.words.words[0][0].token for pvp in pvps] == ["good", "Ġgood"]


def test_problems_of_all_patterns_are_reported() -> None:
    verbalizer = VerbalizerSpec(labels={"A": ("xyz",), "B": ("bad",)})
    _, problems = compile_pvps(Pipeline.from_spec(spec(verbalizer=verbalizer)), pieces("wordpiece"), 5)

    assert [str(problem)[:52] for problem in problems] == [
        "specification: label 'A': 'xyz' is 3 tokens for tiny-w"[:52],
        "specification: pattern 'two' alone takes 6 tokens; max_length is 5"[:52],
        "specification: label 'A': 'xyz' is 3 tokens for tiny-w"[:52],
    ]


def test_masks_that_leave_no_room_are_reported() -> None:
    verbalizer = VerbalizerSpec(labels={"A": ("it is not very good",), "B": ("bad",)}, multi_token=True)
    pvps, problems = compile_pvps(Pipeline.from_spec(spec(verbalizer=verbalizer)), pieces("wordpiece"), 9)

    assert [pvp.pattern.masks for pvp in pvps] == [5, 5]
    assert [pvp.pattern.room for pvp in pvps] == [1, -1]
    assert [str(problem) for problem in problems] == [
        "specification: pattern 'two' alone takes 10 tokens, 5 masks included; max_length is 9 (shorten it or raise max_length)"
    ]


def test_pvps_have_as_many_masks_as_their_own_words() -> None:
    """In a pattern without a space before the slot, SentencePiece spells a word letter by letter."""
    patterns = (PatternSpec(id="spaced", text="{text} {mask}"), PatternSpec(id="glued", text="{text} ({mask})"))
    verbalizer = VerbalizerSpec(labels={"A": ("good",), "B": ("bad",)}, multi_token=True)
    settings = spec(verbalizer=verbalizer, patterns=patterns)
    pvps, problems = compile_pvps(Pipeline.from_spec(settings), pieces("sentencepiece"), 32)

    assert problems == []
    assert [pvp.pattern.masks for pvp in pvps] == [1, 4]
