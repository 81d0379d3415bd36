"""Hostile adapter folders: refused in one line; the model they name is never looked up, and nothing in them is ever run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from petkit.config.schema.adapter import DeepPrefixSpec, Ia3Spec, LoraSpec, PromptTuningSpec
from petkit.errors import ModelRefused
from petkit.models.adapters.attach import attach
from petkit.models.adapters.base import read_adapter
from petkit.models.loading import load_language_model
from tests.cli.conftest import Outcome
from tests.safety.hostile import Mark, edit_json

SPECS = (LoraSpec(kind="lora"), Ia3Spec(kind="ia3"), DeepPrefixSpec(kind="p_tuning_v2"), PromptTuningSpec(kind="prompt_tuning"))


@pytest.fixture
def adapter(model_folder: Callable[[str], Path], here: Path) -> Path:
    """A sound LoRA to spoil, shown as ``a`` in messages."""
    attach(load_language_model(str(model_folder("bert"))), SPECS[0]).save(here / "a", "nobody/nothing")
    return here / "a"


def config(**changes: object) -> Callable[[Path, Mark], None]:
    return lambda folder, mark: edit_json(folder / "adapter_config.json", **changes)


def pickled(folder: Path, mark: Mark) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(mark.pickle())


def pickle_called_safetensors(folder: Path, mark: Mark) -> None:
    (folder / "adapter_model.safetensors").write_bytes(mark.pickle())


def own_code(folder: Path, mark: Mark) -> None:
    (folder / "own.py").write_text(mark.module())
    edit_json(folder / "adapter_config.json", auto_mapping={"base_model_class": "Own", "parent_library": "own"})


def link(folder: Path, mark: Mark) -> None:
    (folder / "adapter_model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "adapter_model.safetensors").symlink_to("../elsewhere")


def not_finite(folder: Path, mark: Mark) -> None:
    state = load_file(folder / "adapter_model.safetensors")
    next(iter(state.values()))[0, 0] = float("inf")
    save_file(state, folder / "adapter_model.safetensors")


def pipe(folder: Path, mark: Mark) -> None:
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")


CASES: dict[str, tuple[Callable[[Path, Mark], None], str]] = {
    "pickled": (pickled, "a: adapter_model.safetensors is missing or damaged: "),
    "pickle called safetensors": (pickle_called_safetensors, "a: adapter_model.safetensors is missing or damaged: "),
    "own code": (own_code, "a: adapter_config.json: auto_mapping names code to be run, which petkit never does (remove it)"),
    "link": (link, "a: 'adapter_model.safetensors' is a link out of the folder"),
    "pipe": (pipe, "a: 'adapter_model.safetensors' is not a regular file"),
    "values not finite": (not_finite, " contains NaN or Inf"),
    "unknown kind": (config(peft_type="CUSTOM"), "a: adapter_config.json: peft_type: 'CUSTOM' is none of LORA, IA3, "),
    "kind is a list": (config(peft_type=["LORA"]), "a: adapter_config.json: peft_type: ['LORA'] is none of "),
    "no kind": (config(peft_type=None), "a: adapter_config.json: peft_type: None is none of "),
    "unknown key": (config(on_load="os.system"), "a: adapter_config.json: unknown key 'on_load'"),
    "configuration is a list": (
        lambda folder, mark: (folder / "adapter_config.json").write_text("[]") and None,  # type: ignore[func-returns-value]
        "a: adapter_config.json is not valid JSON",
    ),
    "no configuration": (lambda folder, mark: (folder / "adapter_config.json").unlink(), "a: adapter_config.json is missing"),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_adapter_is_refused(case: str, adapter: Path, mark: Mark) -> None:
    spoil, reported = CASES[case]
    spoil(adapter, mark)

    with pytest.raises(ModelRefused) as refused:
        read_adapter(Path("a"))

    assert reported in str(refused.value) and "\n" not in str(refused.value)
    mark.check()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_what_petkit_writes_is_accepted(spec: object, model_folder: Callable[[str], Path], here: Path) -> None:
    made = attach(load_language_model(str(model_folder("bert"))), spec)  # type: ignore[arg-type]
    made.save(here / "a", "nobody/nothing")

    read = read_adapter(Path("a"))

    assert read.keys() == made.state().keys()
    assert all(torch.equal(value, read[name]) for name, value in made.state().items())


def test_a_hub_name_in_an_adapter_is_not_looked_up(adapter: Path) -> None:
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "nobody/nothing"
    assert read_adapter(adapter)  # sockets are blocked


def test_an_adapter_is_not_a_model(tiny: Path, adapter: Path, petkit_command: Callable[..., Outcome]) -> None:
    (adapter / "config.json").write_text('{"model_type": "bert", "vocab_size": 30}')

    answer = petkit_command("run", "pipeline.yaml", "--set", "model=a", "--set", "student.model=embedded")

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1 and "a: " in answer.err


def test_sentence_transformers_parts_are_looked_at_before_they_are_imported(here: Path, mark: Mark) -> None:
    from petkit.baselines.setfit import check_modules

    (here / "own.py").write_text(mark.module())
    for kind, path, reported in (
        ("own.Own", "", "'own.Own' is none of Transformer, Pooling, Normalize"),
        ("sentence_transformers.models.Dense", "2_Dense", "models.Dense' is none of"),
        ("sentence_transformers.models.Pooling", "../elsewhere", "'../elsewhere' leads out of the folder"),
    ):
        (here / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "type": kind, "path": path}]))
        with pytest.raises(ModelRefused, match=r"modules\.json: ") as refused:
            check_modules(here)
        assert reported in str(refused.value)
    mark.check()
