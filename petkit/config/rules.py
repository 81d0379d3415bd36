"""Rules that need more than one value: what a valid number, text or list cannot show on its own.

Every rule takes a section as written, passes over values of a wrong type (the schema reports those) and returns where in it
something is wrong, and what. The sections of the schema check their own; the loader applies all of them to a whole file,
because pydantic skips those of a section that has a wrong value. How much of everything a file may hold
(:mod:`petkit.config.caps`) is looked at before its values are, which then need not fear their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from petkit.config.candidate_rules import in_candidates, without_fixed_labels
from petkit.config.mistakes import Mistakes, Place, below, number, value_of
from petkit.config.pattern_syntax import parse_pattern
from petkit.config.registry import LOSS_NAMES
from petkit.errors import did_you_mean, listed

_SINGLE = "is about one label per row, and label_kind is multi"
CLASS_WEIGHTS: tuple[tuple[str, str], ...] = (("teachers", "class_weights"), ("student", "class_weights"))
_ADVISED = 5  # unknown labels
LONGEST_NUMBER = 20  # digits of a class number; Python refuses to read thousands of them


def inside_own_verbalizer(place: Place) -> Place:
    """Return a place inside a pattern's own verbalizer as if that were the pipeline's; the empty place for any other."""
    return place[2:] if place[:1] == ("patterns",) and place[2:3] == ("verbalizer",) else ()


def in_pattern(pattern: Mapping[str, Any]) -> Mistakes:
    """Return what is wrong with a pattern's text, and with a verbalizer of its own."""
    name, text, own = pattern.get("id"), pattern.get("text"), pattern.get("verbalizer")
    found: Mistakes = []
    if isinstance(own, Mapping):
        found += below(("verbalizer",), in_verbalizer(own))
        shared = {"auto": "words are found for the pipeline's verbalizer", "descriptions": "belong to the pipeline's verbalizer"}
        shared["candidates"] = "are the pipeline's, and every pattern answers with them"
        found += [(("verbalizer", key), f"{why} (leave it out here)") for key, why in shared.items() if own.get(key)]
    segments = (text,) if isinstance(text, str) else text
    if not isinstance(segments, (tuple, list)) or not all(isinstance(segment, str) for segment in segments):
        return found
    named = f"pattern {name!r}" if isinstance(name, str) else "pattern without an id"
    return [*found, *((("text",), f"{named}: {problem}") for problem in parse_pattern(tuple(segments))[1])]


def in_verbalizer(verbalizer: Mapping[str, Any]) -> Mistakes:
    """Return which ways of naming label words exclude each other, and which labels share words or have none."""
    labels, automatic = verbalizer.get("labels"), verbalizer.get("auto") is not None
    multi_token = verbalizer.get("multi_token") is True
    if verbalizer.get("candidates") is not None:
        return in_candidates(verbalizer)
    found: Mistakes = []
    if not labels and not automatic:
        found.append((("labels",), "names no labels (write each label with its words, or auto to have words found)"))
    if automatic and isinstance(labels, Mapping) and any(labels.values()):
        found.append((("auto",), "words are named already; auto would find others (remove the words or auto)"))
    if automatic and multi_token:
        found.append((("multi_token",), "auto finds words of one token only"))
    if multi_token and verbalizer.get("kind", "words") != "words":
        found.append((("kind",), "a label vector answers at one mask, and words of several tokens need several (choose one)"))
    if not multi_token and verbalizer.get("decoding", "parallel") != "parallel":
        found.append((("decoding",), "is for words of several tokens (set multi_token: true)"))
    found += _in_descriptions(verbalizer.get("descriptions"), labels)
    if automatic or not labels or not isinstance(labels, Mapping):
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


def _in_descriptions(descriptions: Any, labels: Any) -> Mistakes:
    """Return which labels with descriptions are unknown, and which have none."""
    if not isinstance(descriptions, Mapping):
        return []
    known = list(labels) if isinstance(labels, Mapping) else []
    found: Mistakes = []
    for label, texts in descriptions.items():
        if known and label not in known:
            message = f"label {label!r} is not in the verbalizer{_advice(len(found), label, known)}"
            found.append((("descriptions", label), message))
        elif isinstance(texts, (tuple, list)) and not texts:
            found.append((("descriptions", label), f"label {label!r} has no descriptions (write some, or leave it out)"))
    return found


