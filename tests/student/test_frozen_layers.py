"""What teachers and students leave as the backbone has it when their lower layers are frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_task import load, run_task


@pytest.mark.parametrize("section", ["teachers", "student"])
def test_what_is_frozen_stays_as_it_was(section: str, pipeline_file: Path, copy: Path) -> None:
    stage, where = ("a", "stage_a/colon-1/model") if section == "teachers" else ("c", "stage_c/model")
    run_task(pipeline_file, copy, f"{section}.freeze=1", f"{section}.steps=3", stages=(stage,), force="stale")
    backbone = load_file(Path(load(pipeline_file).spec.model) / "model.safetensors")
    trained = load_file(copy / where / "model.safetensors")
    same = {name for name in backbone.keys() & trained.keys() if torch.equal(backbone[name], trained[name])}
    lower = {name for name in trained if name.startswith(("bert.embeddings", "bert.encoder.layer.0"))}
    assert lower <= same and not any(name.startswith("bert.encoder.layer.1") and "query.weight" in name for name in same)
