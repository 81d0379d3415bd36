"""Rules that need more than one value: what a valid number, text or list cannot show on its own.

Every rule takes data as written, passes over values of a wrong type (the schema reports those) and
returns where in the data something is wrong, and what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from petkit.config.names import LOSS_NAMES
from petkit.config.pattern_syntax import parse_pattern
from petkit.errors import listed

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
    if isinstance(verbalizer, Mapping):
        inside = in_verbalizer(verbalizer)
        labels = verbalizer.get("labels")
        if isinstance(labels, Mapping):
            inside += in_labels(labels, automatic=verbalizer.get("auto") is not None)
        found += [(("verbalizer", *place), message) for place, message in inside]
    for section in ("teachers", "student"):
        settings = data.get(section)
        if not isinstance(settings, Mapping):
            continue
        rules = in_student if section == "student" else in_training
        found += [((section, *place), message) for place, message in rules(settings)]
        if isinstance(settings.get("seeds"), (tuple, list)):
            found += [((section, *place), message) for place, message in in_seeds(settings["seeds"])]
    words = _value(data, "pretrain_prompt", "words")
    if isinstance(words, Mapping):
        found += [(("pretrain_prompt", "words", *place), message) for place, message in in_question_words(words)]
    return found + in_pipeline(data)


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


def in_verbalizer(verbalizer: Mapping[str, Any]) -> Mistakes:
    """Say which ways of naming label words exclude each other."""
    labels, automatic = verbalizer.get("labels"), verbalizer.get("auto") is not None
    found: Mistakes = []
    if not labels and not automatic:
        found.append((("labels",), "names no labels (write each label with its words, or auto to have words found)"))
    if automatic and isinstance(labels, Mapping) and any(labels.values()):
        found.append((("auto",), "words are named already; auto would find others (remove the words or auto)"))
    if automatic and verbalizer.get("multi_token") is True:
        found.append((("multi_token",), "auto finds words of one token only"))
    if verbalizer.get("multi_token") is True and verbalizer.get("kind", "words") != "words":
        found.append((("kind",), "a label vector answers at one mask, and words of several tokens need several (choose one)"))
    if verbalizer.get("decoding", "parallel") != "parallel" and verbalizer.get("multi_token") is not True:
        found.append((("decoding",), "is for words of several tokens (set multi_token: true)"))
    return found


def in_training(settings: Mapping[str, Any]) -> Mistakes:
    """Say which objectives cannot work with the other settings of a section."""
    found: Mistakes = []
    if _number(settings.get("r_drop_weight")) > 0 and _number(settings.get("dropout")) == 0:
        found.append((("r_drop_weight",), "compares two dropout passes, and dropout is 0 (set dropout: 0.1)"))
    changed = [key for key in ("label_smoothing", "focal_gamma") if _number(settings.get(key)) > 0]
    changed += ["class_weights"] if settings.get("class_weights") == "balanced" else []
    if settings.get("loss", "cross_entropy") != "cross_entropy" and settings["loss"] in LOSS_NAMES:
        found += [((key,), f"changes the cross-entropy, and loss is {settings['loss']}") for key in changed]
    if settings.get("loss") == "next_token":
        compared = {
            ("r_drop_weight",): _number(settings.get("r_drop_weight")) > 0,
            ("consistency", "kind"): _value(settings, "consistency", "kind", default="none") != "none",
            ("contrastive", "weight"): _number(_value(settings, "contrastive", "weight")) > 0,
        }
        found += [(key, "compares answers of all labels, and loss is next_token") for key, given in compared.items() if given]
    if settings.get("hard_weight") == 0:
        found += [((key,), "changes the gold-label loss, and hard_weight is 0") for key in changed]
    return found + [(("adapter", *place), message) for place, message in in_adapter(settings.get("adapter"))]


def in_adapter(adapter: Any) -> Mistakes:
    """Say which layers are to be scaled at their input (``feedforward_modules``) and are none of those adapted."""
    if not isinstance(adapter, Mapping):
        return []
    targets, scaled = adapter.get("target_modules"), adapter.get("feedforward_modules")
    if not isinstance(targets, (tuple, list)) or not isinstance(scaled, (tuple, list)):
        return []  # what auto means depends on the model
    named = {end for end in targets if isinstance(end, str)}
    strange = [end for end in scaled if isinstance(end, str) and end not in named]
    return [(("feedforward_modules",), f"{end} is none of target_modules (name it there too)") for end in strange]


def in_student(settings: Mapping[str, Any]) -> Mistakes:
    """Say what cannot work in a student's settings."""
    found = in_training(settings)
    adapter = settings.get("adapter", "none")
    kind = adapter.get("kind") if isinstance(adapter, Mapping) else adapter
    if settings.get("keep_adapter") is True and kind == "none":
        found.append((("keep_adapter",), "there is no adapter to keep (set adapter: lora)"))
    elif settings.get("keep_adapter") is True and kind not in ("lora", "qlora", "ia3"):
        found.append((("keep_adapter",), f"only lora, qlora and ia3 are merged; with {kind} the folder is the adapter already"))
    return found


