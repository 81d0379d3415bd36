"""The models a pipeline names: that they can be had, and can do what is asked of them, is seen before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from petkit.config.loader import Pipeline
from petkit.config.pattern_syntax import Soft
from petkit.config.schema import PatternSpec
from petkit.engine.device import find_device
from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.models.adapters.attach import attach
from petkit.models.adapters.four_bit import obstacle
from petkit.models.loading import (
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
from petkit.models.safety.probe import check_reading
from petkit.prompts.pattern import Pattern
from petkit.prompts.tokenizer import PieceTokenizer

# The least length a pipeline can ask for (``max_length``).
_LEAST_ROOM = 8


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
        virtual = trained.virtual_tokens
        if teaches and trained.adapter.kind == "p_tuning_v1" and all(map(_has_soft_tokens, spec.patterns)):
            virtual = 0  # it makes those in the patterns, and nothing stands before the row
        asked_at, positions = (section, "adapter", "tokens"), longest_input(config, tokenizer)
        length = length_of_rows(pipeline, positions, tokenizer, virtual, asked_at, problems)
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
    # Where the text has no room, nobody knows whether that many virtual tokens fit into memory.
    if model is not None and trained.adapted is not None and length is not None:
        try:
            attach(model, trained.adapted, head=head)
        except ModelRefused as error:
            problems.append(pipeline.problem((section, "adapter"), str(error)))
    return None if length is None else (tokenizer, length)


def length_of_rows(
    pipeline: Pipeline,
    positions: int,
    tokenizer: PieceTokenizer,
    virtual_tokens: int,
    asked_at: tuple[str, ...],
    problems: list[Problem],
) -> int | None:
    """Return how many tokens a row may have; None where virtual tokens leave too few.

    Args:
        positions: how many tokens the model can read.
        virtual_tokens: those that will stand before every row.
        asked_at: where they are asked for.
        problems: takes what is wrong with that, or with the pipeline's ``max_length``.
    """
    limit, wanted = positions - virtual_tokens, pipeline.spec.max_length
    if virtual_tokens and limit < _LEAST_ROOM:
        message = f"{virtual_tokens} virtual tokens leave {max(0, limit)} of the {positions} that {tokenizer.name} reads"
        problems.append(pipeline.problem(asked_at, message, "use fewer"))
        return None
    if wanted > limit and "max_length" in pipeline.spec.model_fields_set:
        beside = f" beside {virtual_tokens} virtual ones" if virtual_tokens else ""
        message = f"{wanted} tokens are more than {tokenizer.name} can read{beside} ({limit})"
        problems.append(pipeline.problem(("max_length",), message))
    return min(wanted, limit)


def _has_soft_tokens(spec: PatternSpec) -> bool:
    return any(isinstance(part, Soft) for segment in Pattern.from_spec(spec).segments for part in segment)


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