def in_training(settings: Mapping[str, Any]) -> Mistakes:
    """Return which objectives cannot work with the other settings of teachers or of a student, and a seed that is named twice."""
    loss, seeds = settings.get("loss", "cross_entropy"), settings.get("seeds")
    r_drop = number(settings.get("r_drop_weight")) > 0
    changed = _cross_entropy_changes(settings)
    found: Mistakes = []
    if settings.get("class_weights") == {}:
        found.append((("class_weights",), "names no label (write label: weight, or none)"))
    if r_drop and number(settings.get("dropout")) == 0:
        found.append((("r_drop_weight",), "compares two dropout passes, and dropout is 0 (set dropout: 0.1)"))
    if loss != "cross_entropy" and loss in LOSS_NAMES:
        found += [((key,), f"changes the cross-entropy, and loss is {loss}") for key in changed]
    if loss == "next_token":
        compared = {
            ("r_drop_weight",): r_drop,
            ("consistency", "kind"): value_of(settings, "consistency", "kind", default="none") != "none",
            ("contrastive", "weight"): number(value_of(settings, "contrastive", "weight")) > 0,
        }
        found += [(key, "compares answers of all labels, and loss is next_token") for key, given in compared.items() if given]
    targets, scaled = value_of(settings, "adapter", "target_modules"), value_of(settings, "adapter", "feedforward_modules")
    if isinstance(targets, (tuple, list)) and isinstance(scaled, (tuple, list)):  # what auto means depends on the model
        strange = [end for end in scaled if isinstance(end, str) and end not in targets]
        place = ("adapter", "feedforward_modules")
        found += [(place, f"{end} is none of target_modules (name it there too)") for end in strange]
    if isinstance(seeds, (tuple, list)) and len(set(map(repr, seeds))) < len(seeds):
        found.append((("seeds",), "the same seed twice would train the same teacher twice"))
    return found


def _cross_entropy_changes(settings: Mapping[str, Any]) -> list[str]:
    """Return the keys that make the cross-entropy another loss."""
    changed = [key for key in ("label_smoothing", "focal_gamma") if number(settings.get(key)) > 0]
    weights = settings.get("class_weights")
    return changed + (["class_weights"] if weights == "balanced" or (isinstance(weights, Mapping) and weights) else [])


def in_student(settings: Mapping[str, Any]) -> Mistakes:
    """Return what cannot work in a student's settings."""
    found, adapter = in_training(settings), settings.get("adapter", "none")
    if settings.get("hard_weight", 0) == 0:
        why = "changes the loss on labelled rows, and hard_weight is 0 (set hard_weight: 0.2)"
        found += [((key,), why) for key in _cross_entropy_changes(settings)]
    kind = adapter.get("kind") if isinstance(adapter, Mapping) else adapter
    if settings.get("keep_adapter") is True and kind == "none":
        found.append((("keep_adapter",), "there is no adapter to keep (set adapter: lora)"))
    elif settings.get("keep_adapter") is True and kind not in ("lora", "qlora", "ia3"):
        found.append((("keep_adapter",), f"only lora, qlora and ia3 are merged; with {kind} the folder is the adapter already"))
    return found


def in_question_words(words: Mapping[str, Any]) -> Mistakes:
    """Return which answers of ``pretrain_prompt`` are the same word."""
    owner: dict[str, str] = {}
    found: Mistakes = []
    for answer in ("next", "same_text", "other_text"):
        word = words.get(answer)
        if isinstance(word, str) and owner.setdefault(word.strip(), answer) != answer:
            found.append(((answer,), f"{word.strip()!r} is also the word of {owner[word.strip()]}"))
    return found


_SECTIONS = {
    ("verbalizer",): in_verbalizer,
    ("teachers",): in_training,
    ("student",): in_student,
    ("pretrain_prompt", "words"): in_question_words,
}


