"""Inputs that the fingerprints of several steps have in common: each function returns a few entries of a step's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from petkit.config.schema.pipeline import DemonstrationsSpec
from petkit.runs.fingerprint import Inputs


class _Verbalizer(Protocol):
    """The settings of a verbalizer, written or compiled."""

    @property
    def multi_token(self) -> bool: ...
    @property
    def decoding(self) -> str: ...
    @property
    def kind(self) -> str: ...


def model_inputs(model_hash: str, max_length: int) -> Inputs:
    """Return the model, by the hash of its files, and the tokens per row."""
    return {"model": model_hash, "max_length": max_length}


def label_words(labels: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the words of every label, in the order of classes."""
    return {label: list(words) for label, words in labels.items()}


def verbalizer_inputs(verbalizer: _Verbalizer) -> Inputs:
    """Return the settings of a verbalizer, without its words."""
    return {
        "verbalizer.multi_token": verbalizer.multi_token,
        "verbalizer.decoding": verbalizer.decoding,
        "verbalizer.kind": verbalizer.kind,
    }


def demonstration_inputs(demonstrations: DemonstrationsSpec) -> Inputs:
    """Return the settings of demonstrations; None where there are none."""
    shown = demonstrations
    return {"demonstrations": [shown.per_label, shown.max_tokens] if shown.per_label else None}
