"""Types and ranges of every value, unknown keys, and what the specification says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from petkit.config.rules import in_pipeline
from petkit.config.schema.pipeline import DataSpec, PatternSpec, PipelineSpec, VerbalizerSpec
from petkit.config.schema.training import StudentSpec, TeachersSpec
from petkit.errors import did_you_mean
from tests.config.pipelines import PIPELINE, loaded, mistakes, with_lines, write


def section(line: str) -> str:
    """Return the pipeline with ``line`` in place of its teachers."""
    return PIPELINE[: PIPELINE.index("teachers:")] + line + "\n"


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("teachers: {steps: 0}", "teachers.steps: must be greater than or equal to 1, not 0"),
        ("teachers: {steps: 1.5}", "teachers.steps: must be a whole number, not 1.5"),
        ("teachers: {steps: '5'}", "teachers.steps: must be a whole number, not '5'"),
        ("teachers: {steps: true}", "teachers.steps: must be a whole number, not true"),
        ("teachers: {steps: 1_000}", "teachers.steps: must be a whole number, not '1_000'"),
        ("teachers: {seeds: []}", "teachers.seeds: must not be empty"),
        ("teachers: {seeds: 3}", "teachers.seeds: must be a list, not 3"),
        ("teachers: {seeds: [-1]}", "teachers.seeds.0: must be greater than or equal to 0, not -1"),
        ("teachers: {seeds: [1, 2, 1]}", "teachers.seeds: the same seed twice would train the same teacher twice"),
        ("teachers: {learning_rate: 0}", "teachers.learning_rate: must be greater than 0, not 0"),
        ("teachers: {learning_rate: fast}", "teachers.learning_rate: must be a number, not 'fast'"),
        ("teachers: {learning_rate: .nan}", "teachers.learning_rate: must be a finite number, not nan"),
        ("teachers: {learning_rate: 1e999}", "teachers.learning_rate: must be a finite number, not inf"),
        ("teachers: {weight_decay: .inf}", "teachers.weight_decay: must be a finite number, not inf"),
        ("teachers: {dropout: 1}", "teachers.dropout: must be less than 1, not 1"),
        ("teachers: {warmup: 1.01}", "teachers.warmup: must be less than or equal to 1, not 1.01"),
        ("teachers: [1]", "teachers: must be a mapping of keys to values"),
        ("teachers:", "teachers: must be a mapping of keys to values, not null"),
        ("soft_labels: {combine: mean}", "soft_labels.combine: must be 'logits', 'log_probs' or 'probs', not 'mean'"),
        ("soft_labels: {temperature: 0}", "soft_labels.temperature: must be greater than or equal to 0.001, not 0"),
        ("student: {hard_weight: -0.1}", "student.hard_weight: must be greater than or equal to 0, not -0.1"),
        ("student: {batch_size: 100000}", "student.batch_size: must be less than or equal to 65536, not 100000"),
        ("compute: {threads: 0}", "compute.threads: must be greater than or equal to 1, not 0"),
        ("compute: {device: gpu}", "compute.device: must be auto, cpu, mps, cuda or cuda:N, not 'gpu'"),
        ("max_length: 7", "max_length: must be greater than or equal to 8, not 7"),
        ("truncate: left", "truncate: must be 'tail', 'head' or 'middle', not 'left'"),
        ("model: ''", "model: must not be empty"),
        ("model: 5", "model: must be text, not 5"),
    ],
)
def test_type_or_range(here: Path, line: str, reported: str) -> None:
    assert mistakes(write(here, section(line))) == [f"pipelines/news.yaml:7: {reported}"]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("keep_patterns: 0", ["keep_patterns: must be 'all' or greater than or equal to 1, not 0"]),
        ("keep_patterns: some", ["keep_patterns: must be 'all' or a whole number, not 'some'"]),
        ("keep_patterns: [1]", ["keep_patterns: must be 'all' or a whole number"]),
        ("generations: {count: -1}", ["generations.count: must be greater than or equal to 0 or 'auto', not -1"]),
        ("generations: {count: many}", ["generations.count: must be a whole number or 'auto', not 'many'"]),
        ("soft_labels: {prior: flat}", ["soft_labels.prior: must be 'none', 'uniform' or 'train' or a mapping, not 'flat'"]),
        (
            "soft_labels: {prior: {World: 1, Sports: -1}}",
            ["soft_labels.prior.Sports: must be greater than or equal to 0, not -1"],
        ),
        (
            "{label_kind: multi, student: {thresholds: 2}}",
            ["student.thresholds: must be less than or equal to 1 or a mapping, not 2"],
        ),
        ("{label_kind: multi, student: {thresholds: high}}", ["student.thresholds: must be a number or a mapping, not 'high'"]),
        (
            "{label_kind: multi, student: {thresholds: {World: 2, Sports: x}}}",
            [
                "student.thresholds.World: must be less than or equal to 1, not 2",
                "student.thresholds.Sports: must be a number, not 'x'",
            ],
        ),
        ("patterns: [{id: p, text: [[a], '{mask} {text}']}]", ["patterns.0.text.0: must be text"]),
        (
            "verbalizer: {multi_token: 'yes', labels: {a: [b], c: [d]}}",
            ["verbalizer.multi_token: must be true or false, not 'yes'"],
        ),
        ("patterns: [{id: p, text: {a: b}}]", ["patterns.0.text: must be text or a list"]),
    ],
)
def test_value_of_several_kinds(here: Path, line: str, reported: list[str]) -> None:
    """One line each, and about the kind that was meant."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in yaml.safe_load(line).items()]
    found = mistakes(write(here, section("")), *overrides)

    assert found == [f"--set {overrides[-1]}: {message}" for message in reported]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("techers: {}", "techers: unknown key (did you mean 'teachers'?)"),
        (
            "teachers: {lr: 1}",
            "teachers.lr: unknown key (known: weight_decay, adam_epsilon, max_grad_norm, dropout, adapter, freeze, learning_rate, seeds, scoring, steps,",
        ),
        ("student: {hard_weigth: 1}", "student.hard_weigth: unknown key (did you mean 'hard_weight'?)"),
        ("soft_labels: {temprature: 1}", "soft_labels.temprature: unknown key (did you mean 'temperature'?)"),
        ("compute: {thread: 1}", "compute.thread: unknown key (did you mean 'threads'?)"),
        ("Model: x", "Model: unknown key (did you mean 'model'?)"),
    ],
)
def test_unknown_key_and_the_nearest_right_one(here: Path, line: str, reported: str) -> None:
    (found,) = mistakes(write(here, section(line)))

    assert found.startswith(f"pipelines/news.yaml:7: {reported}")


