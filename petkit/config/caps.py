"""How much of everything a configuration file may hold, looked at before its values are, which then need not fear their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petkit import limits
from petkit.config.mistakes import Mistakes, Place, value_of
from petkit.config.rules import CLASS_WEIGHTS, inside_own_verbalizer

# How many of what there may be, and what to do with more of them.
_ENTRIES = (limits.ENTRIES, "entries", "too large for a configuration file")
_LABELS = (limits.LABELS, "labels", "join the rare ones")
_WORDS = (limits.WORDS_PER_LABEL, "words", "keep the most telling ones")
_CAPS: dict[Place, tuple[int, str, str]] = {
    ("patterns",): (limits.PATTERNS, "patterns", "keep the best ones; petkit rank-patterns orders some at a time"),
    ("verbalizer", "labels"): _LABELS,
    ("data", "label_names"): _LABELS,
    ("student", "thresholds"): _LABELS,
    ("soft_labels", "prior"): _LABELS,
    **dict.fromkeys(CLASS_WEIGHTS, _LABELS),
    ("verbalizer", "descriptions"): _LABELS,
    ("teachers", "seeds"): (limits.SEEDS, "seeds", "each seed trains every pattern again"),
}
_LABEL_WORDS, _DESCRIPTIONS = ("verbalizer", "labels"), ("verbalizer", "descriptions")
_DESCRIBED = (limits.DESCRIPTIONS_PER_LABEL, "descriptions", "keep those that differ most; data.train takes more rows")
_OF_A_LABEL: dict[Place, tuple[int, str, str]] = {_LABEL_WORDS: _WORDS, _DESCRIPTIONS: _DESCRIBED}


def beyond_caps(data: Mapping[str, Any]) -> Mistakes:
    """Return where raw data holds too much: entries of lists and mappings, characters of texts, teachers."""
    found: Mistakes = []
    pending: list[tuple[Place, Any]] = [((), data)]
    seen: set[int] = set()  # verbalizers: several patterns may answer with one, which the loader then puts into each
    while pending:
        place, value = pending.pop()
        path = inside_own_verbalizer(place) or place
        if path == ("verbalizer",):
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, str):
            most = limits.WORD_CHARACTERS if path[:2] == _LABEL_WORDS else limits.TEXT_CHARACTERS
            if len(value) > most:
                found.append((place, f"{len(value):,} characters are more than {most:,} (shorten it)"))
        elif isinstance(value, (Mapping, tuple, list)):
            most, of, hint = _CAPS.get(path, _ENTRIES) if len(path) != 3 else _OF_A_LABEL.get(path[:2], _ENTRIES)
            if len(value) > most:
                found.append((place, f"{len(value):,} {of} are more than {most:,} ({hint})"))
                continue
            inside = value.items() if isinstance(value, Mapping) else enumerate(value)
            long = [key for key in value if len(key) > limits.KEY_CHARACTERS] if isinstance(value, Mapping) else []
            found += [(place, f"a key of {len(key):,} characters; at most {limits.KEY_CHARACTERS}") for key in long]
            pending += [((*place, key), entry) for key, entry in inside]
    return found or _too_many_together(data)


def _too_many_together(data: Mapping[str, Any]) -> Mistakes:
    """Return where lists that are short enough by themselves make too many words, descriptions or teachers (``auto`` is counted later)."""
    found: Mistakes = []
    for place, of, most, hint in (
        (_LABEL_WORDS, "words", limits.WORDS, _WORDS[2]),
        (_DESCRIPTIONS, "descriptions", limits.DESCRIPTIONS, _DESCRIBED[2]),
    ):
        count = _entries_of_labels(value_of(data, *place))
        if place == _LABEL_WORDS and isinstance(data.get("patterns"), (tuple, list)):
            own = [value_of(pattern, *place) for pattern in data["patterns"] if isinstance(pattern, Mapping)]
            count += sum(map(_entries_of_labels, own))
        if count > most:
            found.append((place, f"{count:,} {of} of all labels are more than {most:,} ({hint})"))
    patterns, seeds = data.get("patterns"), value_of(data, "teachers", "seeds")
    if isinstance(patterns, (tuple, list)) and isinstance(seeds, (tuple, list)):
        kept = min(_count(data.get("keep_patterns")) or len(patterns), len(patterns))
        message = too_many_teachers(kept, len(seeds), 1 + _count(value_of(data, "generations", "count")))
        found += [(("teachers", "seeds"), message)] if message else []
    return found


def _entries_of_labels(by_label: Any) -> int:
    lists = by_label.values() if isinstance(by_label, Mapping) else ()
    return sum(len(entry) for entry in lists if isinstance(entry, (tuple, list)))


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def too_many_teachers(patterns: int, seeds: int, generations: int) -> str:
    """Return why so many teachers are too many; empty if they are not."""
    teachers = patterns * seeds * generations
    if teachers <= limits.TEACHERS:
        return ""
    factors = f"{patterns:,} patterns × {seeds:,} seeds × {generations:,} generations"
    return f"{factors} are {teachers:,} teachers; at most {limits.TEACHERS:,} (take fewer seeds, or set keep_patterns)"
