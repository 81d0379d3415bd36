"""One tokenizer, seen the way patterns need it: pieces of a text, tokenised as they would be in place.

A pattern is assembled from token ids of its pieces, so that every text is tokenised once for all
patterns and teachers, truncation can never touch the pattern, and user text that spells a special
token stays plain text. A piece must come out as if it stood in the whole sentence; what that takes is
its *glue*, the characters just before it:

- white space belongs to the piece after it (byte-level BPE: ``Ġgreat``; SentencePiece: ``▁great``);
- any other character (``(`` in ``({text})``) is tokenised along and its tokens are dropped again;
- a field counts as some letter: what touches it (the ``.`` in ``{text}.``) goes on in the same word;
- the slot counts as nothing: a piece after ``{mask}`` starts afresh, as it does in the tokenizers.

Causal models have no mask: their slot is the end of the row, and the answer the token that would come next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from petkit.errors import ModelRefused

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Template:
    """The special tokens around one segment or two, and where token type 1 begins."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    second_type_from: int  # 0: never, 1: from `middle`'s end on (BERT), as the tokenizer does it

    @property
    def size(self) -> int:
        """Number of special tokens."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PieceTokenizer:
    """A transformers tokenizer with a mask token, and its ways with spaces and special tokens.

    Args:
        causal: its model answers with the next token, so that it needs no mask.

    Raises:
        ModelRefused: no mask token, or no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, *, needs_mask: bool = True, causal: bool = False) -> None:
        self.hf: Any = tokenizer
        self.name = name
        self.causal = causal
        if needs_mask and not causal and tokenizer.mask_token_id is None:
            why = "the tokenizer has no mask token, so it cannot answer a cloze question (use a masked language model)"
            raise ModelRefused(f"{name}: {why}")
        if tokenizer.pad_token_id is None:
            raise ModelRefused(f"{name}: the tokenizer has no padding token")
        self.mask_id: int = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else -1
        self.pad_id: int = tokenizer.pad_token_id
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.uses_token_types = "token_type_ids" in tokenizer.model_input_names
        self._probe = cache(lambda text, glue: self.encode([text], glue)[0])

    def encode(self, texts: Sequence[str], glue: str = "", *, verbatim: bool = False) -> list[list[int]]:
        """Return the token ids of each text as it is after ``glue``; no special tokens, no truncation.

        Args:
            verbatim: as the tokenizer that :meth:`save` writes reads them, for texts after no glue or white space.
        """
        if not texts:
            return []
        if verbatim:
            return self._ids([glue + text if text else "" for text in texts], self._standalone)
        if not glue or glue.isspace():
            return self._ids([glue + text if text else "" for text in texts])
        if not self.hf.is_fast:  # no offsets to cut at
            return self._ids(list(texts))
        encoded = self._raw([glue + text for text in texts], offsets=True)
        pieces = []
        for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            kept = [token for token, (start, _) in zip(ids, offsets, strict=True) if text and start >= len(glue)]
            straddles = any(start < len(glue) < end for start, end in offsets)
            pieces.append(self._ids([text])[0] if straddles else self._as_text(kept))
        return pieces

    def word_tokens(self, word: str, glue: str, after: str = "") -> list[int]:
        """Return the tokens that ``word`` takes between ``glue`` and ``after``: none where it merges with what follows."""
        alone: list[int] = self._probe(word, glue)
        merges = after and self._probe(word + after, glue)[: len(alone)] != alone
        return [] if merges else alone

    def canonical_glue(self, glue: str) -> str:
        """Return the simplest glue with the same effect, so that pieces are shared between patterns."""
        return glue if self.space_matters or glue[-1:].isalnum() else ""

    def save(self, folder: Path, max_length: int, truncate: str) -> None:
        """Write the tokenizer of a classifier: rows of ``max_length``, padded on the right, and no special token in a text.

        ``truncate: middle`` has no counterpart in transformers, and is written as ``tail``.
        """
        written = deepcopy(self._standalone)
        side = "left" if truncate == "head" else "right"
        sides = {"padding_side": "right", "truncation_side": side}
        settings = {"model_max_length": max_length, **sides, "split_special_tokens": True}
        written.init_kwargs.update(settings)  # only what is there is written
        for name, value in settings.items():
            setattr(written, name, value)
        written.save_pretrained(folder)

    @cached_property
    def _standalone(self) -> Any:
        """The tokenizer, with one more cut in each special token's name where its own words have them (SentencePiece)."""
        names = self.hf.convert_ids_to_tokens(sorted(self._special))
        read = self._raw(names)["input_ids"] if names and self.hf.is_fast else []
        read_whole = [name for name, ids in zip(names, read, strict=False) if self._special & set(ids)]
        if not read_whole:
            return self.hf
        from tokenizers import Regex, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        # The classes of single families build their own pre-tokenizer again, whatever the file says.
        kept = {"model_max_length": self.hf.model_max_length, "model_input_names": self.hf.model_input_names}
        general: Any = PreTrainedTokenizerFast
        made = general(tokenizer_object=self.hf.backend_tokenizer, **kept, **self.hf.special_tokens_map)
        cuts = "|".join(f"{re.escape(name[:1])}(?={re.escape(name[1:])})" for name in read_whole)
        before = made.backend_tokenizer.pre_tokenizer
        cut = pre_tokenizers.Split(Regex(cuts), "isolated")
        made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*([] if before is None else [before]), cut])
        return made

    @cached_property
    def space_matters(self) -> bool:
        """Whether a space before a word changes its tokens (byte-level BPE, SentencePiece) or not (WordPiece)."""
        plain, spaced, bracketed = self._ids(["it", " it", "(it"])
        return bool(plain != spaced or bracketed[-len(plain) :] != plain)

    @cached_property
    def single(self) -> Template:
        """The special tokens around one segment."""
        probe = self._ids(["it"])[0]
        whole = self.hf("it")["input_ids"]
        start = _find(whole, probe, 0)
        return Template(tuple(whole[:start]), (), tuple(whole[start + len(probe) :]), 0)

    @cached_property
    def start_id(self) -> int:
        """The token of an empty row where the tokenizer adds none: a causal model needs one to answer after."""
        ids = (self.hf.bos_token_id, self.hf.eos_token_id, self.pad_id)
        return next(int(token) for token in ids if token is not None)

    @cached_property
    def line_break(self) -> tuple[int, ...]:
        """The tokens of a line break; none where the vocabulary has no such thing."""
        ids = self._ids(["\n"])[0]
        return () if self.unknown_id in ids else tuple(ids)

    @cached_property
    def pair(self) -> Template:
        """The special tokens around two segments."""
        first, second = self._ids(["it", "was"])
        whole = self.hf("it", "was")
        ids, types = whole["input_ids"], whole.get("token_type_ids") or [0]
        start = _find(ids, first, 0)
        stop = start + len(first)
        again = _find(ids, second, stop)
        suffix = tuple(ids[again + len(second) :])
        return Template(tuple(ids[:start]), tuple(ids[stop:again]), suffix, int(types[-1] == 1))

    @property
    def distinguishes_pairs(self) -> bool:
        """Whether special tokens separate two segments; tokenizers of most causal models put them side by side."""
        return bool(self.pair.middle)

    def describe(self, ids: Sequence[int]) -> str:
        """Return token ids as quoted tokens, for messages."""
        return ", ".join(map(repr, self.hf.convert_ids_to_tokens(list(ids))))

    def shown(self, ids: Sequence[int]) -> str:
        """Return a row as tokens with spaces between them, soft tokens (ids below 0) as ``{soft}``."""
        names = iter(self.hf.convert_ids_to_tokens([token for token in ids if token >= 0]))
        return " ".join("{soft}" if token < 0 else next(names) for token in ids)

    def _ids(self, texts: list[str], tokenizer: Any = None) -> list[list[int]]:
        return [self._as_text(ids) for ids in self._raw(texts, tokenizer)["input_ids"]]

    def _as_text(self, ids: list[int]) -> list[int]:
        """Spell out special tokens: a text can only mention them, but SentencePiece has their names among its words."""
        if self._special.isdisjoint(ids):
            return ids
        return [token for mentioned in ids for token in self._spelled.get(mentioned, (mentioned,))]

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.hf.all_special_ids) - {self.unknown_id}

    @cached_property
    def _spelled(self) -> dict[int, tuple[int, ...]]:
        """Special token → the tokens of its name, with a space after the first character to keep it from being read as one."""
        ids = sorted(self._special)
        names = self.hf.convert_ids_to_tokens(ids)
        apart = self._raw([f"{name[:1]} {name[1:]}" for name in names])["input_ids"]
        return {key: tuple(token for token in row if token not in self._special) for key, row in zip(ids, apart, strict=True)}

    def _raw(self, texts: list[str], tokenizer: Any = None, *, offsets: bool = False) -> Any:
        return (tokenizer or self.hf)(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=offsets,
            verbose=False,
        )


def _find(whole: list[int], part: list[int], start: int) -> int:
    for index in range(start, len(whole) - len(part) + 1):
        if whole[index : index + len(part)] == part:
            return index
    raise ModelRefused("the tokenizer changes a text when it adds special tokens; petkit cannot place a pattern in it")
