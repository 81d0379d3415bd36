"""What a causal model cannot be asked for, and what only it can: rules that need to know which kind the model is."""

from __future__ import annotations

from petkit.config.loader import Pipeline
from petkit.errors import Problem
from petkit.prompts.tokenizer import PieceTokenizer


def refused_of(pipeline: Pipeline, tokenizer: PieceTokenizer) -> list[Problem]:
    """Say which settings of a pipeline do not go with its model.

    Args:
        tokenizer: of the teachers' model.
    """
    spec = pipeline.spec
    teachers = spec.teachers
    if not tokenizer.causal:
        if teachers.loss != "next_token":
            return []
        message = f"next_token is for causal models, and {tokenizer.name} is a masked one"
        return [pipeline.problem(("teachers", "loss"), message, "use cross_entropy")]
    found: list[Problem] = []
    masks = f"needs a masked language model, and {tokenizer.name} is a causal one"
    for key, weight in (
        ("auxiliary_mlm_weight", teachers.auxiliary_mlm_weight),
        ("label_conditioning_weight", teachers.label_conditioning_weight),
    ):
        found += [pipeline.problem(("teachers", key), masks, "set it to 0")] if weight else []
    if teachers.consistency.kind == "word_masking":
        message = f"word_masking {masks}"
        found.append(pipeline.problem(("teachers", "consistency", "kind"), message, "use second_pattern"))
    if teachers.contrastive.weight and teachers.contrastive.partners == "masked_view":
        message = f"masked_view {masks}"
        found.append(pipeline.problem(("teachers", "contrastive", "partners"), message, "use same_label"))
    if spec.verbalizer.decoding == "max_first":
        message = f"max_first {masks}"
        found.append(pipeline.problem(("verbalizer", "decoding"), message, "use parallel"))
    if "setfit" in spec.baselines:
        message = f"setfit needs an encoder, and {tokenizer.name} is a causal model"
        found.append(pipeline.problem(("baselines",), message, "leave it out"))
    return found
