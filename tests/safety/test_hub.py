"""Models of the hub: read from its cache of links, fetched without pickles or code, and never fetched offline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from petkit import network
from petkit.errors import ModelRefused
from petkit.models.loading import load_language_model, load_tokenizer, model_fingerprint, open_folder
from tests.cli.conftest import Outcome
from tests.hub_cache import NAME, cache, put_into_cache

__all__ = ["cache"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(model_folder: Callable[[str], Path], cache: Path) -> Path:
    """A tiny BERT in a cache of its own."""
    return put_into_cache(model_folder("bert"), cache, COMMIT)


def test_the_links_of_the_cache_are_followed(snapshot: Path, model_folder: Callable[[str], Path]) -> None:
    assert open_folder(NAME).path == snapshot
    assert load_language_model(NAME).config.model_type == "bert"
    assert load_tokenizer(NAME).name == NAME
    assert model_fingerprint(NAME) == model_fingerprint(str(model_folder("bert")))


def test_a_snapshot_given_as_a_folder_is_read_too(snapshot: Path) -> None:
    assert load_language_model(str(snapshot)).config.model_type == "bert"


def test_a_link_out_of_the_cached_model_is_refused(snapshot: Path, here: Path) -> None:
    target = here / "elsewhere.safetensors"
    shutil.copy((snapshot / "model.safetensors").resolve(), target)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(target)

    with pytest.raises(ModelRefused, match=r"'model\.safetensors' is a link out of the folder"):
        load_language_model(NAME)


def test_a_model_half_in_the_cache_is_refused(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()

    with pytest.raises(ModelRefused, match=r"model\.safetensors is missing"):
        load_language_model(NAME)


@pytest.mark.parametrize("name", ["somebody/nothing", "nothing"])
def test_offline_a_model_that_is_not_in_the_cache_is_refused(name: str, snapshot: Path) -> None:
    with pytest.raises(ModelRefused, match=f"^{name}: not a local folder, .* offline mode is on, and the local cache does not"):
        load_language_model(name)


@pytest.mark.parametrize("name", ["a/b/c", "a\x1bb", "..", "some body", "a" * 200, "-", "a\nb", "http://example.org/a"])
def test_what_is_not_a_name_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        load_language_model(name)

    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_neither_pickles_nor_code_are_fetched(
    cache: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Callable[[str], Path]
) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(model_folder("bert"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(network, "is_forbidden", lambda: False)
    open_folder(NAME)
    wanted = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    wanted += ["tokenizer.json", "vocab.txt", "spiece.model", "1_Pooling/config.json", "modules.json"]
    others = ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "own.py", "modeling_own.py", "model.pt", "a.pkl", "tf.h5"]
    others += ["adapter_model.bin", "training_args.bin", "onnx/model.onnx", "onnx/config.json", "model.gguf", "x.so", "x.pth"]
    patterns = {key: asked[f"{key}_patterns"] for key in ("allow", "ignore")}
    found = filter_repo_objects([*wanted, *others], allow_patterns=patterns["allow"], ignore_patterns=patterns["ignore"])

    assert sorted(found) == sorted(wanted)
    assert (asked["name"], asked["local_files_only"]) == (NAME, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "pipeline.yaml", "--set", f"model={NAME}"),
        ("validate", "pipeline.yaml", "--set", f"student.model={NAME}"),
        ("zero-shot", "pipeline.yaml", "--set", f"model={NAME}"),
        ("adapt", "pipeline.yaml", "--set", f"model={NAME}"),
        ("rank-patterns", "pipeline.yaml", "--set", f"model={NAME}"),
        ("run", "pipeline.yaml", "--set", "data.test=hf://somebody/rows/test"),
        ("init", "new", "--from", "hf://somebody/rows/test"),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_offline_commands_refuse_hub_names_in_one_line(
    arguments: tuple[str, ...], tiny: Path, cache: Path, petkit_command: Callable[..., Outcome]
) -> None:
    answer = petkit_command(*arguments, "--offline")

    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1 and "offline mode is on, and the local cache does not contain it" in answer.err


def test_a_dataset_name_does_not_read_what_lies_here(tiny: Path, petkit_command: Callable[..., Outcome]) -> None:
    (tiny / "rows").mkdir()
    (tiny / "rows" / "test.jsonl").write_text('{"text": "a", "label": "World"}\n')

    answer = petkit_command("run", "pipeline.yaml", "--set", "data.test=hf://rows/test")

    assert (answer.code, answer.out) == (2, "")
    assert "rows is a file or folder here (name a file of rows without hf://)" in answer.err
