"""Checks of the models that a pipeline names: each can be loaded and does what the settings require."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from petkit.config.loader import Pipeline
from petkit.config.pattern_syntax import Soft
from petkit.config.schema.pipeline import PatternSpec
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

# The smallest max_length a pipeline can set.
_LEAST_ROOM = 8


def backbones_of(
    pipeline: Pipeline, labels: Sequence[str]
) -> tuple[tuple[PieceTokenizer, int] | None, tuple[PieceTokenizer, int] | None, list[Problem]]:
    """Return tokenizer and row length of the teachers' and of the student's model (None: unusable), and the problems."""
    problems: list[Problem] = []
    student_problems: list[Problem] = []
    teacher = _backbone("teachers", pipeline, labels, problems)
    student = _backbone("student", pipeline, labels, student_problems)
    same = pipeline.spec.student_model == pipeline.spec.model
    if teacher is not None and student is not None and same:
        student = (teacher[0], student[1])
    if teacher is not None or not same:  # one line for one model
        problems += student_problems
    contrastive = pipeline.spec.student.contrastive
    hides = pipeline.spec.student.consistency_weight or (contrastive.weight and contrastive.partners == "masked_view")
    if student is not None and hides and student[0].hf.mask_token_id is None:
        message = f"hides tokens behind a mask, and {student[0].name} has none"
        problems.append(pipeline.problem(("student", "consistency_weight"), message))
    return teacher, student, problems


def _backbone(
    section: Literal["teachers", "student"], pipeline: Pipeline, labels: Sequence[str], problems: list[Problem]
) -> tuple[PieceTokenizer, int] | None:
    """Return the tokenizer of the teachers' or the student's model and the row length; None where it cannot be used."""
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
            virtual = 0  # they are in the patterns, not before the row
        tokens_at, positions = (section, "adapter", "tokens"), longest_input(config, tokenizer)
        length = length_of_rows(pipeline, positions, tokenizer, virtual, tokens_at, problems)
        # A missing head, damaged weights and unsuited adapters show only when the model is built.
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
    # Where the text has no room, so many virtual tokens may not even fit into memory.
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
    tokens_at: tuple[str, ...],
    problems: list[Problem],
) -> int | None:
    """Return how many tokens a row may have; None where virtual tokens leave too few.

    Args:
        positions: how many tokens the model can read.
        virtual_tokens: number of trained tokens before every row.
        tokens_at: the setting that gives their number.
        problems: gets the problems found.
    """
    limit, wanted = positions - virtual_tokens, pipeline.spec.max_length
    if virtual_tokens and limit < _LEAST_ROOM:
        message = f"{virtual_tokens} virtual tokens leave {max(0, limit)} of the {positions} that {tokenizer.name} reads"
        problems.append(pipeline.problem(tokens_at, message, "use fewer"))
        return None
    if wanted > limit and "max_length" in pipeline.spec.model_fields_set:
        besides = f" in addition to {virtual_tokens} virtual ones" if virtual_tokens else ""
        message = f"{wanted} tokens are more than {tokenizer.name} can read{besides} ({limit})"
        problems.append(pipeline.problem(("max_length",), message))
    return min(wanted, limit)


def model_kind_problems(pipeline: Pipeline, tokenizer: PieceTokenizer) -> list[Problem]:
    """Return the settings that do not suit a causal, or a masked, language model.

    Args:
        tokenizer: of the teachers' model.
    """
    spec, teachers = pipeline.spec, pipeline.spec.teachers
    if not tokenizer.causal:
        if teachers.loss != "next_token":
            return []
        message = f"next_token is for causal models, and {tokenizer.name} is a masked one"
        return [pipeline.problem(("teachers", "loss"), message, "use cross_entropy")]
    masks = f"needs a masked language model, and {tokenizer.name} is a causal one"
    word_masking = teachers.consistency.kind == "word_masking"
    masked_view = bool(teachers.contrastive.weight) and teachers.contrastive.partners == "masked_view"
    rules = (
        (teachers.auxiliary_mlm_weight > 0, ("teachers", "auxiliary_mlm_weight"), masks, "set it to 0"),
        (teachers.label_conditioning_weight > 0, ("teachers", "label_conditioning_weight"), masks, "set it to 0"),
        (word_masking, ("teachers", "consistency", "kind"), f"word_masking {masks}", "use second_pattern"),
        (masked_view, ("teachers", "contrastive", "partners"), f"masked_view {masks}", "use same_label"),
        (spec.verbalizer.decoding == "max_first", ("verbalizer", "decoding"), f"max_first {masks}", "use parallel"),
        (
            "setfit" in spec.baselines,
            ("baselines",),
            f"setfit needs an encoder, and {tokenizer.name} is a causal model",
            "leave it out",
        ),
    )
    return [pipeline.problem(place, message, hint) for applies, place, message, hint in rules if applies]


def _has_soft_tokens(spec: PatternSpec) -> bool:
    return any(isinstance(part, Soft) for segment in Pattern.from_spec(spec).segments for part in segment)


def four_bit_problems(pipeline: Pipeline) -> list[Problem]:
    """Return where 4-bit layers are configured and not available."""
    sections = [section for section in ("teachers", "student") if getattr(pipeline.spec, section).adapter.kind == "qlora"]
    if not sections:
        return []
    try:
        refused = obstacle(find_device(pipeline.spec.compute))
    except InvalidInput as error:
        return list(error.problems)
    return [] if refused is None else [pipeline.problem((section, "adapter"), *refused) for section in sections]
