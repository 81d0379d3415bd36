"""How much of everything a specification may hold; looked at before its values are, which then need not fear their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from petkit import limits
from petkit.config.rules import Mistakes, Place, value_of


class _Cap(NamedTuple):
    most: int
    of: str
    hint: str


_ENTRIES = _Cap(limits.ENTRIES, "entries", "too large for a configuration file")
_LABELS = _Cap(limits.LABELS, "labels", "join the rare ones")
_WORDS = _Cap(limits.WORDS_PER_LABEL, "words", "keep the most telling ones")
_CAPS: dict[Place, _Cap] = {
    ("patterns",): _Cap(limits.PATTERNS, "patterns", "keep the best ones; petkit rank-patterns orders some at a time"),
    ("verbalizer", "labels"): _LABELS,
    ("data", "label_names"): _LABELS,
    ("student", "thresholds"): _LABELS,
    ("soft_labels", "prior"): _LABELS,
    ("teachers", "seeds"): _Cap(limits.SEEDS, "seeds", "each seed trains every pattern again"),
}
_LABEL_WORDS = ("verbalizer", "labels")


def beyond_caps(data: Mapping[str, Any]) -> Mistakes:
    """Return where raw data holds too much: entries of lists and mappings, characters of texts, teachers."""
    found: Mistakes = []
    pending: list[tuple[Place, Any]] = [((), data)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            most = limits.WORD_CHARACTERS if path[:2] == _LABEL_WORDS else limits.TEXT_CHARACTERS
            if len(value) > most:
                found.append((path, f"{len(value):,} characters are more than {most:,} (shorten it)"))
        elif isinstance(value, (Mapping, tuple, list)):
            cap = _WORDS if path[:2] == _LABEL_WORDS and len(path) > 2 else _CAPS.get(path, _ENTRIES)
            if len(value) > cap.most:
                found.append((path, f"{len(value):,} {cap.of} are more than {cap.most:,} ({cap.hint})"))
                continue
            inside = value.items() if isinstance(value, Mapping) else enumerate(value)
            long = [key for key in value if len(key) > limits.KEY_CHARACTERS] if isinstance(value, Mapping) else []
            found += [(path, f"a key of {len(key):,} characters; at most {limits.KEY_CHARACTERS}") for key in long]
            pending += [((*path, key), entry) for key, entry in inside]
    return found or _too_many_together(data)


def _too_many_together(data: Mapping[str, Any]) -> Mistakes:
    """Return where lists that are short enough by themselves make too many words, or teachers (``auto`` is counted later)."""
    found: Mistakes = []
    labels = value_of(data, "verbalizer", "labels")
    lists = labels.values() if isinstance(labels, Mapping) else ()
    words = sum(len(entry) for entry in lists if isinstance(entry, (tuple, list)))
    if words > limits.WORDS:
        found.append((_LABEL_WORDS, f"{words:,} words of all labels are more than {limits.WORDS:,} ({_WORDS.hint})"))
    patterns, seeds = data.get("patterns"), value_of(data, "teachers", "seeds")
    if isinstance(patterns, (tuple, list)) and isinstance(seeds, (tuple, list)):
        kept = min(_count(data.get("keep_patterns")) or len(patterns), len(patterns))
        message = too_many_teachers(kept, len(seeds), 1 + _count(value_of(data, "generations", "count")))
        found += [(("teachers", "seeds"), message)] if message else []
    return found


def _count(value: Any) -> int:
    """Return a number of things as it is, and 0 for anything else (the schema reports that)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def too_many_teachers(patterns: int, seeds: int, generations: int) -> str:
    """Return why so many teachers are too many; empty if they are not."""
    teachers = patterns * seeds * generations
    if teachers <= limits.TEACHERS:
        return ""
    factors = f"{patterns:,} patterns × {seeds:,} seeds × {generations:,} generations"
    return f"{factors} are {teachers:,} teachers; at most {limits.TEACHERS:,} (take fewer seeds, or set keep_patterns)"
