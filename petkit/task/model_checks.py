"""Checks of the models that a pipeline names: each can be loaded and does what the settings require."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from petkit.config.loader import Pipeline
from petkit.config.pattern_syntax import Soft
from petkit.config.schema.pipeline import PatternSpec
from petkit.engine.device import find_device
from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.models import loading
from petkit.models.adapters.attach import attach
from petkit.models.adapters.four_bit import obstacle
from petkit.models.freezing import freeze_lower, layer_count
from petkit.models.hub import at_commit, split_revision
from petkit.models.safety.probe import check_reading
from petkit.prompts.pattern import Pattern
from petkit.prompts.pvp import PVP
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.runs.store import RunStore

# A model's tokenizer and how many tokens a row may have.
Backbone: TypeAlias = tuple[PieceTokenizer, int]
# The smallest max_length a pipeline can set.
_LEAST_ROOM = 8


def at_commits(pipeline: Pipeline, store: RunStore) -> Pipeline:
    """Return the pipeline with its hub models at the commits that the run recorded for them, and others at their present ones."""
    spec, recorded = pipeline.spec, store.manifest().get("revisions")
    known = dict(recorded) if isinstance(recorded, Mapping) else {}
    names = {spec.model, spec.student_model} - {loading.EMBEDDED}
    read = {name: at_commit(name, known) for name in sorted(names)}
    pinned = {name: str(split_revision(at)[1]) for name, at in read.items() if at != name}
    if not pinned and not known:
        return pipeline
    student = spec.student.model_copy(update={"model": read.get(spec.student.model or "", spec.student.model)})
    spec = spec.model_copy(update={"model": read.get(spec.model, spec.model), "student": student})
    return replace(pipeline, spec=spec, revisions={**known, **pinned})


def backbones_of(pipeline: Pipeline, labels: Sequence[str]) -> tuple[Backbone | None, Backbone | None, list[Problem]]:
    """Return the teachers' and the student's model (None: unusable), and the problems."""
    teacher, problems = _backbone("teachers", pipeline, labels)
    student, student_problems = _backbone("student", pipeline, labels)
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


def with_learning_rate(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with a number for the student's ``learning_rate: auto``, which depends on its model."""
    spec, config = pipeline.spec, loading.load_config(pipeline.spec.student_model)
    student = spec.student.for_width(config.get_text_config().hidden_size)
    return replace(pipeline, spec=spec.model_copy(update={"student": student}))


def _backbone(section: str, pipeline: Pipeline, labels: Sequence[str]) -> tuple[Backbone | None, list[Problem]]:
    spec, teaches = pipeline.spec, section == "teachers"
    trained = spec.teachers if teaches else spec.student
    name, place = (spec.model, ("model",)) if teaches else (spec.student_model, ("student", "model"))
    chooses = spec.verbalizer.candidates is not None
    check = loading.check_language_model if teaches else partial(loading.check_classifier, chooses=chooses)
    problems: list[Problem] = []
    try:
        config = loading.load_config(name)
        check(config, name)
        tokenizer = loading.load_tokenizer(name, needs_mask=teaches)
        virtual = getattr(trained.adapter, "tokens", 0)
        if teaches and trained.adapter.kind == "p_tuning_v1" and all(map(_has_soft_tokens, spec.patterns)):
            virtual = 0  # they are in the patterns, not before the row
        length, problems = length_of_rows(pipeline, config, tokenizer, virtual, (section, "adapter", "tokens"))
        if type(trained.freeze) is int and trained.freeze > (layers := layer_count(config)):
            message = f"{trained.freeze} layers are more than {tokenizer.name} has ({layers})"
            problems.append(pipeline.problem((section, "freeze"), message, "use half"))
        # A missing head, damaged weights and unsuited adapters show only when the model is built.
        model, head = None, list[str]()
        if teaches:
            loading.scoring_by(name, spec.teachers.scoring)
        if teaches and (name != loading.EMBEDDED or trained.adapted):
            model = loading.load_language_model(name, scoring=spec.teachers.scoring)
            if name != loading.EMBEDDED:
                check_reading(model, loading.shown_name(name))
        elif not teaches and (name not in (loading.EMBEDDED, spec.model) or trained.adapted):
            model, head = loading.new_classifier(name, None if chooses else labels)
        if model is not None:
            freeze_lower(model, trained.freeze)
            if name == spec.student_model:
                freeze_lower(model, spec.student.freeze)  # it is not built for the student again
    except ModelRefused as error:
        return None, [*problems, pipeline.problem(place, str(error))]
    # Where the text has no room, so many virtual tokens may not even fit into memory.
    if model is not None and trained.adapted is not None and length:
        try:
            attach(model, trained.adapted, head=head)
        except ModelRefused as error:
            problems.append(pipeline.problem((section, "adapter"), str(error)))
    return (tokenizer, length) if length else None, problems