def in_question_words(words: Mapping[str, Any]) -> Mistakes:
    """Say which answers of ``pretrain_prompt`` are the same word."""
    owner: dict[str, str] = {}
    found: Mistakes = []
    for answer in ("next", "same_text", "other_text"):
        word = words.get(answer)
        if isinstance(word, str) and owner.setdefault(word.strip(), answer) != answer:
            found.append(((answer,), f"{word.strip()!r} is also the word of {owner[word.strip()]}"))
    return found


def in_pipeline(data: Mapping[str, Any]) -> Mistakes:
    """Say which sections do not go together."""

    value = partial(_value, data)
    found: Mistakes = []
    if isinstance(data.get("data"), Mapping) and value("data", "train") is None:
        needs_rows = "needs labelled rows, and data.train names none"
        if value("verbalizer", "auto") is not None:
            found.append((("verbalizer", "auto"), needs_rows))
        for key, choices in (("weighting", ("train_accuracy", "out_of_fold")), ("teacher_temperature", ("out_of_fold",))):
            if value("soft_labels", key) in choices:
                found.append((("soft_labels", key), f"{value('soft_labels', key)} {needs_rows}"))
        if value("soft_labels", "prior") == "train":
            found.append((("soft_labels", "prior"), f"train {needs_rows}"))
        if _number(value("demonstrations", "per_label")) > 0:
            found.append((("demonstrations", "per_label"), needs_rows))
        baselines = value("baselines")
        trained = [name for name in baselines if name != "zero_shot"] if isinstance(baselines, (tuple, list)) else []
        found += [(("baselines",), f"{name} {needs_rows}") for name in trained]
    found += _in_label_kind(data)
    if isinstance(data.get("soft_labels"), Mapping):
        inside = in_soft_labels(data["soft_labels"], multi=value("label_kind") == "multi")
        labels = value("verbalizer", "labels")
        if isinstance(labels, Mapping) and value("verbalizer", "auto") is None:
            inside += in_prior(data["soft_labels"].get("prior"), list(labels))
        found += [(("soft_labels", *place), message) for place, message in inside]
    patterns, keep = data.get("patterns"), data.get("keep_patterns")
    if isinstance(patterns, (tuple, list)) and isinstance(keep, int) and keep > len(patterns):
        found.append((("keep_patterns",), f"keeps {keep} of {len(patterns)} patterns (say all, or a smaller number)"))
    if value("teachers", "consistency", "kind") == "second_pattern" and isinstance(patterns, (tuple, list)) and len(patterns) < 2:
        found.append((("teachers", "consistency", "kind"), "second_pattern needs two patterns"))
    return found


