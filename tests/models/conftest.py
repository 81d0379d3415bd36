"""Models that only these tests need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models.masked_rows import NO_PROJECTION


@pytest.fixture(scope="session")
def masked_lm(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``masked_lm(arch)`` is the folder of a tiny model, also of one whose head does not end in the vocabulary."""
    made: dict[str, Path] = {}

    def make(arch: str) -> Path:
        from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

        if arch != NO_PROJECTION:
            return model_folder(arch)
        if arch not in made:
            plain = model_folder("deberta-v2")
            made[arch] = tmp_path_factory.mktemp("models") / arch
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(plain, legacy=False))
            model.save_pretrained(made[arch])
            AutoTokenizer.from_pretrained(plain).save_pretrained(made[arch])
        return made[arch]

    return make