def length_of_rows(
    pipeline: Pipeline, config: Any, tokenizer: PieceTokenizer, virtual_tokens: int, tokens_at: tuple[str, ...]
) -> tuple[int, list[Problem]]:
    """Return how many tokens a row may have, 0 where the virtual ones before it leave too few, and the problems."""
    positions = loading.longest_input(config, tokenizer)
    limit, wanted = positions - virtual_tokens, pipeline.spec.max_length
    if virtual_tokens and limit < _LEAST_ROOM:
        message = f"{virtual_tokens} virtual tokens leave {max(0, limit)} of the {positions} that {tokenizer.name} reads"
        return 0, [pipeline.problem(tokens_at, message, "use fewer")]
    if wanted <= limit or "max_length" not in pipeline.spec.model_fields_set:
        return min(wanted, limit), []
    added = f" in addition to {virtual_tokens} virtual ones" if virtual_tokens else ""
    message = f"{wanted} tokens are more than {tokenizer.name} can read{added} ({limit})"
    return limit, [pipeline.problem(("max_length",), message)]


def teacher_setting_problems(pipeline: Pipeline, tokenizer: PieceTokenizer, pvps: Sequence[PVP]) -> list[Problem]:
    """Return the settings of the teachers that do not suit their causal, or masked, model, the patterns or the verbalizer."""
    spec, teachers, causal, name = pipeline.spec, pipeline.spec.teachers, tokenizer.causal, tokenizer.name
    masks = f"needs a masked language model, and {name} is a causal one"
    for_causal = f"next_token is for causal models, and {name} is a masked one"
    encoder = f"setfit needs an encoder, and {name} is a causal model"
    kind = ("teachers", "consistency", "kind")
    second_pattern, hides_words = (teachers.consistency.kind == way for way in ("second_pattern", "word_masking"))
    masked_view = teachers.contrastive.weight > 0 and teachers.contrastive.partners == "masked_view"
    soft = next((pvp.id for pvp in pvps if pvp.pattern.soft_tokens), "")
    shares = f"second_pattern shares one model between patterns, and pattern {soft!r} has soft tokens"
    of_vectors = [index for index, pvp in enumerate(pvps) if pvp.verbalizer.kind != "words"]
    vectors = pvps[of_vectors[0]].verbalizer.kind if of_vectors else ""
    vectors_at = (*spec.verbalizer_place(of_vectors[0] if of_vectors else 0), "kind")
    for_words = f"{teachers.loss} needs words, and verbalizer.kind is {vectors}"
    needs_words = teachers.loss in ("decoupled_label", "next_token")
    judges = loading.scoring_by(spec.model, teachers.scoring) == "replaced_token"
    no_mask = f"needs a masked-LM head, and {name} is a discriminator"
    surest_first = [index for index, pvp in enumerate(pvps) if pvp.verbalizer.decoding == "max_first"]
    decoding = (*spec.verbalizer_place(surest_first[0] if surest_first else 0), "decoding")
    rules = (
        (not causal and teachers.loss == "next_token", ("teachers", "loss"), for_causal, "use cross_entropy"),
        (causal and teachers.auxiliary_mlm_weight > 0, ("teachers", "auxiliary_mlm_weight"), masks, "set it to 0"),
        (causal and teachers.label_conditioning_weight > 0, ("teachers", "label_conditioning_weight"), masks, "set it to 0"),
        (causal and hides_words, kind, f"word_masking {masks}", "use second_pattern"),
        (causal and masked_view, ("teachers", "contrastive", "partners"), f"masked_view {masks}", "use same_label"),
        (causal and bool(surest_first), decoding, f"max_first {masks}", "use parallel"),
        (judges and teachers.auxiliary_mlm_weight > 0, ("teachers", "auxiliary_mlm_weight"), no_mask, "set it to 0"),
        (judges and teachers.label_conditioning_weight > 0, ("teachers", "label_conditioning_weight"), no_mask, "set it to 0"),
        (judges and teachers.loss == "decoupled_label", ("teachers", "loss"), f"decoupled_label {no_mask}", "use cross_entropy"),
        (judges and bool(vectors), vectors_at, f"{vectors} {no_mask}", "use words"),
        (judges and spec.verbalizer.auto is not None, ("verbalizer", "auto"), no_mask, "name the words"),
        (judges and spec.verbalizer.candidates is not None, ("model",), f"{no_mask} to read candidates", ""),
        (judges and bool(surest_first), decoding, f"max_first {no_mask}", "use parallel"),
        (causal and "setfit" in spec.baselines, ("baselines",), encoder, "leave it out"),
        (second_pattern and bool(soft), kind, shares, "use word_masking"),
        (second_pattern and spec.keep_patterns == 1, kind, "second_pattern needs two patterns, and keep_patterns leaves one", ""),
        (
            second_pattern and len({pvp.verbalizer.kind for pvp in pvps}) > 1,
            kind,
            "second_pattern needs verbalizers of one kind",
            "",
        ),
        (needs_words and bool(vectors), ("teachers", "loss"), for_words, ""),
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
