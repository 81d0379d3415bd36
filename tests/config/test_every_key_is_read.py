"""No key without effect: small runs that switch everything on read every field of the specification."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import petkit
from petkit.config.schema.pipeline import PipelineSpec
from petkit.config.schema.section import Section
from petkit.config.schema.training import SoftLabelsSpec
from petkit.pretraining.adapt import adapt
from petkit.pretraining.pretrain_prompt import pretrain_prompt
from petkit.stages.pipeline import prepare
from tests.pretraining import prompt_task
from tests.tiny_task import load, run_task, write_task

PACKAGE = Path(petkit.__file__).parent
CONFIG = PACKAGE / "config"
TRAINING = (
    "steps=2",
    "batch_size=2",
    "dropout=0.1",
    "r_drop_weight=0.1",
    "class_weights=balanced",
    "contrastive={weight: 0.1, partners: masked_view}",
)
EVERYTHING = (
    *(f"{section}.{setting}" for section in ("teachers", "student") for setting in TRAINING),
    "teachers.seeds=[1]",
    "teachers.consistency.kind=word_masking",
    "teachers.auxiliary_mlm_weight=0.1",
    "teachers.unlabeled_batch_size=2",
    "teachers.label_conditioning_weight=0.1",
    "student.feature_weight=0.1",
    "student.consistency_weight=0.1",
    "generations={count: 1, scale: 2}",
    "verbalizer={auto: {per_label: 1, candidates: 10}, descriptions: {Sports: [game]}}",
    "demonstrations.per_label=1",
    "soft_labels={weighting: out_of_fold, teacher_temperature: out_of_fold, folds: 2, calibration: contextual, prior: uniform}",
    "baselines=[zero_shot]",
)
ONE_TEACHER = ("patterns=[{id: colon, text: '{mask}: {text}'}]", "teachers.seeds=[1]", "teachers.steps=1")
ADAPTERS = ("lora", "ia3", "p_tuning_v1", "{kind: p_tuning_v2, projection: true}", "{kind: prompt_tuning, start: PROMPT}")


def read_by_petkit() -> bool:
    """Return whether the field read two calls above is read outside the specification, perhaps by one of its properties."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_code.co_name == "fingerprint_settings":
            return False
        if CONFIG not in path.parents and path != Path(__file__):
            return PACKAGE in path.parents  # otherwise it is pydantic, which validates
        frame = frame.f_back
    return False


@contextmanager
def recording() -> Iterator[set[str]]:
    """Record each ``Section.field`` that petkit reads; validation, dumps and fingerprints do not count."""
    found: set[str] = set()
    plain = Section.__getattribute__

    def recorded(self: Section, name: str) -> Any:
        section = type(self)
        key = f"{section.__name__}.{name}"
        if name in section.model_fields and key not in found and read_by_petkit():
            found.add(key)
        return plain(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Section, "__getattribute__", recorded)
        yield found


def keys() -> Iterator[str]:
    """Yield each ``Section.field``, from the whole pipeline down."""
    waiting: list[Any] = [PipelineSpec]
    seen: set[type[BaseModel]] = set()
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            waiting += [field.annotation for field in kind.model_fields.values()]
            yield from (f"{kind.__name__}.{name}" for name in kind.model_fields)


@pytest.fixture(scope="module")
def pipeline_file(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The pipeline of the tiny task."""
    return write_task(tmp_path_factory.mktemp("task"), model_folder("bert"))


@pytest.fixture(scope="module")
def read(pipeline_file: Path, tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> set[str]:
    """What was read by a run of everything, both pretrainings and a teacher with each kind of adapter."""
    folder = tmp_path_factory.mktemp("runs")
    unlabeled = prompt_task.write(folder / "task", model_folder("bert"), objective="both", steps=2)
    with recording() as found:
        run_task(pipeline_file, folder / "everything", *EVERYTHING)
        adapt(load(unlabeled, "adapt.steps=2"), folder / "adapted")
        prompt = pretrain_prompt(load(unlabeled), folder / "prompt").folder
        for index, adapter in enumerate(ADAPTERS):
            setting = f"teachers.adapter={adapter.replace('PROMPT', str(prompt))}"
            run_task(pipeline_file, folder / str(index), *ONE_TEACHER, setting, stages=("a",))
    return found


def test_every_key_is_read(read: set[str]) -> None:
    assert sorted({*keys()} - read) == []


class MadeUpSpec(SoftLabelsSpec):
    unread: int = 1


def test_key_that_nothing_reads_is_found(pipeline_file: Path, here: Path) -> None:
    pipeline = load(pipeline_file)
    with recording() as found:
        made_up = MadeUpSpec.model_validate({"unread": 2})
        made_up.fingerprint_settings()
        prepare(replace(pipeline, spec=pipeline.spec.model_copy(update={"soft_labels": made_up})), here / "run")

    assert "MadeUpSpec.weighting" in found
    assert "MadeUpSpec.unread" not in found
