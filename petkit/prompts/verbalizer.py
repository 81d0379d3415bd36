"""Label words found in place: which tokens each word is in this pattern, for this tokenizer."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches

from petkit.config.schema.pipeline import VerbalizerSpec
from petkit.prompts.pattern import MaskContext
from petkit.prompts.tokenizer import PieceTokenizer

_SPACE_MARKS = "Ġ▁ "
# Alphabets whose letters look alike; a word with letters of two of them is a slip of the keyboard.
_LOOKALIKE = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
MOST_TOKENS = 16
_ADVISED = 20  # wrong words of one pattern for which others are suggested


@dataclass(frozen=True)
class LabelWord:
    """A label word as written and the tokens it is: one, or several where the verbalizer allows it."""

    written: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]

    @property
    def token(self) -> str:
        """The tokens for people."""
        return " ".join(self.tokens)


@dataclass(frozen=True)
class WordProblem:
    """Why a word cannot stand for its label."""

    label: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class LabelWords:
    """The label words of one pattern: per label, in class order."""

    words: tuple[tuple[LabelWord, ...], ...]

    @property
    def token_ids(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Labels → words → tokens."""
        return tuple(tuple(word.token_ids for word in words) for words in self.words)

    @property
    def longest(self) -> int:
        """Tokens of the longest word (1 without words)."""
        return max((len(word.token_ids) for words in self.words for word in words), default=1)


def find_label_words(
    verbalizer: VerbalizerSpec, tokenizer: PieceTokenizer, context: MaskContext
) -> tuple[LabelWords, list[WordProblem]]:
    """Probe every label word in the slot's place.

    A word is taken as written, else in lower case, else with a capital, whichever is first a single
    known token there; where ``multi_token`` allows it, else as written with all its tokens. Returns the
    words found and everything that is wrong with the others.

    >>> from petkit.models.loading import load_tokenizer
    >>> words = VerbalizerSpec(labels={"World": ("world",), "Sports": ("football", "footballish")})
    >>> found, problems = find_label_words(words, load_tokenizer("embedded"), MaskContext(glue=" ", after="."))
    >>> [[word.token for word in of_label] for of_label in found.words]
    [['world'], ['football']]
    >>> [problem.label for problem in problems]
    ['Sports']
    """
    problems: list[WordProblem] = []
    owner: dict[tuple[int, ...], tuple[str, str]] = {}
    found: list[tuple[LabelWord, ...]] = []
    for label, written_words in verbalizer.labels.items():
        words: list[LabelWord] = []
        for written in written_words:
            advise = len(problems) < _ADVISED  # a search of the vocabulary each
            word = _find(written, tokenizer, context, multi_token=verbalizer.multi_token, advise=advise)
            if not isinstance(word, LabelWord):
                problems.append(WordProblem(label, *word))
                continue
            same = f"the same {'token' if len(word.tokens) == 1 else 'tokens'} {word.token!r}"
            other_label, other = owner.setdefault(word.token_ids, (label, written))
            if other_label != label:
                problems.append(WordProblem(label, f"{written!r} is {same} as {other!r} of label {other_label!r}"))
            elif other != written:
                problems.append(WordProblem(label, f"{written!r} and {other!r} are {same}", "keep one"))
            words.append(word)
        found.append(tuple(words))
    return LabelWords(tuple(found)), problems


def scripts(text: str) -> frozenset[str]:
    """Return the alphabets of a text's letters, such as ``LATIN`` and ``CJK``."""
    return frozenset(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())


def _find(
    written: str, tokenizer: PieceTokenizer, context: MaskContext, *, multi_token: bool, advise: bool
) -> LabelWord | tuple[str, str]:
    """Return a word as the tokens it is, or why it cannot stand for its label, with a hint."""
    if len(alike := sorted(scripts(written).intersection(_LOOKALIKE))) > 1:
        alphabets = " and ".join(name.capitalize() for name in alike)
        return f"{written!r} mixes {alphabets} letters that look alike", "type it again in one alphabet"
    if special := [part for part in written.split() if part in tokenizer.hf.all_special_tokens]:
        relation = "is" if special[0] == written else f"contains {special[0]!r},"
        return f"{written!r} {relation} a special token of {tokenizer.name}", "use a word"
    for form in dict.fromkeys((written, written.lower(), written[:1].upper() + written[1:])):
        ids = tokenizer.word_tokens(form, context.glue, context.after)
        if len(ids) == 1 and ids[0] != tokenizer.unknown_id:
            return _word(written, ids, tokenizer)
    ids = tokenizer.word_tokens(written, context.glue)
    if tokenizer.unknown_id in ids or not ids:
        return f"{written!r} is {'unknown' if ids else 'nothing'} to {tokenizer.name}", "use a word of its vocabulary"
    if len(ids) == 1 or (multi_token and not tokenizer.word_tokens(written, context.glue, context.after)):
        return f"{written!r} merges with the {context.after!r} after {{mask}} into other tokens", "put a space after {mask}"
    if len(ids) > MOST_TOKENS:
        return f"{written!r} is {len(ids)} tokens for {tokenizer.name}", f"use at most {MOST_TOKENS}"
    if multi_token:
        return _word(written, ids, tokenizer)
    near = ", ".join(map(repr, _suggestions(written, tokenizer))) if advise else ""
    hint = f"use one token, such as {near}; " if near else "use a word that is one token, "
    message = f"{written!r} is {len(ids)} tokens for {tokenizer.name} ({tokenizer.describe(ids)})"
    return message, f"{hint}or set multi_token: true"


def _word(written: str, ids: list[int], tokenizer: PieceTokenizer) -> LabelWord:
    return LabelWord(written, tuple(tokenizer.hf.convert_ids_to_tokens(ids)), tuple(ids))


def _suggestions(written: str, tokenizer: PieceTokenizer) -> list[str]:
    """Return up to three whole words of the vocabulary that look like ``written``."""
    start = written[:3].lower()
    vocabulary = tokenizer.hf.get_vocab()
    marked = any(token[:1] in _SPACE_MARKS for token in list(vocabulary)[:5000])
    whole = {token.lstrip(_SPACE_MARKS) for token in vocabulary if not marked or token[:1] in _SPACE_MARKS}
    candidates = sorted(word for word in whole if word.isalpha() and len(word) > 3 and word.lower().startswith(start))
    return get_close_matches(written, candidates, n=3, cutoff=0.5)
