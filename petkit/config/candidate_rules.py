"""Rules of tasks whose rows have candidate answers of their own, and no fixed labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from petkit.config.mistakes import Mistakes, Place, number, value_of
from petkit.formatting import counted

_VIRTUAL = ("prompt_tuning", "p_tuning_v1", "p_tuning_v2")
_ANSWERS = "and with candidates each row has answers of its own"


def in_candidates(verbalizer: Mapping[str, Any]) -> Mistakes:
    """Return what a verbalizer has that does not go with candidates."""
    columns, kind = verbalizer["candidates"], verbalizer.get("kind", "words")
    found: Mistakes = []
    if isinstance(columns, (tuple, list)) and len(set(map(repr, columns))) < len(columns):
        found.append((("candidates",), "names a column twice"))
    elif isinstance(columns, (tuple, list)) and len(columns) < 2:
        message = (
            f"names {counted(len(columns), 'column')}, and a choice needs two (one column of lists is written candidates: name)"
        )
        found.append((("candidates",), message))
    for key in ("labels", "auto", "descriptions"):
        if verbalizer.get(key):
            found.append(((key,), f"is for fixed labels, {_ANSWERS} (remove one)"))
    if verbalizer.get("multi_token") is True:
        found.append((("multi_token",), "is for label words; candidates may have any number of tokens (leave it out)"))
    if kind != "words":
        found.append(
            (("kind",), f"{kind} trains a vector per label, and the answers are the rows' own candidates (leave it out)")
        )
    return found


def without_fixed_labels(data: Mapping[str, Any]) -> Mistakes:
    """Return the settings of a pipeline that need labels which all rows have."""
    value = partial(value_of, data)

    def is_set(*place: str) -> bool:
        found = value(*place)
        return number(found) > 0 or (isinstance(found, (str, Mapping, tuple, list)) and bool(found) and found != "none")

    loss = value("teachers", "loss", default="cross_entropy")
    kind, weighting = value("label_kind", default="single"), value("soft_labels", "calibration", default="none")
    by_label: dict[Place, tuple[bool, str]] = {
        ("label_kind",): (kind != "single", f"{kind} is about fixed labels"),
        ("data", "label_names"): (is_set("data", "label_names"), "names fixed labels"),
        ("demonstrations", "per_label"): (is_set("demonstrations", "per_label"), "takes examples of each label"),
        ("generations", "count"): (is_set("generations", "count"), "draws rows by label"),
        ("keep_patterns",): (value("keep_patterns", default="all") != "all", "ranks patterns by how they tell labels apart"),
        ("baselines",): (is_set("baselines"), "answer with fixed labels"),
        ("soft_labels", "calibration"): (weighting != "none", "subtracts a prior of fixed labels"),
        ("soft_labels", "prior"): (
            value("soft_labels", "prior", default="none") != "none",
            "shifts fixed labels to their shares",
        ),
        ("soft_labels", "drop_collapsed"): (
            value("soft_labels", "drop_collapsed") is True,
            "looks for one label in all rows",
        ),
        ("student", "feature_weight"): (is_set("student", "feature_weight"), "compares one vector per row"),
        ("teachers", "loss"): (loss not in ("cross_entropy", "hinge"), f"{loss} is about words of fixed labels"),
        ("teachers", "auxiliary_mlm_weight"): (is_set("teachers", "auxiliary_mlm_weight"), "reads rows with one mask"),
        ("teachers", "label_conditioning_weight"): (is_set("teachers", "label_conditioning_weight"), "fills in fixed labels"),
    }
    for section in ("teachers", "student"):
        by_label[section, "label_smoothing"] = is_set(section, "label_smoothing"), "gives every label a share"
        by_label[section, "class_weights"] = is_set(section, "class_weights"), "weighs fixed labels"
        by_label[section, "contrastive", "weight"] = is_set(section, "contrastive", "weight"), "compares one vector per row"
    adapter = value("student", "adapter", default="none")
    kind_of_adapter = adapter.get("kind") if isinstance(adapter, Mapping) else adapter
    found = [(place, f"{message}, {_ANSWERS}") for place, (applies, message) in by_label.items() if applies]
    if isinstance(kind_of_adapter, str) and kind_of_adapter in _VIRTUAL:
        message = f"{kind_of_adapter} is not available for a multiple-choice model, which candidates need (use lora or ia3)"
        found.append((("student", "adapter"), message))
    patterns = value("patterns")
    for index, pattern in enumerate(patterns if isinstance(patterns, (tuple, list)) else ()):
        own = isinstance(pattern, Mapping) and pattern.get("verbalizer") is not None
        found += [(("patterns", index, "verbalizer"), f"names words of fixed labels, {_ANSWERS}")] if own else []
    return found
