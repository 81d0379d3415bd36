"""Hostile model folders: refused in one line, by the loader and by the command, and nothing in them is ever run."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from petkit.errors import ModelRefused
from petkit.models.loading import load_config, load_language_model, load_tokenizer, longest_input
from tests.cli.conftest import Outcome
from tests.safety.hostile import Mark, edit_json, sharded, write_safetensors

Petkit = Callable[..., Outcome]


def pickled_weights(folder: Path, mark: Mark) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(mark.pickle())


def pickle_called_safetensors(folder: Path, mark: Mark) -> None:
    (folder / "model.safetensors").write_bytes(mark.pickle())


def index_to_pickle(folder: Path, mark: Mark) -> None:
    sharded(folder, "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(mark.pickle())


def index_to(name: str) -> Callable[[Path, Mark], None]:
    def spoil(folder: Path, mark: Mark) -> None:
        sharded(folder, name)
        (folder.parent / "elsewhere.safetensors").write_bytes((folder / "model-00001-of-00001.safetensors").read_bytes())

    return spoil


def index_of_missing_file(folder: Path, mark: Mark) -> None:
    sharded(folder, "model-00002-of-00002.safetensors")


def index_of_missing_tensor(folder: Path, mark: Mark) -> None:
    path = sharded(folder)
    index = json.loads(path.read_text())
    index["weight_map"]["bert.more"] = "model-00001-of-00001.safetensors"
    path.write_text(json.dumps(index))


def index_without_metadata(folder: Path, mark: Mark) -> None:
    edit_json(sharded(folder), metadata=None)


def index_of_nothing(folder: Path, mark: Mark) -> None:
    edit_json(sharded(folder), weight_map=[])


def weights_are_a_link(folder: Path, mark: Mark) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


def vocabulary_is_a_link(folder: Path, mark: Mark) -> None:
    (folder / "vocab.txt").symlink_to("/etc/passwd")


def link_in_a_circle(folder: Path, mark: Mark) -> None:
    (folder / "vocab.txt").symlink_to("vocab.txt")


def pipe(folder: Path, mark: Mark) -> None:
    os.mkfifo(folder / "added_tokens.json")


def own_code(folder: Path, mark: Mark) -> None:
    (folder / "own.py").write_text(mark.module())
    edit_json(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.Model"}
    )


def header(claim: object, data: bytes = b"", length: int | None = None) -> Callable[[Path, Mark], None]:
    def spoil(folder: Path, mark: Mark) -> None:
        write_safetensors(folder / "model.safetensors", {"bert.weight": claim}, data, length)

    return spoil


def config(**changes: object) -> Callable[[Path, Mark], None]:
    return lambda folder, mark: edit_json(folder / "config.json", **changes)


def config_is_a_folder(folder: Path, mark: Mark) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def tokenizer_config(**changes: object) -> Callable[[Path, Mark], None]:
    return lambda folder, mark: edit_json(folder / "tokenizer_config.json", **changes)


def whole(name: str, content: str | bytes) -> Callable[[Path, Mark], None]:
    def spoil(folder: Path, mark: Mark) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path, Mark], None]:
    def spoil(folder: Path, mark: Mark) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def with_value(value: float) -> Callable[[Path, Mark], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["bert.encoder.layer.1.output.dense.weight"][3, 5] = value

    return change_weights(change)


def without_head(state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if name.startswith("cls.")]:
        del state[name]


def more_words(folder: Path, mark: Mark) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["overboard"] = 5000
    path.write_text(json.dumps(content))


TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
DAMAGED = "m: the weights are damaged: "
CASES: dict[str, tuple[Callable[[Path, Mark], None], str]] = {
    "pickled weights": (pickled_weights, "m: contains pickled weights, which can run code when loaded (save the model again"),
    "pickle called safetensors": (pickle_called_safetensors, DAMAGED),
    "index leads to a pickle": (index_to_pickle, "index.json names 'pytorch_model.bin', and only safetensors are read"),
    "index leads up": (index_to("../elsewhere.safetensors"), "index.json leads out of the folder: '../elsewhere.safetensors'"),
    "index leads to the root": (index_to("/elsewhere.safetensors"), "index.json leads out of the folder: '/elsewhere"),
    "index leads up, Windows": (index_to("..\\elsewhere.safetensors"), "index.json leads out of the folder: "),
    "index leads to a drive": (index_to("c:elsewhere.safetensors"), "index.json leads out of the folder: "),
    "index names a missing file": (index_of_missing_file, "m: model-00002-of-00002.safetensors is missing, which "),
    "index names a missing tensor": (index_of_missing_tensor, "model-00001-of-00001.safetensors does not contain bert.more"),
    "index without metadata": (index_without_metadata, "index.json is damaged: weight_map or metadata is missing"),
    "index of nothing": (index_of_nothing, "index.json is damaged: weight_map or metadata is missing"),
    "weights are a link": (weights_are_a_link, "m: 'model.safetensors' is a link out of the folder"),
    "vocabulary is a link": (vocabulary_is_a_link, "m: 'vocab.txt' is a link out of the folder"),
    "link in a circle": (link_in_a_circle, "m: 'vocab.txt' is a link out of the folder"),
    "pipe": (pipe, "m: 'added_tokens.json' is not a regular file"),
    "own code": (own_code, "m: config.json: auto_map: the model needs code of its own, which petkit never runs"),
    "header longer than the file": (header(TENSOR, bytes(16), length=2**40), DAMAGED),
    "data shorter than claimed": (header(TENSOR, bytes(8)), DAMAGED),
    "data longer than claimed": (header(TENSOR, bytes(64)), DAMAGED),
    "shape and data differ": (header({**TENSOR, "shape": [2, 3]}, bytes(16)), DAMAGED),
    "shape overflows": (header({**TENSOR, "shape": [2**62, 2**62]}, bytes(16)), DAMAGED),
    "offsets turn back": (header({**TENSOR, "data_offsets": [16, 0]}, bytes(16)), DAMAGED),
    "unknown kind of number": (header({**TENSOR, "dtype": "PICKLE"}, bytes(16)), DAMAGED),
    "no tensors": (whole("model.safetensors", b""), DAMAGED),
    "another vocabulary size": (config(vocab_size=2**30), "config.json describes"),
    "another width": (config(hidden_size=48), "m: cannot be loaded: its weights have other shapes than config.json says"),
    "absurd width": (config(hidden_size=2**20), "m: config.json describes "),
    "absurd number": (config(intermediate_size=2**40), "is more than any model has"),
    "absurd depth": (config(num_hidden_layers=10**6), "m: config.json: num_hidden_layers: 1000000 is more than any model has"),
    "absurd positions": (config(max_position_embeddings=2**30), "m: config.json: max_position_embeddings: 1073741824 is more"),
    "absurd number of labels": (config(num_labels=10**9), "m: config.json: num_labels: 1000000000 is more than any model has"),
    "number of thousands of digits": (whole("config.json", f'{{"model_type": "bert", "vocab_size": {"9" * 4000}}}'), "m: config"),
    "width is a word": (config(hidden_size="wide"), "m: config.json: hidden_size: expected int, got str (value: 'wide')"),
    "epsilon is NaN": (config(layer_norm_eps=float("nan")), "m: config.json: layer_norm_eps: must be a number, not NaN"),
    "epsilon is 0": (config(layer_norm_eps=0.0), "m: config.json: layer_norm_eps: must be above 0 and below 1, not 0.0"),
    "negative number of heads": (config(num_attention_heads=-2), "m: config.json: num_attention_heads: must be at least 1, not -2"),
    "number format is a module": (config(dtype="os"), "m: config.json: dtype: must be a number format of torch"),
    "outputs without names": (config(return_dict=False), "m: config.json: return_dict: must be true"),
    "rows in chunks": (config(chunk_size_feed_forward=7), "m: config.json: chunk_size_feed_forward: must be 0"),
    "configuration is a folder": (config_is_a_folder, "m: not a model folder: config.json is not a regular file"),
    "width is negative": (config(hidden_size=-32), "m: config.json: hidden_size: must be at least 1, not -32"),
    "negative number of 400 digits": (config(num_attention_heads=-(10**400)), "num_attention_heads: must be at least 1, not -1000"),
    "heads do not divide": (config(num_attention_heads=5), "m: "),
    "padding beyond the vocabulary": (config(pad_token_id=10**6), "m: "),
    "nested a thousand times": (whole("config.json", '{"a":' * 5000 + "1" + "}" * 5000), "m: config.json is not valid JSON"),
    "nested within bounds": (config(deep=json.loads("[" * 900 + "]" * 900)), "m: "),
    "configuration of many megabytes": (whole("config.json", b'{"a":"' + b"a" * (17 * 2**20) + b'"}'), "m: config.json is larger"),
    "quantised": (config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "quantization_config: the"),
    "other weight file": (config(transformers_weights="adapter_model.bin"), "m: config.json: transformers_weights: names other"),
    "fused code": (config(fusion_config={"a": True}), "m: config.json: fusion_config: changes the model's code"),
    "attention from the hub": (config(attn_implementation="nobody/kernel"), "attn_implementation: names code to be downloaded"),
    "hidden attention from the hub": (config(_attn_implementation={"": "nobody/kernel"}), "names code to be downloaded"),
    "attention not installed": (config(attn_implementation="flash_attention_2"), "m: cannot be loaded: "),
    "value that is not a number": (with_value(float("nan")), "layer.1.output.dense.weight contains NaN or Inf"),
    "infinite value": (with_value(float("-inf")), "layer.1.output.dense.weight contains NaN or Inf"),
    "no head": (change_weights(without_head), "m: the checkpoint has no masked-LM head: cls.predictions"),
    "tokens beyond the model's": (more_words, "m: the tokenizer has tokens up to number 5,000, and the model's vocabulary ends at"),
    "tokenizer is missing": (lambda folder, mark: (folder / "tokenizer.json").unlink(), "m: the tokenizer has no words (add its file"),
    "tokenizer is a pickle": (lambda folder, mark: (folder / "tokenizer.json").write_bytes(mark.pickle()) and None, "m: "),  # type: ignore[func-returns-value]
    "tokenizer of nothing": (whole("tokenizer.json", "{}"), "m: cannot be loaded: "),
    "tokenizer files elsewhere": (tokenizer_config(fast_tokenizer_files=["tokenizer.a/../../b.json"]), "leads out of the folder"),
    "tokenizer from other files": (tokenizer_config(init_inputs=["/etc/passwd"]), "tokenizer_config.json: init_inputs: "),
    "tokenizer configuration is a list": (whole("tokenizer_config.json", "[]"), "m: tokenizer_config.json is not valid JSON"),
    "length is a word": (tokenizer_config(model_max_length="long"), "m: "),
    "length is negative": (tokenizer_config(model_max_length=-1), "tokenizer_config.json: model_max_length: must be a number of"),
}  # fmt: skip


def load_all(name: str) -> None:
    """Load what a pipeline loads of a model, in the same order."""
    longest_input(load_config(name), load_tokenizer(name))
    load_language_model(name)


@pytest.mark.parametrize("case", CASES)
def test_hostile_folder_is_refused(case: str, model: Path, mark: Mark) -> None:
    spoil, reported = CASES[case]
    spoil(model, mark)

    with pytest.raises(ModelRefused) as refused:
        load_all("m")

    assert reported in str(refused.value) and "\n" not in str(refused.value)
    mark.check()


BY_COMMAND = (
    "pickled weights", "pickle called safetensors", "index leads to a pickle", "index leads up", "weights are a link",
    "own code", "absurd width", "value that is not a number", "tokens beyond the model's", "length is negative",
)  # fmt: skip


@pytest.mark.parametrize("case", BY_COMMAND)
def test_hostile_folder_is_refused_by_the_command(case: str, tiny: Path, model: Path, mark: Mark, petkit_command: Petkit) -> None:
    spoil, reported = CASES[case]
    spoil(model, mark)

    answer = petkit_command("run", "pipeline.yaml", "--set", "model=m")

    assert (answer.code, answer.out) == (2, "")
    assert reported in answer.err and len(answer.err.splitlines()) == 1 and "Traceback" not in answer.err
    assert not (tiny / "runs").exists()
    mark.check()


@pytest.mark.parametrize("case", BY_COMMAND)
def test_a_folder_changed_after_it_was_loaded_is_checked_again(case: str, model: Path, mark: Mark) -> None:
    load_all("m")
    change, expected = CASES[case]
    change(model, mark)

    with pytest.raises(ModelRefused) as refused:
        load_all("m")

    assert expected in str(refused.value)
    mark.check()


def test_a_change_that_keeps_size_and_modification_time_is_noticed(model: Path, mark: Mark) -> None:
    load_all("m")
    before = (model / "model.safetensors").stat()
    with_value(float("nan"))(model, mark)
    os.utime(model / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert (model / "model.safetensors").stat().st_size == before.st_size
    with pytest.raises(ModelRefused, match="contains NaN or Inf"):
        load_all("m")


def test_a_changed_configuration_is_a_copy(model: Path) -> None:
    load_config("m").hidden_size = 7

    assert load_config("m").hidden_size != 7


def test_the_pickle_and_the_module_would_leave_the_mark(mark: Mark, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickle.loads(mark.pickle())
    with pytest.raises(AssertionError):
        mark.check()
    mark.path.rmdir()
    (here / "hostile_module.py").write_text(mark.module())
    monkeypatch.syspath_prepend(here)
    __import__("hostile_module")
    del sys.modules["hostile_module"]
    with pytest.raises(AssertionError):
        mark.check()


def test_sound_shards_are_read(model: Path) -> None:
    expected = load_language_model("m").state_dict()
    sharded(model)

    assert all(torch.equal(value, expected[name]) for name, value in load_language_model("m").state_dict().items())


def test_code_beside_a_known_architecture_is_not_run(model: Path, mark: Mark) -> None:
    """Many published checkpoints name code that transformers has had of its own for long."""
    (model / "own.py").write_text(mark.module())
    auto_map = {"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    edit_json(model / "config.json", auto_map=auto_map)
    own = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}, "tokenizer_class": "OwnTokenizer"}
    edit_json(model / "tokenizer_config.json", **own)

    assert load_language_model("m").config.model_type == "bert"
    load_tokenizer("m")
    mark.check()


def test_special_tokens_no_text_can_spell_may_lie_beyond_the_vocabulary(model: Path) -> None:
    tokenizer = load_tokenizer("m").hf
    tokenizer.add_special_tokens({"extra_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(model)

    assert load_tokenizer("m").hf.convert_tokens_to_ids("<picture>") >= load_config("m").vocab_size


def test_checks_leave_the_random_numbers_of_a_new_head_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some architectures draw numbers while they are built, and the size of what a configuration asks for is seen by that."""
    from transformers import AutoModelForMaskedLM

    build = AutoModelForMaskedLM.from_config

    def draw_and_build(*arguments: object, **options: object) -> object:
        torch.rand(1, device="cpu")
        return build(*arguments, **options)

    monkeypatch.setattr(AutoModelForMaskedLM, "from_config", draw_and_build)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_language_model("m")

    assert torch.equal(torch.rand(3), expected)
