"""Label words found in place: which single token each word is in this pattern, for this tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from petkit.spec.schema import VerbalizerSpec
from petkit.task.pattern import MaskContext
from petkit.task.tokenization import PieceTokenizer

_SPACE_MARKS = "Ġ▁ "


@dataclass(frozen=True)
class LabelWord:
    """A label word as written and the one token it is."""

    written: str
    token: str
    token_id: int


@dataclass(frozen=True)
class WordProblem:
    """Why a word cannot stand for its label."""

    label: str
    message: str
    cure: str = ""


@dataclass(frozen=True)
class LabelWords:
    """The label words of one pattern: per label, in class order."""

    words: tuple[tuple[LabelWord, ...], ...]

    @property
    def token_ids(self) -> tuple[tuple[int, ...], ...]:
        """Vocabulary columns per label."""
        return tuple(tuple(word.token_id for word in words) for words in self.words)


def find_label_words(
    verbalizer: VerbalizerSpec, tokenizer: PieceTokenizer, context: MaskContext
) -> tuple[LabelWords, list[WordProblem]]:
    """Probe every label word in the slot's place.

    A word is taken as written, else in lower case, else with a capital, whichever is first a single
    known token there. Returns the words found and everything that is wrong with the others.
    """
    problems: list[WordProblem] = []
    owner: dict[int, tuple[str, str]] = {}
    found: list[tuple[LabelWord, ...]] = []
    for label, written_words in verbalizer.labels.items():
        words: list[LabelWord] = []
        for written in written_words:
            word = _find(written, tokenizer, context)
            if isinstance(word, WordProblem):
                problems.append(WordProblem(label, word.message, word.cure))
                continue
            other = owner.setdefault(word.token_id, (label, written))
            if other[0] != label:
                problems.append(
                    WordProblem(label, f"{written!r} is the same token {word.token!r} as {other[1]!r} of label {other[0]!r}")
                )
            elif other[1] != written:
                problems.append(WordProblem(label, f"{written!r} and {other[1]!r} are the same token {word.token!r}", "keep one"))
            words.append(word)
        found.append(tuple(words))
    return LabelWords(tuple(found)), problems


def _find(written: str, tokenizer: PieceTokenizer, context: MaskContext) -> LabelWord | WordProblem:
    for form in dict.fromkeys((written, written.lower(), written[:1].upper() + written[1:])):
        ids = tokenizer.word_tokens(form, context.glue, context.after)
        if len(ids) == 1 and ids[0] != tokenizer.unknown_id:
            return LabelWord(written, tokenizer.hf.convert_ids_to_tokens(ids[0]), ids[0])
    ids = tokenizer.word_tokens(written, context.glue)
    if tokenizer.unknown_id in ids:
        return WordProblem("", f"{written!r} is unknown to {tokenizer.name}", "use a word of its vocabulary")
    if len(ids) == 1:
        return WordProblem("", f"{written!r} melts into the {context.after!r} after the slot", "put a space after {mask}")
    near = list(_suggestions(written, tokenizer))
    cure = f"use one token, such as {', '.join(map(repr, near))}" if near else "use a word that is one token"
    return WordProblem("", f"{written!r} is {len(ids)} tokens for {tokenizer.name} ({tokenizer.describe(ids)})", cure)


def _suggestions(written: str, tokenizer: PieceTokenizer) -> Iterator[str]:
    """Yield up to three whole words of the vocabulary that look like ``written``."""
    start = written[:3].lower()
    vocabulary = tokenizer.hf.get_vocab()
    marked = any(token[:1] in _SPACE_MARKS for token in list(vocabulary)[:5000])
    whole = {token.lstrip(_SPACE_MARKS) for token in vocabulary if not marked or token[:1] in _SPACE_MARKS}
    candidates = sorted(word for word in whole if word.isalpha() and len(word) > 3 and word.lower().startswith(start))
    yield from get_close_matches(written, candidates, n=3, cutoff=0.5)
