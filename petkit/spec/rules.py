"""Rules that need more than one value: what a valid number, text or list cannot show on its own.

Every rule takes data as written, passes over values of a wrong type (the schema reports those) and
returns where in the data something is wrong, and what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from petkit.spec.cloze import parse_pattern

Mistakes: TypeAlias = list[tuple[tuple[str | int, ...], str]]


def mistakes_between_values(data: Mapping[str, Any]) -> Mistakes:
    """Return what single values cannot show, found in raw data; values of a wrong type are passed over.

    The schema's validators use the same rules, but pydantic skips them in a section that holds a wrong value.
    """
    found: Mistakes = []
    patterns = data.get("patterns")
    patterns = patterns if isinstance(patterns, (tuple, list)) else ()
    for index, pattern in enumerate(patterns):
        text = pattern.get("text") if isinstance(pattern, Mapping) else None
        segments = (text,) if isinstance(text, str) else text
        if isinstance(segments, (tuple, list)) and all(isinstance(segment, str) for segment in segments):
            inside = in_pattern(pattern.get("id"), segments)
            found += [(("patterns", index, *place), message) for place, message in inside]
    ids = (pattern.get("id") if isinstance(pattern, Mapping) else None for pattern in patterns)
    found += [(("patterns", *place), message) for place, message in in_pattern_ids(ids)]
    verbalizer = data.get("verbalizer")
    labels = verbalizer.get("labels") if isinstance(verbalizer, Mapping) else None
    if isinstance(labels, Mapping):
        found += [(("verbalizer", *place), message) for place, message in in_labels(labels)]
    teachers = data.get("teachers")
    seeds = teachers.get("seeds") if isinstance(teachers, Mapping) else None
    if isinstance(seeds, (tuple, list)):
        found += [(("teachers", *place), message) for place, message in in_seeds(seeds)]
    return found


def in_pattern(pattern_id: Any, segments: Sequence[str]) -> Mistakes:
    """Say what is wrong with a pattern's text."""
    _, problems = parse_pattern(tuple(segments))
    named = f"pattern {pattern_id!r}" if isinstance(pattern_id, str) else "pattern without an id"
    return [(("text",), f"{named}: {problem}") for problem in problems]


def in_pattern_ids(ids: Iterable[Any]) -> Mistakes:
    """Say which ids are used twice."""
    seen: set[str] = set()
    found: Mistakes = []
    for index, pattern_id in enumerate(ids):
        if not isinstance(pattern_id, str):
            continue
        if pattern_id in seen:
            found.append(((index, "id"), f"pattern id {pattern_id!r} is used twice"))
        seen.add(pattern_id)
    return found


def in_labels(labels: Mapping[str, Any]) -> Mistakes:
    """Say where label words do not tell labels apart."""
    found: Mistakes = []
    if len(labels) < 2:
        found.append((("labels",), f"{len(labels)} label; a classifier needs at least two"))
    owner: dict[str, str] = {}
    for label, words in labels.items():
        if not isinstance(words, (tuple, list)):
            continue
        if not words:
            found.append((("labels", label), f"label {label!r} has no words"))
        for word in (entry.strip() for entry in words if isinstance(entry, str)):
            if word not in owner:
                owner[word] = label
            elif owner[word] == label:
                found.append((("labels", label), f"label {label!r} lists {word!r} twice"))
            else:
                found.append((("labels", label), f"{word!r} is shared by labels {owner[word]!r} and {label!r}"))
    return found


def in_seeds(seeds: Sequence[Any]) -> Mistakes:
    """Say whether a seed stands twice."""
    if len(set(map(repr, seeds))) == len(seeds):
        return []
    return [(("seeds",), "the same seed twice would train the same teacher twice")]
