"""A setting that can change nothing is refused where it differs from its default, which ``config.resolved.yaml`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from petkit.config.loader import dump_spec, load_pipeline
from petkit.config.schema import adapter, pipeline, training
from petkit.config.schema.adapter import DeepPrefixSpec
from petkit.config.schema.pipeline import PipelineSpec
from petkit.config.schema.section import Counts, Section
from petkit.errors import InvalidInput
from tests.cli import project

# A setting without effect, why it has none, and what gives it one.
IDLE: list[tuple[str, str, str]] = [
    ("teachers.consistency.weight=2", "kind is none", "teachers.consistency.kind=word_masking"),
    ("teachers.consistency.masked_share=0.5", "kind is not word_masking", "teachers.consistency.kind=word_masking"),
    ("teachers.contrastive.partners=masked_view", "weight is 0", "teachers.contrastive.weight=1"),
    ("teachers.contrastive.temperature=0.5", "weight is 0", "teachers.contrastive.weight=1"),
    ("student.contrastive.temperature=0.5", "weight is 0", "student.contrastive.weight=1"),
    (
        "student.contrastive.masked_share=0.5",
        "weight is 0, or partners is not masked_view",
        "student.contrastive={weight: 1, partners: masked_view}",
    ),
    ("teachers.unlabeled_batch_size=3", "auxiliary_mlm_weight is 0", "teachers.auxiliary_mlm_weight=0.1"),
    (
        "teachers.mlm_share=0.5",
        "auxiliary_mlm_weight and label_conditioning_weight are 0",
        "teachers.label_conditioning_weight=1",
    ),
    ("teachers.adapter={kind: p_tuning_v2, projection_size: 5}", "projection is false", "teachers.adapter.projection=true"),
    (
        "teachers.new_learning_rate=0.1",
        "no pattern has soft tokens, and verbalizer.kind is words",
        "verbalizer={labels: {World: [world], Sports: [football]}, kind: soft}",
    ),
    ("teachers.freeze=half", "with an adapter the whole model is frozen", "teachers.adapter=none"),
    ("student.freeze=1", "with an adapter the whole model is frozen", "student.adapter=none"),
    ("generations.scale=3", "count is 0", "generations.count=1"),
    ("generations.teacher_share=1", "count is 0", "generations.count=auto"),
    ("generations={count: 1, per_label_from_zero: 3}", "there are labelled rows", "data.train=null"),
    ("soft_labels.folds=2", "neither weighting nor teacher_temperature is out_of_fold", "soft_labels.weighting=out_of_fold"),
    ("student.gold_batch_size=2", "hard_weight is 0", "student.hard_weight=0.1"),
    ("student.masked_share=0.5", "consistency_weight is 0", "student.consistency_weight=1"),
    ("demonstrations.max_tokens=9", "per_label is 0", "demonstrations.per_label=1"),
    ("data.label_separator=;", "label_kind is single", "label_kind=multi"),
    ("evaluation.teachers=none", "data.test names no rows to evaluate on", "data.test=test.jsonl"),
    ("pretrain_prompt.mlm_share=0.5", "objective is next_sentence", "pretrain_prompt.objective=both"),
]
OFF = {  # they have an effect by default
    "evaluation.teachers=none": "data.test=null",
    "teachers.freeze=half": "teachers.adapter=lora",
    "student.freeze=1": "student.adapter=lora",
}


@pytest.fixture
def pipeline_file(here: Path) -> Path:
    return project.write(here, here / "model")


@pytest.mark.parametrize(("override", "why", "effect"), IDLE, ids=[case[0] for case in IDLE])
def test_what_has_no_effect_is_refused_and_what_has_one_is_not(override: str, why: str, effect: str, pipeline_file: Path) -> None:
    off = [OFF[override]] if override in OFF else []
    with pytest.raises(InvalidInput) as refused:
        load_pipeline(pipeline_file, [*off, override])
    (problem,) = refused.value.problems
    key, _, value = override.partition("=")
    inner = value.strip("{}").split(", ")[-1].split(": ")[0] if value.startswith("{") else ""
    assert problem.key == (f"{key}.{inner}" if inner not in ("", "{next") else key)
    hint = "remove this option" if problem.key == key else "remove it from this option"
    assert (problem.message, problem.hint) == (f"has no effect, because {why}", hint)

    spec = load_pipeline(pipeline_file, [*off, override, effect]).spec
    Path("again.yaml").write_text(dump_spec(spec))
    assert load_pipeline("again.yaml").spec == spec


def test_every_default_is_accepted_where_it_has_no_effect(pipeline_file: Path) -> None:
    spec = load_pipeline(pipeline_file).spec
    Path("again.yaml").write_text(dump_spec(spec))
    assert load_pipeline("again.yaml").spec == spec
    assert PipelineSpec.model_validate(spec.model_dump()) == spec


def test_the_hint_can_be_followed_where_the_setting_is_in_a_file(pipeline_file: Path) -> None:
    """Such as the resolved pipeline of a run, which contains every setting, with another one changed by ``--set``."""
    spec = load_pipeline(pipeline_file, ["teachers.consistency={kind: word_masking, weight: 2}"]).spec
    Path("config.resolved.yaml").write_text(dump_spec(spec))

    with pytest.raises(InvalidInput) as refused:
        load_pipeline("config.resolved.yaml", ["teachers.consistency.kind=none"])

    (problem,) = refused.value.problems
    assert problem.file == "config.resolved.yaml"
    assert problem.message == "has no effect, because kind is none"
    assert problem.hint == "leave it out, or write its default, 1.0"
    load_pipeline("config.resolved.yaml", ["teachers.consistency.kind=none", "teachers.consistency.weight=1.0"])


def test_all_of_them_are_reported_at_once(pipeline_file: Path) -> None:
    together = [
        "teachers.unlabeled_batch_size=3", "teachers.consistency.weight=2", "generations.scale=3", "soft_labels.folds=2",
        "student.masked_share=0.5", "teachers.steps=0",
    ]  # fmt: skip
    with pytest.raises(InvalidInput) as refused:
        load_pipeline(pipeline_file, together[:-1])
    assert {problem.key for problem in refused.value.problems} == {override.partition("=")[0] for override in together[:-1]}
    with pytest.raises(InvalidInput) as refused:
        load_pipeline(pipeline_file, together)
    assert {"teachers.steps", "generations.scale", "soft_labels.folds"} <= {problem.key for problem in refused.value.problems}


def test_every_setting_that_may_have_no_effect_is_among_these() -> None:
    sections = [
        kind
        for module in (adapter, pipeline, training)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Section)
    ]
    marked = {
        name
        for kind in sections
        for name, field in kind.model_fields.items()
        if any(isinstance(mark, Counts) and mark.otherwise for mark in field.metadata)
    }
    assert marked <= {name for name in marked if any(name in override for override, _, _ in IDLE)}


def test_from_python_too_but_not_in_the_record_of_a_finished_step() -> None:
    with pytest.raises(ValidationError, match="has no effect, because kind is none"):
        training.TeachersSpec(consistency=training.ConsistencySpec(weight=2.0))
    with pytest.raises(ValidationError, match="has no effect, because projection is false"):
        training.TeachersSpec(adapter=DeepPrefixSpec(kind="p_tuning_v2", projection_size=5))
    recorded: dict[str, Any] = {"kind": "p_tuning_v2", "projection_size": 5}
    assert DeepPrefixSpec.model_validate(recorded).projection_size == 5
