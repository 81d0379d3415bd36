"""The door to ``from_pretrained``: what comes in, and everything that must stay outside, with a message that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from petkit.errors import ModelRefused
from petkit.models import loading as embedded_model
from petkit.models.loading import (
    embedded_folder,
    load_classifier,
    load_config,
    load_masked_lm,
    load_tokenizer,
    longest_input,
    model_fingerprint,
    new_classifier,
)
from tests.tiny import ARCHITECTURES, MAX_LENGTH

Folder = Callable[[str], Path]
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES)


@pytest.fixture
def copy(model_folder: Folder, here: Path) -> Path:
    """A tiny BERT to damage, shown as ``m`` in messages."""
    return Path(shutil.copytree(model_folder("bert"), here / "m"))


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)


# -- the embedded model ------------------------------------------------------------------------------


def test_embedded_model_loads() -> None:
    tokenizer = load_tokenizer("embedded")
    model = load_masked_lm("embedded")
    encoded = tokenizer.hf("the capital of france is [MASK].", return_tensors="pt")
    position = encoded["input_ids"][0].tolist().index(tokenizer.mask_id)
    with torch.no_grad():
        logits = model(**encoded).logits[0, position]
    assert tokenizer.hf.decode(logits.topk(10).indices).split().count("paris") == 1
    assert not model.training


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for the installed assets, read in place of the real ones."""
    folder = tmp_path / "assets" / "minilm-mlm-en"
    folder.mkdir(parents=True)
    for name in ("config.json", "SHA256SUMS"):
        shutil.copy(embedded_folder() / name, folder / name)
    listed = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").write_text("\n".join(line for line in listed if line.endswith(" config.json")) + "\n")
    monkeypatch.setattr(embedded_model, "files", lambda package: tmp_path)
    embedded_model._verify_embedded.cache_clear()
    return folder


def test_whole_embedded_model_is_accepted(damaged: Path) -> None:
    assert embedded_folder() == damaged


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_embedded_model_is_refused(damaged: Path, damage: str) -> None:
    path = damaged / "config.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-1])
    if damage == "remove":
        path.unlink()
    with pytest.raises(ModelRefused, match=r"embedded model: config\.json is damaged or missing \(reinstall petkit\)"):
        load_masked_lm("embedded")


def test_embedded_model_without_its_checksums_is_refused(damaged: Path) -> None:
    (damaged / "SHA256SUMS").unlink()
    with pytest.raises(ModelRefused, match=r"embedded model: SHA256SUMS is missing \(reinstall petkit\)"):
        embedded_folder()


# -- folders -----------------------------------------------------------------------------------------


@every_architecture
def test_masked_lm_loads_in_float32_and_evaluation_mode(arch: str, model_folder: Folder) -> None:
    model = load_masked_lm(str(model_folder(arch)))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not model.training


def test_half_precision_weights_become_float32(model_folder: Folder, tmp_path: Path) -> None:
    load_masked_lm(str(model_folder("bert"))).to(torch.bfloat16).save_pretrained(tmp_path)
    assert {value.dtype for value in load_masked_lm(str(tmp_path)).parameters()} == {torch.float32}


