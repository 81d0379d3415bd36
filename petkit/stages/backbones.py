"""The models a pipeline names: that they can be had, and can do what is asked of them, is seen before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.lm.adapters import attach
from petkit.lm.arithmetic import find_device
from petkit.lm.backbone import (
    EMBEDDED,
    check_classifier,
    check_language_model,
    load_config,
    load_language_model,
    load_tokenizer,
    longest_input,
    new_classifier,
    shown_name,
)
from petkit.lm.four_bit import obstacle
from petkit.lm.trial import check_reading
from petkit.spec.loader import Pipeline
from petkit.task.tokenization import PieceTokenizer


def backbone_of(
    section: Literal["teachers", "student"], pipeline: Pipeline, labels: Sequence[str], problems: list[Problem]
) -> tuple[PieceTokenizer, int] | None:
    """Return the tokenizer of the teachers' or the student's model, and how many tokens a row may have.

    Args:
        problems: takes what is wrong with the model; where nothing can be done with it, None is returned.
    """
    spec = pipeline.spec
    teaches = section == "teachers"
    name, place = (spec.model, ("model",)) if teaches else (spec.student_model, ("student", "model"))
    trained = spec.teachers if teaches else spec.student
    try:
        config = load_config(name)
        if teaches:
            check_language_model(config, name)
        else:
            check_classifier(config, name)
        tokenizer = load_tokenizer(name, needs_mask=teaches)
        # A missing head and damaged weights show only when weights meet architecture, and so do adapters.
        model, head = None, list[str]()
        if teaches and (name != EMBEDDED or trained.adapted):
            model = load_language_model(name)
            if name != EMBEDDED:
                check_reading(model, shown_name(name))
        elif not teaches and (name not in (EMBEDDED, spec.model) or trained.adapted):
            model, head = new_classifier(name, labels)
    except ModelRefused as error:
        problems.append(pipeline.problem(place, str(error)))
        return None
    limit = longest_input(config, tokenizer) - trained.virtual_tokens
    if limit < trained.virtual_tokens:
        message = f"{trained.virtual_tokens} virtual tokens leave {max(0, limit)} of {tokenizer.name}'s for the text"
        problems.append(pipeline.problem((section, "adapter", "tokens"), message, "use fewer"))
        return None
    if model is not None and trained.adapted is not None:
        try:
            attach(model, trained.adapted, head=head)
        except ModelRefused as error:
            problems.append(pipeline.problem((section, "adapter"), str(error)))
    if spec.max_length > limit and "max_length" in spec.model_fields_set:
        beside = f" beside {trained.virtual_tokens} virtual ones" if trained.virtual_tokens else ""
        message = f"{spec.max_length} tokens are more than {tokenizer.name} can read{beside} ({limit})"
        problems.append(pipeline.problem(("max_length",), message))
    return tokenizer, min(spec.max_length, limit)


def without_four_bits(pipeline: Pipeline) -> list[Problem]:
    """Say where layers in 4 bits are asked for and cannot be had."""
    asked = [section for section in ("teachers", "student") if getattr(pipeline.spec, section).adapter.kind == "qlora"]
    if not asked:
        return []
    try:
        refused = obstacle(find_device(pipeline.spec.compute))
    except InvalidInput as error:
        return list(error.problems)
    return [] if refused is None else [pipeline.problem((section, "adapter"), *refused) for section in asked]
