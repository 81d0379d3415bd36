"""Rows with the same text, in one part of the data or in two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from petkit.data.examples import Example

SHOWN_LINES = 5


def text_key(example: Example) -> int:
    """Return a small key that equal texts share, whatever their case and spacing."""
    return hash(tuple(" ".join(text.lower().split()) for text in example.fields.values()))


def by_text(examples: Iterable[Example]) -> dict[int, list[Example]]:
    """Return the rows of every text."""
    grouped: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        grouped[text_key(example)].append(example)
    return grouped


def seen_in_training(
    source: str,
    test: Sequence[Example],
    train: Iterable[Example],
    by: Literal["id", "line"],
    described: Iterable[Example] = (),
) -> list[str]:
    """Return a warning where rows of ``test`` have a text of ``train``; it calls the file ``source`` and names rows ``by`` id or line.

    Those with the text of a row made up for a label, ``described``, get a warning of their own.
    """
    found = []
    for rows, called in ((train, "labelled rows of train"), (described, "descriptions of the verbalizer")):
        keys = {text_key(example) for example in rows}
        leaked = [example for example in test if text_key(example) in keys]
        if leaked:
            named = ", ".join(f"{getattr(example, by)!s:.80}" for example in leaked[:SHOWN_LINES])
            found.append(f"{source}: {len(leaked):,} rows are also {called} ({by}s {named}); their accuracy says nothing")
    return found
