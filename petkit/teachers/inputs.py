"""The inputs of a teacher's steps: everything that can change its weights or its logits."""

from __future__ import annotations

from collections.abc import Sequence

from petkit.engine.device import Device
from petkit.runs.fingerprint import Inputs, demonstration_inputs, flat, label_words, model_inputs, verbalizer_inputs
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher


def scoring_inputs(task: Task, device: Device, teacher: Teacher) -> Inputs:
    """Return the inputs of trained and untrained teachers alike: the model, the pattern and its label words."""
    spec, pvp = task.spec, task.pvps[teacher.pattern]
    return {
        "step.version": 2,
        **task.common_inputs(device),
        **model_inputs(task.model_hash, task.max_length),
        "pattern": list(spec.patterns[teacher.pattern].segments),
        "verbalizer": label_words(pvp.verbalizer.labels),
        **verbalizer_inputs(pvp.verbalizer),
        **demonstration_inputs(spec.demonstrations),
        # Untrained, the other adapters leave the model as it is.
        **({"four_bit": True} if spec.teachers.adapter.kind == "qlora" else {}),
    }


def training_inputs(task: Task, device: Device, teacher: Teacher, labellers: Sequence[Teacher]) -> Inputs:
    """Return the inputs of a trained teacher, whose unlabelled rows are labelled by ``labellers``."""
    generations = task.spec.generations.model_dump(exclude={"count"})
    needs_text = labellers or task.spec.teachers.auxiliary_mlm_weight
    return {
        **scoring_inputs(task, device, teacher),
        **_second_pattern_inputs(task, teacher),
        "data.train": task.scans["train"].sha256 if task.train else None,
        "teachers.seed": teacher.seed,
        **flat("teachers", task.spec.teachers.fingerprint_settings()),
        **task.start_inputs["teachers"],
        **({**flat("generations", generations), "generation": teacher.generation} if labellers else {}),
        **({"data.unlabeled": task.scans["unlabeled"].sha256} if needs_text else {}),
    }


def _second_pattern_inputs(task: Task, teacher: Teacher) -> Inputs:
    """Return the pattern that consistency compares with, and its label words."""
    if task.spec.teachers.consistency.kind != "second_pattern":
        return {}
    second = task.second_pattern(teacher.pattern)
    words = label_words(task.pvps[second].verbalizer.labels)
    return {"second pattern": list(task.spec.patterns[second].segments), "second pattern's verbalizer": words}
