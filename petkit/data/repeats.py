"""Rows with the same text, in one part of the data or in two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
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


def seen_in_training(source: str, test: Iterable[Example], train: Iterable[Example], by: Literal["id", "line"]) -> list[str]:
    """Return a warning where rows of ``test`` have a text of ``train``; it calls the file ``source`` and names rows ``by`` id or line."""
    keys = {text_key(example) for example in train}
    leaked = [example for example in test if text_key(example) in keys]
    if not leaked:
        return []
    named = ", ".join(f"{getattr(example, by)!s:.80}" for example in leaked[:SHOWN_LINES])
    return [f"{source}: {len(leaked):,} rows are also labelled rows of train ({by}s {named}); their accuracy says nothing"]
