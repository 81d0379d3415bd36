"""No key that does nothing: every field of the specification is read by its name, where that section is at work."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel

import petkit
from petkit.config.schema import PipelineSpec

PACKAGE = Path(petkit.__file__).parent


class Readers(NamedTuple):
    """Where a section is read: by what names it is called there, in which files (patterns of paths; none: anywhere)."""

    names: tuple[str, ...]
    files: tuple[str, ...] = ("*/*.py",)


LOOP = "lm/training.py"
READERS = {
    "PipelineSpec": Readers(("spec",)),
    "DataSpec": Readers(("data",), ("task/*.py", "stages/*.py")),
    "PatternSpec": Readers(("spec", "pattern", "entry"), ("task/*.py", "stages/*.py")),
    "VerbalizerSpec": Readers(("verbalizer",), ("task/*.py", "stages/*.py")),
    "AutoVerbalizerSpec": Readers(("auto", "_auto(work)")),
    "DemonstrationsSpec": Readers(("settings",), ("task/*.py",)),
    "TeachersSpec": Readers(
        ("teachers", "settings"), ("stages/teacher_*.py", "stages/a_teachers.py", "stages/workload.py", LOOP)
    ),
    "ConsistencySpec": Readers(("consistency",), ("stages/teacher_*.py",)),
    "ContrastiveSpec": Readers(("contrastive",), ("stages/*_objective.py",)),
    "GenerationsSpec": Readers(("settings", "generations"), ("stages/*.py",)),
    "SoftLabelsSpec": Readers(("soft_labels", "soft", "settings", "ensemble"), ("stages/*.py",)),
    "StudentSpec": Readers(
        ("student", "settings"), ("stages/c_student.py", "stages/student_objective.py", "stages/workload.py", LOOP)
    ),
    "AdaptSpec": Readers(("adapt", "settings"), ("stages/adaptation.py", "stages/masked_texts.py", LOOP)),
    "PretrainPromptSpec": Readers(
        ("pretrain_prompt", "settings"),
        ("stages/prompt_pretraining.py", "stages/sentence_questions.py", "stages/masked_texts.py", LOOP),
    ),
    "QuestionWords": Readers(("words",), ("stages/sentence_questions.py",)),
    **dict.fromkeys(
        ("NoAdapter", "LoraSpec", "Ia3Spec", "DeepPrefixSpec", "PromptEncoderSpec", "PromptTuningSpec"),
        Readers(("spec", "adapter"), ("lm/*.py", "stages/*.py")),
    ),
    "ComputeSpec": Readers(("spec", "compute"), ("lm/arithmetic.py", "stages/*.py")),
}
# Read through a property of the specification, which settles the default.
THROUGH = {
    "PatternSpec.text": "spec.segments",
    **{
        f"{kind}.learning_rate": "settings.in_training"
        for kind in ("LoraSpec", "Ia3Spec", "DeepPrefixSpec", "PromptEncoderSpec", "PromptTuningSpec")
    },
    "StudentSpec.adapter": "settings.adapted",
    "StudentSpec.model": "spec.student_model",
    "StudentSpec.temperature": "spec.student_temperature",
    "StudentSpec.thresholds": "spec.thresholds",
}


def fields() -> Iterator[tuple[str, str]]:
    """Yield every section's name and field, from the whole pipeline down."""
    waiting: list[Any] = [PipelineSpec]
    seen: set[type[BaseModel]] = set()
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            waiting += [field.annotation for field in kind.model_fields.values()]
            yield from ((kind.__name__, name) for name in kind.model_fields)


@cache
def reads(pattern: str) -> frozenset[str]:
    """Return every attribute or named entry read outside the specification, as ``holder.name``; holders by their last name."""
    found: set[str] = set()
    for path in PACKAGE.glob(pattern):
        if path.parent.name != "spec":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(f"{ast.unparse(node.value).rpartition('.')[2]}.{node.attr}")
                elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.ctx, ast.Load):
                    found.add(f"{ast.unparse(node.value).rpartition('.')[2]}.{node.slice.value}")
    return frozenset(found)


@pytest.mark.parametrize(("section", "name"), sorted(fields()))
def test_key_is_read(section: str, name: str) -> None:
    readers = READERS[section]
    known = frozenset().union(*map(reads, readers.files))

    if f"{section}.{name}" in THROUGH:
        known, wanted = reads("*/*.py"), {THROUGH[f"{section}.{name}"]}
    else:
        wanted = {f"{holder}.{name}" for holder in readers.names}

    assert known & wanted


def test_exceptions_are_keys_and_needed() -> None:
    known = {f"{section}.{name}" for section, name in fields()}

    assert {*THROUGH} <= known
    assert {section for section, _ in fields()} == {*READERS}
    for key in THROUGH:
        section, _, name = key.partition(".")
        readers = READERS[section]
        direct = frozenset().union(*map(reads, readers.files)) & {f"{holder}.{name}" for holder in readers.names}
        assert not direct, key
