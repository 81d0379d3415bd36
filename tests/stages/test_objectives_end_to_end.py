"""Every option of stages A to C once through the tiny task: it runs, it changes what it should, and nothing before that."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from petkit.commands.validate import check_pipeline
from petkit.config.schema.pipeline import AutoVerbalizerSpec, DemonstrationsSpec, VerbalizerSpec
from petkit.config.schema.training import GenerationsSpec, SoftLabelsSpec, StudentSpec, TeachersSpec
from petkit.stages.pipeline import RunResult
from tests.tiny_task import load, products, rows, run_task, write_rows

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection

QUICK = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=3")
SEVERAL = "{Sports: [sports, good game], Science: [science], World: [world news]}"
SOFT_TOKENS = "patterns=[{id: colon, text: '{soft:3} {mask} {text}'}, {id: brackets, text: '{text} {soft:2} ( {mask} )'}]"
WHOLE = {
    "iPET": ("generations.count=2", "generations.scale=2"),
    "iPET as far as it goes": ("generations.count=auto", "generations.scale=12", "generations.teacher_share=1"),
    "no labelled rows": ("data.train=null",),
    "descriptions": ("verbalizer.descriptions={World: [market news], Sports: [game, team]}",),
    "iPET from nothing": ("data.train=null", "generations.count=1", "generations.per_label_from_zero=3"),
    "adapters": ("teachers.adapter=lora", "student.adapter=lora", "student.keep_adapter=true"),
    "masked LM": ("teachers.auxiliary_mlm_weight=0.1",),
    "ADAPET": ("teachers.label_conditioning_weight=1", "teachers.loss=decoupled_label"),
    "answers at the mask": ("teachers.scoring=mask",),
    "hinge": ("teachers.loss=hinge",),
    "R-Drop": ("teachers.r_drop_weight=1", "teachers.dropout=0.1", "student.r_drop_weight=1", "student.dropout=0.1"),
    "hidden words": ("teachers.consistency.kind=word_masking", "student.consistency_weight=1"),
    "second pattern": ("teachers.consistency.kind=second_pattern",),
    "contrast": ("teachers.contrastive.weight=1", "student.contrastive.weight=1"),
    "label vectors": ("verbalizer.kind=soft", "teachers.consistency.kind=second_pattern", "teachers.auxiliary_mlm_weight=0.1"),
    "prototypes": ("verbalizer.kind=prototype", "teachers.label_conditioning_weight=1"),
    "soft tokens": (SOFT_TOKENS, "teachers.auxiliary_mlm_weight=0.1", "teachers.label_conditioning_weight=1"),
    "demonstrations": ("demonstrations.per_label=1", "demonstrations.max_tokens=12", "max_length=60"),
    "words of several tokens": (f"verbalizer={{labels: {SEVERAL}, multi_token: true}}",),
    "surest token first": (f"verbalizer={{labels: {SEVERAL}, multi_token: true, decoding: max_first}}", "teachers.loss=hinge"),
    "out of fold": ("soft_labels.weighting=out_of_fold", "soft_labels.teacher_temperature=out_of_fold", "soft_labels.folds=3"),
    "untrained accuracy": ("soft_labels.weighting=train_accuracy", "soft_labels.drop_collapsed=true"),
    "batch calibration": ("soft_labels.calibration=batch", "soft_labels.prior=train"),
    "contextual calibration": ("soft_labels.calibration=contextual", "soft_labels.prior=uniform"),
    "chosen rows": ("soft_labels.top_share=0.5", "soft_labels.min_probability=0.2", "soft_labels.confidence_weights=false"),
    "best pattern": ("keep_patterns=1", "soft_labels.rows=12"),
    "words found": ("verbalizer={auto: {per_label: 2, candidates: 30, scope: joint}}",),
    "baselines": ("baselines=[majority, tfidf, zero_shot, supervised]",),
    "ordinal": ("label_kind=ordinal",),
    "nearly all": (
        f"verbalizer={{labels: {SEVERAL}, multi_token: true}}", "demonstrations.per_label=1", "max_length=60",
        "generations.count=1", "soft_labels.weighting=out_of_fold", "soft_labels.folds=2",
        "teachers.consistency.kind=second_pattern", "teachers.auxiliary_mlm_weight=0.1", "teachers.contrastive.weight=1",
        "teachers.label_conditioning_weight=1", "teachers.r_drop_weight=1", "teachers.dropout=0.1",
        "student.feature_weight=1", "student.consistency_weight=1", "student.r_drop_weight=1", "student.dropout=0.1",
        "student.contrastive.weight=1", "student.divergence=jensen_shannon",
    ),
    "several labels": (
        "label_kind=multi", "data.train=several.jsonl", "data.test=several.jsonl", "student.thresholds={World: 0.4}",
        "data.label_separator=/", "teachers.consistency.kind=second_pattern", "teachers.label_conditioning_weight=1",
        "teachers.r_drop_weight=1", "teachers.dropout=0.1", "teachers.class_weights=balanced", "teachers.focal_gamma=1",
        "student.feature_weight=1", "student.consistency_weight=1", "student.r_drop_weight=1", "student.dropout=0.1",
        "student.class_weights=balanced", "student.divergence=reverse_kl", "student.contrastive.weight=1",
        "teachers.contrastive.weight=1", "soft_labels.weighting=out_of_fold", "soft_labels.confidence_weights=false",
    ),
}  # fmt: skip

# What a teacher's option needs to matter, and the option.
MLM, HIDDEN = "teachers.auxiliary_mlm_weight=0.3", "teachers.consistency.kind=word_masking"
OF_TEACHERS = {
    "teachers.seeds=[2]": "",
    "teachers.steps=4": "",
    "teachers.stop_loss=99": "teachers.steps=9",
    "teachers.freeze=half": "",
    "teachers.batch_size=2": "",
    "teachers.learning_rate=0.001": "",
    "teachers.new_learning_rate=0.1": "verbalizer.kind=soft",
    "teachers.warmup=0.5": "",
    "teachers.weight_decay=0.5": "",
    "teachers.adam_epsilon=0.01": "",
    "teachers.max_grad_norm=0.01": "",
    "teachers.dropout=0.2": "",
    "teachers.label_smoothing=0.3": "",
    "teachers.focal_gamma=2": "",
    "teachers.class_weights=balanced": "",
    MLM: "",
    "teachers.mlm_share=0.5": MLM,
    "teachers.unlabeled_batch_size=3": MLM,
    "teachers.label_conditioning_weight=2": "",
    "teachers.r_drop_weight=3": "teachers.dropout=0.2",
    "teachers.consistency.weight=5": HIDDEN,
    "teachers.consistency.masked_share=0.5": HIDDEN,
    "teachers.contrastive.weight=1": "",
    "teachers.contrastive.temperature=0.5": "teachers.contrastive.weight=1",
    "teachers.contrastive.partners=masked_view": "teachers.contrastive.weight=1",
    "teachers.contrastive.masked_share=0.5": "teachers.contrastive={weight: 1, partners: masked_view}",
}
OF_STUDENT = {
    "student.model=other": "",
    "student.seed=2": "",
    "student.steps=4": "",
    "student.freeze=half": "",
    "student.batch_size=3": "",
    "student.gold_batch_size=2": "",
    "student.learning_rate=0.001": "",
    "student.warmup=0.8": "",
    "student.weight_decay=0.5": "",
    "student.adam_epsilon=0.01": "",
    "student.max_grad_norm=0.01": "",
    "student.dropout=0.2": "",
    "student.temperature=4": "",
    "student.divergence=reverse_kl": "",
    "student.hard_weight=0.9": "",
    "student.label_smoothing=0.3": "",
    "student.focal_gamma=2": "",
    "student.class_weights=balanced": "",
    "student.feature_weight=1": "",
    "student.r_drop_weight=3": "student.dropout=0.2",
    "student.consistency_weight=3": "",
    "student.masked_share=0.5": "student.consistency_weight=3",
    "student.contrastive.weight=1": "",
    "student.contrastive.temperature=0.5": "student.contrastive.weight=1",
    "student.contrastive.partners=masked_view": "student.contrastive.weight=1",
    "student.contrastive.masked_share=0.5": "student.contrastive={weight: 1, partners: masked_view}",
}
OF_SOFT_LABELS = {
    "combine=probs": "",
    "temperature=1": "",
    "confidence_weights=false": "",
    "top_share=0.4": "",
    # Teachers of three steps may answer all rows alike; calibrated, they then know nothing, and every confidence is 0.
    "calibration=batch": "soft_labels.confidence_weights=false",
    "prior=train": "",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipeline_file: Path, model_folder: Callable[[str], Path]) -> Iterator[Path]:
    """The current folder of all runs: rows of uneven labels, rows of several labels, another backbone."""
    here = tmp_path_factory.mktemp("options")
    write_rows(here / "uneven.jsonl", rows(12, 1)[:10:3] + rows(12, 1)[1::2])
    several = [
        {**row, "label": "/".join({row["label"], "World"} if number % 4 else [])} for number, row in enumerate(rows(12, 9))
    ]
    write_rows(here / "several.jsonl", several)
    shutil.copytree(model_folder("distilbert"), here / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield here


@pytest.fixture(scope="module")
def place(folder: Path) -> Callable[..., Path]:
    """``place(what, overrides)`` is the folder of a run that is not whole; the same for the same overrides."""
    known: list[Any] = []

    def number(what: str, overrides: tuple[str, ...]) -> Path:
        if (what, overrides) not in known:
            known.append((what, overrides))
        return folder / f"{what}-{known.index((what, overrides))}"

    return number


@pytest.fixture(scope="module")
def made(folder: Path, pipeline_file: Path) -> Callable[..., RunResult]:
    """``made(*overrides)`` is a whole run with them; each is done once."""
    done: dict[tuple[str, ...], RunResult] = {}

    def run(*overrides: str) -> RunResult:
        if overrides not in done:
            done[overrides] = run_task(pipeline_file, folder / f"run-{len(done)}", *QUICK, "data.train=uneven.jsonl", *overrides)
        return done[overrides]

    return run


def facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text())["facts"] for path in folder.glob("stage_[ac]/**/model/step.json")]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_run(name: str, pipeline_file: Path, folder: Path, made: Callable[..., RunResult]) -> None:
    plain, result = made(), made(*WHOLE[name])
    assert result.metrics is not None
    assert 0 <= result.metrics["student"]["accuracy"] <= 1 and 0 <= result.metrics["ensemble"]["accuracy"] <= 1
    assert all(math.isfinite(reported[loss]) for reported in facts(result.folder) for loss in ("first_loss", "last_loss"))
    overrides = (*QUICK, "data.train=uneven.jsonl", *WHOLE[name])
    assert run_task(pipeline_file, result.folder, *overrides).ran == ()
    assert check_pipeline(load(pipeline_file, *overrides)).task == "topics"
    if name not in ("baselines", "ordinal", "answers at the mask"):
        one, other = (products(run.folder, "stage_a", "stage_b", "stage_c") for run in (plain, result))
        assert one != other


@pytest.mark.parametrize("option", OF_TEACHERS)
def test_a_teachers_option_changes_the_teacher(option: str, pipeline_file: Path, place: Callable[..., Path]) -> None:
    def weights(*overrides: str) -> bytes:
        run = place("teacher", overrides)
        only = ("patterns=[{id: colon, text: '{mask} news: {text}'}]", "data.train=uneven.jsonl")
        if not run.exists():
            run_task(pipeline_file, run, *QUICK, *only, *overrides, stages=("a",))
        (model,) = run.glob("stage_a/*/model")
        return b"".join(path.read_bytes() for path in sorted(model.glob("*.safetensors")))

    context = tuple(filter(None, [OF_TEACHERS[option]]))
    assert weights(*context, option) != weights(*context)


@pytest.mark.parametrize("option", OF_STUDENT)
def test_a_students_option_changes_the_student_and_nobody_else(
    option: str, pipeline_file: Path, place: Callable[..., Path], made: Callable[..., RunResult]
) -> None:
    plain = ("data.train=uneven.jsonl", *QUICK)

    def student(*overrides: str) -> bytes:
        run = place("student", overrides)
        if not run.exists():
            shutil.copytree(made().folder, run)
            ran = run_task(pipeline_file, run, *plain, *overrides, stages=("a", "b", "c"), force="stale").ran
            assert ran == (("stage_c/model",) if overrides else ())
        return (run / "stage_c" / "model" / "model.safetensors").read_bytes()

    context = tuple(filter(None, [OF_STUDENT[option]]))
    assert student(*context, option) != student(*context)


@pytest.mark.parametrize("option", OF_SOFT_LABELS)
def test_an_option_of_the_soft_labels_changes_them_and_the_student(
    option: str, pipeline_file: Path, folder: Path, made: Callable[..., RunResult]
) -> None:
    context = tuple(filter(None, [OF_SOFT_LABELS[option]]))
    run = Path(shutil.copytree(made(*context).folder, folder / f"soft-{option}"))
    ran = run_task(pipeline_file, run, "data.train=uneven.jsonl", *QUICK, *context, f"soft_labels.{option}", force="stale").ran
    assert ran == ("stage_b", "stage_c/model", "evaluation")
    for part in ("stage_b/soft_labels", "stage_c"):
        if (option, part) != ("combine=probs", "stage_c"):
            assert products(run, part) != products(made(*context).folder, part)


def test_every_option_has_been_tried() -> None:
    written = [*OF_TEACHERS, *OF_STUDENT, *(f"soft_labels.{option}" for option in OF_SOFT_LABELS)]
    written += [override for overrides in WHOLE.values() for override in overrides]
    keys = {override.partition("=")[0] for override in written}
    inside = "".join(override for override in written if override.startswith("verbalizer="))
    keys |= {f"verbalizer.{name}" for name in VerbalizerSpec.model_fields if f"{name}:" in inside}
    keys |= {f"verbalizer.auto.{name}" for name in AutoVerbalizerSpec.model_fields if f"{name}:" in inside}
    sections: dict[str, type[BaseModel]] = {
        "teachers": TeachersSpec, "generations": GenerationsSpec, "soft_labels": SoftLabelsSpec, "student": StudentSpec,
        "verbalizer": VerbalizerSpec, "verbalizer.auto": AutoVerbalizerSpec, "demonstrations": DemonstrationsSpec,
    }  # fmt: skip
    wanted = {f"{section}.{name}" for section, spec in sections.items() for name in spec.model_fields}
    wanted -= {"teachers.consistency", "teachers.contrastive", "student.contrastive"}
    wanted |= {"keep_patterns", "label_kind", "baselines", "max_length", "data.train"}
    assert wanted - keys == set()