def in_pipeline(data: Mapping[str, Any]) -> Mistakes:
    """Return every mistake of a whole pipeline: in its sections, and where these do not go together."""
    value = partial(value_of, data)
    patterns, keep = data.get("patterns"), data.get("keep_patterns")
    patterns = patterns if isinstance(patterns, (tuple, list)) else None
    written = [(index, pattern) for index, pattern in enumerate(patterns or ()) if isinstance(pattern, Mapping)]
    found = [mistake for index, pattern in written for mistake in below(("patterns", index), in_pattern(pattern))]
    owner: dict[str, int] = {}
    for index, pattern in written:
        name = pattern.get("id")
        if isinstance(name, str) and owner.setdefault(name, index) != index:
            found.append((("patterns", index, "id"), f"pattern id {name!r} is used twice"))
    for place, rule in _SECTIONS.items():
        if isinstance(section := value(*place), Mapping):
            found += below(place, rule(section))
    for index, pattern in written:
        if isinstance(pattern.get("verbalizer"), Mapping):
            found += below(("patterns", index, "verbalizer"), _in_own_verbalizer(pattern["verbalizer"], value("verbalizer")))
    if isinstance(data.get("data"), Mapping) and value("data", "train") is None:
        found += _without_labelled_rows(data)
    found += _in_label_kind(data)
    if value("verbalizer", "candidates") is not None:
        found += without_fixed_labels(data)
    labels = value("verbalizer", "labels")
    found += _in_class_numbers(value("data", "label_names"), labels if isinstance(labels, Mapping) else {})
    if isinstance(labels, Mapping) and value("verbalizer", "auto") is None:
        found += below(("soft_labels",), in_prior(value("soft_labels", "prior"), list(labels)))
    if patterns is not None and isinstance(keep, int) and keep > len(patterns):
        found.append((("keep_patterns",), f"keeps {keep} of {len(patterns)} patterns (say all, or a smaller number)"))
    if patterns is not None and len(patterns) < 2 and value("teachers", "consistency", "kind") == "second_pattern":
        found.append((("teachers", "consistency", "kind"), "second_pattern needs two patterns"))
    return found


def _in_own_verbalizer(own: Mapping[str, Any], shared: Any) -> Mistakes:
    """Return where a pattern's verbalizer is not about the labels of the pipeline's; places are inside it."""
    if value_of({"verbalizer": shared}, "verbalizer", "auto") is not None:
        return [((), "the pipeline's verbalizer has words found for every pattern (remove verbalizer.auto, or this one)")]
    labels, others = own.get("labels"), value_of({"verbalizer": shared}, "verbalizer", "labels")
    if not isinstance(labels, Mapping) or not isinstance(others, Mapping) or not labels or not others:
        return []
    unknown = [label for label in labels if label not in others]
    found: Mistakes = [
        (("labels", label), f"label {label!r} is not in the pipeline's verbalizer{_advice(number, label, list(others))}")
        for number, label in enumerate(unknown)
    ]
    if missing := [label for label in others if label not in labels]:
        found.append((("labels",), f"has no words for {listed(missing)}, which the pipeline's verbalizer has"))
    return found


def _in_class_numbers(names: Any, labels: Iterable[str]) -> Mistakes:
    """Return which labels are called by the class number of another label: in the data such a number means that one."""
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        return []
    numbers = {name: int(name) for name in (*names, *labels) if name.isdecimal() and len(name) < LONGEST_NUMBER}
    return [
        (
            ("data", "label_names"),
            f"label {name!r} is also the class number of {names[number]!r} (name the labels in words, or leave label_names out)",
        )
        for name, number in numbers.items()
        if number < len(names) and names[number] != name
    ]


def _without_labelled_rows(data: Mapping[str, Any]) -> Mistakes:
    value = partial(value_of, data)
    needs_rows = "needs labelled rows, and data.train names none"
    found: Mistakes = [(("verbalizer", "auto"), needs_rows)] if value("verbalizer", "auto") is not None else []
    labels, descriptions = value("verbalizer", "labels"), value("verbalizer", "descriptions")
    if isinstance(labels, Mapping) and isinstance(descriptions, Mapping) and descriptions:
        missing = [label for label in labels if label not in descriptions]
        message = f"has none for {listed(missing)}; teachers learn from nothing else where data.train names no labelled rows"
        message += " (write some, or descriptions: {} to leave the patterns untrained)"
        found += [(("verbalizer", "descriptions"), message)] if missing else []
    from_rows = {"weighting": ("train_accuracy", "out_of_fold"), "teacher_temperature": ("out_of_fold",), "prior": ("train",)}
    chosen = {key: value("soft_labels", key) for key, choices in from_rows.items() if value("soft_labels", key) in choices}
    found += [(("soft_labels", key), f"{choice} {needs_rows}") for key, choice in chosen.items()]
    if number(value("demonstrations", "per_label")) > 0:
        found.append((("demonstrations", "per_label"), needs_rows))
    baselines = value("baselines")
    trained = [name for name in baselines if name != "zero_shot"] if isinstance(baselines, (tuple, list)) else []
    return found + [(("baselines",), f"{name} {needs_rows}") for name in trained]


