"""Candidate label words from a tokenizer's vocabulary, the most frequent in the unlabelled set first.

PETAL (Schick et al. 2020, section 4.1) tries whole words of two letters or more that are frequent in the unlabelled set. Whole
words are found by encoding: the marks of a tokenizer (``##``, ``Ġ``, ``▁``) need not be known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema.pipeline import VerbalizerSpec
from petkit.data.chunks import CHUNK
from petkit.prompts.pattern import MaskContext
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.prompts.verbalizer import find_label_words, scripts

# Written without spaces: a word may be anywhere in a text.
_UNSPACED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"})
# One character can be a word.
_SYLLABIC = frozenset({"CJK", "HANGUL"})

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Words, and the one token that each is in every slot, shape ``(slots, words)``."""

    words: tuple[str, ...]
    tokens: IntArray


def token_counts(store: TokenStore, tokenizer: PieceTokenizer) -> Counts:
    """Return how often each token occurs in the rows of a store, shape ``(vocabulary,)``."""
    size = max(tokenizer.hf.get_vocab().values()) + 1
    counts = np.zeros(size, np.int64)
    rows = iter(store)
    while chunk := [ids for row in islice(rows, CHUNK) for ids in row.values()]:
        counts += np.bincount(np.concatenate(chunk), minlength=size)
    return counts


def frequent_words(tokenizer: PieceTokenizer, counts: Counts, least: int) -> list[str]:
    """Return the whole words of a vocabulary that occur, the most frequent first; others follow only where these are under ``least``.

    A tokenizer numbers its tokens by how frequent they were in the texts it was made from; equally frequent words stay in
    that order.
    """
    order = np.argsort(-counts, kind="stable")
    words = _words(tokenizer, order[counts[order] > 0])
    return words if len(words) >= least else _words(tokenizer, order)


def fitting(words: Sequence[str], tokenizer: PieceTokenizer, slots: Sequence[MaskContext]) -> Candidates:
    """Keep the words that a verbalizer could name: found again in every slot, as one token that belongs to no other word."""
    by_slot: list[dict[str, int]] = []
    for slot in slots:
        # What is one token as written needs no other form and no advice, which would be slow to give for thousands of words.
        single = tuple(word for word, ids in zip(words, tokenizer.encode(words, slot.glue), strict=True) if len(ids) == 1)
        # A verbalizer of one label is not valid, and need not be: it only carries the words.
        found = _tokens_in(VerbalizerSpec.model_construct(labels={"": single}), tokenizer, slot)
        first = {token: word for word, token in reversed(found.items())}
        by_slot.append({word: token for word, token in found.items() if first[token] == word})
    return _in_all(by_slot, words)


def named_words(verbalizer: VerbalizerSpec, tokenizer: PieceTokenizer, slots: Sequence[MaskContext]) -> Candidates:
    """Return the words of a verbalizer that are one token in every slot, in its order."""
    by_slot = [_tokens_in(verbalizer.model_copy(update={"multi_token": False}), tokenizer, slot) for slot in slots]
    return _in_all(by_slot, [word for words in verbalizer.labels.values() for word in words])


def _words(tokenizer: PieceTokenizer, tokens: Counts) -> list[str]:
    """Return the tokens that are whole words, as people write them; special tokens are not."""
    written = [tokenizer.hf.decode([token], clean_up_tokenization_spaces=False).strip() for token in tokens.tolist()]
    encoded = zip(tokens.tolist(), written, tokenizer.encode(written, " "), strict=True)
    words = (word for token, word, ids in encoded if _is_word(word) and (ids == [token] or scripts(word) <= _UNSPACED))
    return list(dict.fromkeys(words))


def _is_word(text: str) -> bool:
    only_letters = all(unicodedata.category(letter)[0] in "LM" for letter in text)  # M: vowel signs and other marks
    return only_letters and sum(map(str.isalpha, text)) >= (1 if scripts(text) <= _SYLLABIC else 2)


def _tokens_in(verbalizer: VerbalizerSpec, tokenizer: PieceTokenizer, slot: MaskContext) -> dict[str, int]:
    """Return the tokens of the words that can be read in a slot."""
    found, _ = find_label_words(verbalizer, tokenizer, slot)
    return {word.written: word.token_ids[0] for words in found.words for word in words}


def _in_all(by_slot: Sequence[Mapping[str, int]], words: Sequence[str]) -> Candidates:
    kept = tuple(word for word in words if all(word in found for found in by_slot))
    tokens = np.array([[found[word] for word in kept] for found in by_slot], np.int32)
    return Candidates(kept, tokens.reshape(len(by_slot), len(kept)))