@pytest.mark.parametrize("key", ["task", "data", "patterns", "verbalizer"])
def test_required_key(here: Path, key: str) -> None:
    lines = [
        line for line in PIPELINE.splitlines() if not line.startswith((key, *(["  train", "  unlab"] if key == "data" else [])))
    ]

    assert mistakes(write(here, "\n".join(lines))) == [f"pipelines/news.yaml:1: {key}: required key is missing"]


@pytest.mark.parametrize("task", ["News", "a b", "../up", "-a", "", "a" * 65])
def test_task_names_a_folder(here: Path, task: str) -> None:
    (reported,) = mistakes(write(here, PIPELINE.replace("news\n", f"'{task}'\n", 1)))

    assert reported.startswith(
        "pipelines/news.yaml:1: task: must be small letters, digits, - and _, at most 64, with a letter or digit first, not "
    )


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:1"])
def test_device(here: Path, device: str) -> None:
    assert loaded(write(here, section(f"compute: {{device: '{device}'}}"))).compute.device == device


def test_whole_number_is_a_number(here: Path) -> None:
    temperature = loaded(write(here, section("soft_labels: {temperature: 3}"))).soft_labels.temperature

    assert (temperature, type(temperature)) == (3.0, float)


def test_student_follows_the_pipeline_unless_it_says_otherwise(here: Path) -> None:
    path = write(here, with_lines("model: org/big", "soft_labels: {temperature: 3}"))
    spec, own = loaded(path), loaded(path, "student.model=org/small", "student.temperature=1.5")

    assert (spec.student_model, spec.student_temperature) == ("org/big", 3.0)
    assert (own.student_model, own.student_temperature) == ("org/small", 1.5)