def _in_label_kind(data: Mapping[str, Any]) -> Mistakes:
    """Return what does not go with one label per row, or with several."""
    value = partial(value_of, data)
    found: Mistakes = []
    labels, thresholds = value("verbalizer", "labels"), value("student", "thresholds")
    labels = labels if isinstance(labels, Mapping) else {}
    for place in (("student", "thresholds"), *CLASS_WEIGHTS) if labels else ():
        found += below(place, unknown_labels(value(*place), list(labels)))
    if value("label_kind") != "multi":
        if isinstance(thresholds, (int, float, Mapping)) and not isinstance(thresholds, bool) and thresholds != 0.5:
            found.append((("student", "thresholds"), "the most probable label wins; thresholds are for label_kind: multi"))
        return found
    separator = value("data", "label_separator", default="|")
    for label in labels if separator and isinstance(separator, str) else ():
        if separator in label:
            message = f"label {label!r} contains {separator!r}, which separates labels (set data.label_separator)"
            found.append((("verbalizer", "labels", label), message))
    count, prior = value("generations", "count"), value("soft_labels", "prior")
    loss = value("teachers", "loss", default="cross_entropy")
    used: dict[Place, tuple[bool, str]] = {
        ("generations", "count"): (number(count) > 0 or count == "auto", f"{_SINGLE} (iPET draws rows by label)"),
        ("verbalizer", "auto"): (value("verbalizer", "auto") is not None, _SINGLE),
        ("teachers", "loss"): (loss != "cross_entropy", f"{loss} {_SINGLE}"),
        ("demonstrations", "per_label"): (number(value("demonstrations", "per_label")) > 0, _SINGLE),
        ("soft_labels", "calibration"): (value("soft_labels", "calibration") == "batch", _SINGLE),
        ("soft_labels", "prior"): (prior in ("uniform", "train") or isinstance(prior, Mapping), _SINGLE),
        ("soft_labels", "min_probability"): (number(value("soft_labels", "min_probability")) > 0, _SINGLE),
        ("soft_labels", "top_share"): (0 < number(value("soft_labels", "top_share")) < 1, _SINGLE),
    }
    return found + [(place, message) for place, (applies, message) in used.items() if applies]


def unknown_labels(by_label: Any, labels: Sequence[str], where: str = "in the verbalizer") -> Mistakes:
    """Return the keys of a mapping from labels to values that are no labels; places are inside the mapping.

    ``where`` says where the labels come from.
    """
    known = set(labels)
    unknown = [label for label in by_label if label not in known] if isinstance(by_label, Mapping) else []
    return [((label,), f"label {label!r} is not {where}{_advice(number, label, labels)}") for number, label in enumerate(unknown)]


def _advice(number: int, word: str, known: Sequence[str]) -> str:
    """Return a hint for the ``number``-th unknown word; a search for near ones for each of a thousand would take too long."""
    return f" ({did_you_mean(word, known)})" if number < _ADVISED else ""


def in_prior(prior: Any, labels: Sequence[str], where: str = "in the verbalizer") -> Mistakes:
    """Return where the shares of a class prior (``soft_labels.prior``) do not fit the labels; places are inside ``soft_labels``."""
    if not isinstance(prior, Mapping):
        return []
    found = below(("prior",), unknown_labels(prior, labels, where))
    if missing := [label for label in labels if label not in prior]:
        found.append((("prior",), f"has no share for: {listed(missing)}"))
    if not any(map(number, prior.values())):
        found.append((("prior",), "its shares sum to 0"))
    return found