def _in_label_kind(data: Mapping[str, Any]) -> Mistakes:
    """Say what does not go with one label per row, or with several."""
    value = partial(_value, data)
    found: Mistakes = []
    labels, thresholds = value("verbalizer", "labels"), value("student", "thresholds")
    labels = labels if isinstance(labels, Mapping) else {}
    if labels and isinstance(thresholds, Mapping):
        unknown = [label for label in thresholds if label not in labels]
        found += [(("student", "thresholds", label), f"label {label!r} is not in the verbalizer") for label in unknown]
    if value("label_kind") != "multi":
        if isinstance(thresholds, (int, float, Mapping)) and not isinstance(thresholds, bool) and thresholds != 0.5:
            found.append((("student", "thresholds"), "the most probable label wins; thresholds are for label_kind: multi"))
        return found
    separator = value("data", "label_separator", default="|")
    for label in labels if isinstance(separator, str) else ():
        if separator and separator in label:
            message = f"label {label!r} contains {separator!r}, which separates labels (set data.label_separator)"
            found.append((("verbalizer", "labels", label), message))
    single = "is about one label per row, and label_kind is multi"
    if _number(value("generations", "count")) > 0 or value("generations", "count") == "auto":
        found.append((("generations", "count"), f"{single} (iPET draws rows by label)"))
    if value("verbalizer", "auto") is not None:
        found.append((("verbalizer", "auto"), single))
    if value("teachers", "loss", default="cross_entropy") != "cross_entropy":
        found.append((("teachers", "loss"), f"{value('teachers', 'loss')} {single}"))
    if value("student", "divergence", default="kl") != "kl":
        found.append((("student", "divergence"), f"{value('student', 'divergence')} {single}"))
    if _number(value("demonstrations", "per_label")) > 0:
        found.append((("demonstrations", "per_label"), single))
    for section in ("teachers", "student"):
        partners = value(section, "contrastive", "partners", default="same_label")
        if partners == "same_label" and _number(value(section, "contrastive", "weight")) > 0:
            found.append(((section, "contrastive", "weight"), single))
    return found


def _value(data: Mapping[str, Any], *keys: str, default: Any = None) -> Any:
    """Return the value below ``keys``, or ``default`` where there is none."""
    holder: Any = data
    for key in keys:
        holder = holder.get(key) if isinstance(holder, Mapping) else None
    return default if holder is None else holder


def in_soft_labels(settings: Mapping[str, Any], *, multi: bool) -> Mistakes:
    """Say which ways of making and choosing soft labels are not for rows of several labels."""
    prior = settings.get("prior")
    single_label = {
        "calibration": settings.get("calibration") == "batch",
        "prior": prior in ("uniform", "train") or isinstance(prior, Mapping),
        "min_probability": _number(settings.get("min_probability")) > 0,
        "top_share": 0 < _number(settings.get("top_share")) < 1,
    }
    return [
        ((key,), "is about one label per row, and label_kind is multi") for key, used in single_label.items() if multi and used
    ]


def in_prior(prior: Any, labels: Sequence[str]) -> Mistakes:
    """Say where the shares of a class prior (``soft_labels.prior``) do not fit the labels; places are inside ``soft_labels``."""
    if not isinstance(prior, Mapping):
        return []
    known = set(labels)
    found: Mistakes = [(("prior", label), f"label {label!r} is not in the verbalizer") for label in prior if label not in known]
    missing = [label for label in labels if label not in prior]
    if missing:
        found.append((("prior",), f"has no share for: {listed(missing)}"))
    if not any(map(_number, prior.values())):
        found.append((("prior",), "its shares sum to 0"))
    return found


def _number(value: Any) -> float:
    """Return a number as it is, and 0 for what is none (the schema reports that)."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def in_labels(labels: Mapping[str, Any], *, automatic: bool = False) -> Mistakes:
    """Say where labels share words or have none."""
    found: Mistakes = []
    if automatic or not labels:
        return found
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
    """Say whether a seed is named twice."""
    if len(set(map(repr, seeds))) == len(seeds):
        return []
    return [(("seeds",), "the same seed twice would train the same teacher twice")]