def test_pickled_weights_beside_safetensors_are_not_read(copy: Path, no_pickle: None) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04this would run code")
    assert load_masked_lm(str(copy)) is not None


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_only(folder: Path) -> None:
    remove_weights(folder)
    torch.save({}, folder / "pytorch_model.bin")


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, r"no such model folder"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"m: not a model folder: config\.json is missing"),
    "bad json": (lambda folder: (folder / "config.json").write_text("{"), r"m: config\.json is not valid JSON"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), r"m: config\.json is not valid JSON"),
    "binary config": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), r"m: config\.json is not valid JSON"),
    "no type": (lambda folder: (folder / "config.json").write_text("{}"), r"m: cannot be loaded: "),
    "unknown type": (edit_config(model_type="nonesuch"), r"m: cannot be loaded: .*nonesuch"),
    "remote code": (
        edit_config(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.Model"}),
        r"m: config\.json: auto_map: the model needs code of its own",
    ),
    "no weights": (remove_weights, r"m: model\.safetensors is missing"),
    "pickle": (
        pickle_only,
        r"m: contains pickled weights, which can run code when loaded \(save the model again as safetensors\)",
    ),
    "truncated": (truncate_weights, r"m: the weights are damaged: "),
    "no tensors": (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"m: the weights are damaged: "),
    "other sizes": (edit_config(hidden_size=64), r"m: cannot be loaded: "),
    "causal": (edit_config(model_type="gpt2"), r"m: a 'gpt2' model has no masked-LM form \(use a BERT-like encoder\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_folders(case: str, copy: Path, no_pickle: None) -> None:
    damage, message = REFUSED[case]
    damage(copy)
    with pytest.raises(ModelRefused, match=message) as refused:
        load_masked_lm(str(copy))
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_encoder_without_a_masked_lm_head_is_refused(copy: Path) -> None:
    load_masked_lm(str(copy)).base_model.save_pretrained(copy)
    with pytest.raises(ModelRefused, match=r"m: the checkpoint has no masked-LM head: cls\.predictions\S+ is missing \(use a"):
        load_masked_lm(str(copy))


def test_classifier_is_not_a_masked_lm(copy: Path) -> None:
    new_classifier(str(copy), ["a", "b"])[0].save_pretrained(copy)
    with pytest.raises(ModelRefused, match="no masked-LM head"):
        load_masked_lm(str(copy))


def test_unknown_hub_name_offline() -> None:
    with pytest.raises(ModelRefused, match="nobody/nothing: not a local folder, and could not be downloaded from the Hub: "):
        load_config("nobody/nothing")


@pytest.mark.parametrize(
    ("token", "needs_mask", "message"), [("mask_token", True, "no mask token"), ("pad_token", False, "no padding")]
)
def test_tokenizer_without_a_needed_token_is_refused(copy: Path, token: str, needs_mask: bool, message: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy)
    setattr(tokenizer, token, None)
    tokenizer.save_pretrained(copy)
    with pytest.raises(ModelRefused, match=f"m: the tokenizer has {message}"):
        load_tokenizer(str(copy), needs_mask=needs_mask)


def test_a_student_needs_no_mask_token(copy: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(copy)
    assert load_tokenizer(str(copy), needs_mask=False).mask_id == -1


# -- identity and length -----------------------------------------------------------------------------


def test_fingerprint_follows_content_not_place(copy: Path, model_folder: Folder) -> None:
    assert model_fingerprint(str(copy)) == model_fingerprint(str(model_folder("bert")))
    (copy / "README.md").write_text("says nothing about the numbers")
    assert model_fingerprint(str(copy)) == model_fingerprint(str(model_folder("bert")))


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "spm.model", "sentencepiece.bpe.model",
     "special_tokens_map.json", "added_tokens.json", "vocab.txt", "merges.txt"],
)  # fmt: skip
def test_fingerprint_changes_with_weights_tokenizer_and_configuration(copy: Path, name: str) -> None:
    before = model_fingerprint(str(copy))
    path = copy / name
    content = path.read_bytes() if path.exists() else b"{}" if name.endswith(".json") else b""
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if name == "model.safetensors" else content + b" ")
    assert model_fingerprint(str(copy)) != before


@every_architecture
def test_longest_input_can_be_read_and_one_more_cannot(arch: str, model_folder: Folder) -> None:
    """The RoBERTa family numbers its positions from the padding index on, so 64 positions hold 62 tokens."""
    folder = str(model_folder(arch))
    tokenizer, config, model = load_tokenizer(folder), load_config(folder), load_masked_lm(folder)
    tokenizer.hf.model_max_length = 10**30
    longest = longest_input(config, tokenizer)
    assert longest == (MAX_LENGTH - 2 if arch in ("roberta", "xlm-roberta", "mpnet") else MAX_LENGTH)
    word = tokenizer.encode(["good"])[0][0]
    with torch.no_grad():
        assert model(input_ids=torch.full((1, longest), word)).logits.shape[1] == longest
        if arch not in ("deberta-v2", "modernbert"):  # their positions are relative
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, longest + 1), word))


def test_longest_input_keeps_the_tokenizers_own_limit(model_folder: Folder) -> None:
    tokenizer = load_tokenizer(str(model_folder("bert")))
    tokenizer.hf.model_max_length = 40
    assert longest_input(load_config(str(model_folder("bert"))), tokenizer) == 40


# -- classifiers -------------------------------------------------------------------------------------


@every_architecture
def test_classifier_round_trip(arch: str, model_folder: Folder, tmp_path: Path) -> None:
    labels = ("World", "Sci/Tech", "non-été")
    torch.manual_seed(3)
    model, _ = new_classifier(str(model_folder(arch)), labels)
    model.save_pretrained(tmp_path)
    again = load_classifier(str(tmp_path))
    assert again.config.id2label == {0: "World", 1: "Sci/Tech", 2: "non-été"}
    assert again.config.label2id == {"World": 0, "Sci/Tech": 1, "non-été": 2}
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    inputs = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():  # some processors round by where in memory a weight begins
        torch.testing.assert_close(again(input_ids=inputs).logits, model(input_ids=inputs).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("multi", "problem"), [(False, "single_label_classification"), (True, "multi_label_classification")])
def test_classifier_says_whether_rows_may_have_several_labels(
    multi: bool, problem: str, model_folder: Folder, tmp_path: Path
) -> None:
    new_classifier(str(model_folder("bert")), ["a", "b"], multi=multi)[0].save_pretrained(tmp_path)

    assert load_classifier(str(tmp_path)).config.problem_type == problem


def test_new_head_follows_the_seed_and_the_encoder_does_not(model_folder: Folder) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(new_classifier(str(model_folder("bert")), ["a", "b"])[0].state_dict())
    assert torch.equal(states[0]["classifier.weight"], states[1]["classifier.weight"])
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(states[0][name], states[2][name])


def test_masked_lm_is_not_a_classifier(copy: Path) -> None:
    with pytest.raises(ModelRefused, match=r"m: not a sequence classifier: \S+ is missing"):
        load_classifier(str(copy))