def test_label_words_lose_the_space_around_them() -> None:
    assert VerbalizerSpec(labels={"A": (" good ",), "B": ("bad",)}).labels["A"] == ("good",)


def test_column_of_a_field_is_its_own_name_unless_mapped() -> None:
    data = DataSpec(train="a", unlabeled="b", columns={"text": "Body"})

    assert (data.column("text"), data.column("label")) == ("Body", "label")


def test_specification_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TeachersSpec().steps = 5  # type: ignore[misc]


def sections(model: type[BaseModel] = PipelineSpec) -> list[tuple[str, Any]]:
    found = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [(f"{name}.{key}", field) for key, field in sections(inner)]
        else:
            found.append((name, info))
    return found


@pytest.mark.parametrize(("name", "info"), sections(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_value_is_described(name: str, info: Any) -> None:
    assert info.description


@pytest.mark.parametrize(
    ("make", "reported"),
    [
        (lambda: PatternSpec(id="p", text="{text"), "pattern 'p': unbalanced '{' at column 1"),
        (lambda: VerbalizerSpec(labels={"A": ("a",)}), "1 label; a classifier needs at least two"),
        (lambda: VerbalizerSpec(labels={"A": ("a",), "B": ("a ",)}), "'a' is shared by labels 'A' and 'B'"),
        (lambda: TeachersSpec(seeds=(1, 1)), "the same seed twice"),
    ],
)
def test_rules_hold_for_specifications_made_in_python(make: Any, reported: str) -> None:
    with pytest.raises(ValidationError, match="validation error") as caught:
        make()

    assert reported in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"patterns": 5, "verbalizer": "x", "teachers": None},
        {"patterns": (5, {"text": 5}, {"text": (1, 2)}, {"id": ["x"]}), "teachers": {"seeds": 5}},
        {"verbalizer": {"labels": {"A": 5, "B": (1, None)}}, "teachers": {"seeds": ([1], [2])}},
    ],
)
def test_rules_pass_over_values_of_a_wrong_type(data: dict[str, Any]) -> None:
    assert in_pipeline(data) == []


@pytest.mark.parametrize(
    ("word", "hint"),
    [("temprature", "did you mean 'temperature'?"), ("zzz", "known: temperature, steps"), ("", "known: temperature, steps")],
)
def test_hint_for_a_misspelt_word(word: str, hint: str) -> None:
    assert did_you_mean(word, ["temperature", "steps"]) == hint
    assert did_you_mean(word, []) == ""


def test_settings_of_what_is_switched_off_are_not_in_force() -> None:
    plain = TeachersSpec().fingerprint_settings()
    asked = TeachersSpec.model_validate(
        {"auxiliary_mlm_weight": 0.1, "consistency": {"kind": "word_masking"}, "contrastive": {"weight": 1.0}}
    ).fingerprint_settings()

    assert {"seeds", "mlm_share", "unlabeled_batch_size"}.isdisjoint(plain)
    assert (plain["consistency"], plain["contrastive"]) == ({"kind": "none"}, {"weight": 0.0})
    assert {"mlm_share", "unlabeled_batch_size"} < set(asked)
    assert set(asked["consistency"]) == {"kind", "weight", "masked_share"} and "temperature" in asked["contrastive"]
    assert "mlm_share" in TeachersSpec(label_conditioning_weight=1.0).fingerprint_settings()


def test_settings_of_the_student_in_force() -> None:
    off = StudentSpec(hard_weight=0.0).fingerprint_settings()

    assert {"model", "temperature", "masked_share", "gold_batch_size"}.isdisjoint(off)
    assert {"masked_share", "gold_batch_size"} < set(StudentSpec(consistency_weight=1.0, hard_weight=0.1).fingerprint_settings())


@pytest.mark.parametrize("weights", ["balanced", {"a": 1000.0}])
def test_weighted_cross_entropy_has_another_scale(weights: object) -> None:
    """Where one label has nearly all of the weight, always giving it costs next to nothing."""
    assert TeachersSpec.model_validate({"class_weights": weights}).stops_below == 0
    assert TeachersSpec().stops_below == 0.05
