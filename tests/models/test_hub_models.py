"""Models of the hub that came from a run, and what makes them another model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.errors import ModelRefused
from petkit.models.loading import load_masked_lm, model_fingerprint
from petkit.runs.store import ADAPTED_MODEL, RunStore
from tests.hub_cache import NAME, cache, put_into_cache

__all__ = ["cache"]


@pytest.fixture
def adapted(model_folder: Callable[[str], Path], here: Path) -> Path:
    """A model as ``petkit adapt`` leaves it, its record with it; and with weights of a kind that are not fetched."""
    store = RunStore(here / "run", ADAPTED_MODEL)
    with store.locked():
        store.write_manifest({"kind": ADAPTED_MODEL})
        with store.publishing("model", {}, {}) as folder:
            shutil.copytree(model_folder("bert"), folder, dirs_exist_ok=True)
            (folder / "adapter").mkdir()
            shutil.copy(folder / "model.safetensors", folder / "adapter" / "adapter_model.safetensors")
    return store.folder / "model"


def test_a_model_uploaded_with_its_record_is_read(adapted: Path, cache: Path) -> None:
    snapshot = put_into_cache(adapted, cache, "a" * 40)
    assert (snapshot / "step.json").is_symlink() and not (snapshot / "adapter").exists()
    assert load_masked_lm(NAME).config.model_type == "bert"
    assert load_masked_lm(str(snapshot)).config.model_type == "bert"


def test_a_copy_of_the_same_files_elsewhere_is_still_proven(adapted: Path, here: Path) -> None:
    shutil.copytree(adapted, here / "copy")
    (here / "copy" / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelRefused, match=r"^copy: adapter/adapter_model\.safetensors is missing"):
        load_masked_lm("copy")


def test_a_commit_is_another_model_only_if_its_files_are(adapted: Path, cache: Path) -> None:
    put_into_cache(adapted, cache, "a" * 40)
    before = model_fingerprint(NAME)
    (adapted / "README.md").write_text("said better")
    put_into_cache(adapted, cache, "b" * 40)
    assert model_fingerprint(NAME) == before == model_fingerprint(str(cache.parent / "run" / "model"))
    (adapted / "tokenizer_config.json").write_text((adapted / "tokenizer_config.json").read_text() + "\n")
    put_into_cache(adapted, cache, "c" * 40)
    assert model_fingerprint(NAME) != before
