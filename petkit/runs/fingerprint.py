"""A step's inputs: one flat mapping, its hash, the difference between two, and the entries that several steps have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from petkit.config.schema.pipeline import DemonstrationsSpec, PipelineSpec, VerbalizerSpec

Value: TypeAlias = "str | int | float | bool | list[str] | list[int] | dict[str, list[str]] | None"
Inputs: TypeAlias = Mapping[str, Value]

_SHOWN = 60  # characters


def flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return nested settings as flat inputs: ``{"contrastive": {"weight": 0}}`` → ``prefix.contrastive.weight``."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        found |= flat(f"{prefix}.{name}", value) if isinstance(value, Mapping) else {f"{prefix}.{name}": value}
    return found


def model_inputs(model_hash: str, max_length: int) -> Inputs:
    """Return the model, by the hash of its files, and the tokens per row."""
    return {"model": model_hash, "max_length": max_length}


def label_words(labels: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the words of every label, in the order of classes."""
    return {label: list(words) for label, words in labels.items()}


def verbalizer_inputs(verbalizer: VerbalizerSpec) -> Inputs:
    """Return the settings of a verbalizer, without its words."""
    found: dict[str, Value] = {f"verbalizer.{name}": getattr(verbalizer, name) for name in ("multi_token", "decoding", "kind")}
    columns = verbalizer.candidates
    return (
        found if columns is None else {**found, "verbalizer.candidates": columns if isinstance(columns, str) else list(columns)}
    )


def untrained_inputs(spec: PipelineSpec) -> Inputs:
    """Return what untrained scores depend on besides model, patterns and words: verbalizers, patterns' own, and the way to answer."""
    found: dict[str, Value] = {**verbalizer_inputs(spec.verbalizer), **answering_inputs(spec.teachers.scoring)}
    for pattern in spec.patterns:
        if pattern.verbalizer is not None:
            own = spec.verbalizer_of(pattern)
            settings = {"labels": label_words(own.labels), **verbalizer_inputs(own)}
            found |= {f"{pattern.id}.{name}": value for name, value in settings.items()}
    return found


def answering_inputs(scoring: str) -> Inputs:
    """Return how the model answers, where a pipeline chooses it (``teachers.scoring``); otherwise the model's files say it."""
    return {} if scoring == "auto" else {"teachers.scoring": scoring}


def demonstration_inputs(shown: DemonstrationsSpec) -> Inputs:
    """Return the settings of demonstrations; None where there are none."""
    return {"demonstrations": [shown.per_label, shown.max_tokens] if shown.per_label else None}


def fingerprint(inputs: Inputs) -> str:
    """Return the hash of a step's inputs, independent of the order of keys (lists and label order count)."""
    # dicts inside values keep their order: the order of labels is the order of classes.
    canonical = json.dumps([[key, inputs[key]] for key in sorted(inputs)], ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def changes(old: Inputs, new: Inputs) -> str:
    """Describe in one line what changed: ``teachers.steps 100 → 200, data.train changed``."""
    found = []
    keys = dict.fromkeys((*old, *new))
    for key in sorted(keys, key=lambda key: (key in old) + (key in new), reverse=True):  # changed ones first
        if key not in old:
            found.append(f"{key} added")
        elif key not in new:
            found.append(f"{key} removed")
        elif json.dumps(old[key]) != json.dumps(new[key]):
            before, after = _short(old[key]), _short(new[key])
            found.append(f"{key} {before} → {after}" if before and after else f"{key} changed")
    return ", ".join(found)


def _short(value: Value) -> str:
    """Return a value for people, or nothing for hashes and long lists."""
    if isinstance(value, str):
        is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
        return "" if is_hash or len(value) > _SHOWN else value
    text = json.dumps(value, ensure_ascii=False)
    return "" if len(text) > _SHOWN else text
