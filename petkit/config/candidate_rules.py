"""Rules of tasks whose rows have candidate answers of their own, and no fixed labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petkit.config.mistakes import Mistakes, value_of
from petkit.formatting import counted

_ANSWERS = "and with candidates each row has answers of its own"
# Values that switch a setting off, or are its default.
_OFF: tuple[Any, ...] = (None, "none", "all", "single", "cross_entropy", 0, False, (), {})
# What needs labels that all rows have; {}: the value.
_NEED_FIXED_LABELS: Mapping[tuple[str, ...], str] = {
    ("label_kind",): "{} is about fixed labels",
    ("data", "label_names"): "names fixed labels",
    ("demonstrations", "per_label"): "takes examples of each label",
    ("generations", "count"): "draws rows by label",
    ("keep_patterns",): "ranks patterns by how they tell labels apart",
    ("baselines",): "answer with fixed labels",
    ("soft_labels", "calibration"): "subtracts a prior of fixed labels",
    ("soft_labels", "prior"): "shifts fixed labels to their shares",
    ("soft_labels", "drop_collapsed"): "looks for one label in all rows",
    ("teachers", "loss"): "{} is about words of fixed labels",
    ("teachers", "auxiliary_mlm_weight"): "reads rows with one mask",
    ("teachers", "label_conditioning_weight"): "fills in fixed labels",
    ("teachers", "label_smoothing"): "gives every label a share",
    ("teachers", "class_weights"): "weighs fixed labels",
    ("teachers", "contrastive", "weight"): "compares one vector per row",
    ("student", "label_smoothing"): "gives every label a share",
    ("student", "class_weights"): "weighs fixed labels",
    ("student", "contrastive", "weight"): "compares one vector per row",
    ("student", "feature_weight"): "compares one vector per row",
}
_VIRTUAL_TOKENS = ("prompt_tuning", "p_tuning_v1", "p_tuning_v2")


def in_candidates(verbalizer: Mapping[str, Any]) -> Mistakes:
    """Return what a verbalizer has that does not go with candidates."""
    columns, kind = verbalizer["candidates"], verbalizer.get("kind", "words")
    found: Mistakes = []
    if isinstance(columns, (tuple, list)) and len(set(map(repr, columns))) < len(columns):
        found.append((("candidates",), "names a column twice"))
    elif isinstance(columns, (tuple, list)) and len(columns) < 2:
        hint = "one column of lists is written candidates: name"
        found.append((("candidates",), f"names {counted(len(columns), 'column')}, and a choice needs two ({hint})"))
    for key in ("labels", "auto", "descriptions"):
        if verbalizer.get(key):
            found.append(((key,), f"is for fixed labels, {_ANSWERS} (remove one)"))
    if verbalizer.get("multi_token") is True:
        found.append((("multi_token",), "is for label words; candidates may have any number of tokens (leave it out)"))
    if kind != "words":
        why = "trains a vector per label, and the answers are the rows' own candidates"
        found.append((("kind",), f"{kind} {why} (leave it out)"))
    return found


def without_fixed_labels(data: Mapping[str, Any]) -> Mistakes:
    """Return the settings of a pipeline that need labels which all rows have."""
    found: Mistakes = []
    for place, why in _NEED_FIXED_LABELS.items():
        value = value_of(data, *place)
        if value not in _OFF and not (place == ("teachers", "loss") and value == "hinge"):
            found.append((place, f"{why.format(value)}, {_ANSWERS}"))
    adapter = value_of(data, "student", "adapter")
    kind = adapter.get("kind") if isinstance(adapter, Mapping) else adapter
    if kind in _VIRTUAL_TOKENS:
        message = f"{kind} is not available for a multiple-choice model, which candidates need (use lora or ia3)"
        found.append((("student", "adapter"), message))
    patterns = value_of(data, "patterns")
    for index, pattern in enumerate(patterns if isinstance(patterns, (tuple, list)) else ()):
        if value_of({"pattern": pattern}, "pattern", "verbalizer") is not None:
            found.append((("patterns", index, "verbalizer"), f"names words of fixed labels, {_ANSWERS}"))
    return found
