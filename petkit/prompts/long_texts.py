"""The tokens of texts, of long ones only as many as can be used: nothing else of them is tokenised."""

from __future__ import annotations

from collections.abc import Sequence

from petkit.prompts.pattern import FieldKey, Truncate
from petkit.prompts.tokenizer import PieceTokenizer

# Of a long text, so many characters are read at first for each token that fits; a cut changes the tokens next to it.
_CHARACTERS, _MARGIN = 16, 64
# A tokenizer takes a hundred times the memory of what it reads, so that of longer texts only this many characters are read.
_LONGEST = 2**19


def used_tokens(texts: Sequence[str], key: FieldKey, tokenizer: PieceTokenizer, most: int, truncate: Truncate) -> list[list[int]]:
    """Return the tokens of texts of which at most ``most`` are kept, or of the ends they are kept of, and some more at a cut."""
    enough = max(most, 0) + _MARGIN
    length = enough * _CHARACTERS
    longest = max(_LONGEST, 2 * length)
    texts = [_end(text, longest, truncate) for text in texts]

    def encoded(pieces: Sequence[str]) -> list[list[int]]:
        return tokenizer.encode(pieces, key.glue, verbatim=key.verbatim)

    def end(text: str, most: int, *, last: bool) -> list[int] | None:
        """Return the tokens of a text's beginning, or of its last part, if ``most`` characters have enough."""
        read = length
        while read <= most:
            (found,) = encoded([text[-read:] if last else text[:read]])
            if len(found) >= enough:
                return found
            read *= 4
        return None

    def used(text: str) -> list[int]:
        if truncate == "middle":
            first, second = (end(text, len(text) // 2, last=last) for last in (False, True))
            cut = None if first is None or second is None else first + second
        else:
            cut = end(text, len(text) // 2, last=truncate == "head")
        return encoded([text])[0] if cut is None else cut

    short = iter(encoded([text for text in texts if len(text) <= 2 * length]))
    found = [next(short) if len(text) <= 2 * length else used(text) for text in texts]
    if not key.never_empty:
        return found
    unknown = tokenizer.pad_id if tokenizer.unknown_id is None else tokenizer.unknown_id
    return [ids or [unknown] * bool(text) for ids, text in zip(found, texts, strict=True)]


def _end(text: str, characters: int, truncate: Truncate) -> str:
    """Return the part of a text that so many tokens would be kept of."""
    if len(text) <= characters:
        return text
    if truncate == "middle":
        return text[: characters // 2] + text[-(characters // 2) :]
    return text[:characters] if truncate == "tail" else text[-characters:]
