"""Checks of model and adapter folders before anything is built from them.

Their authors are not trusted. Loading a folder must not run code that is in it or that it names, read files outside it, download
anything, or take memory that its weights do not account for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from petkit.errors import ModelRefused, did_you_mean, shown_path
from petkit.models.safety.config_values import config_mistake
from petkit.models.safety.weight_files import INDEX, WEIGHTS, header_of, numbers_in, read_mapping
from petkit.storage.integrity import is_hub_snapshot

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONFIG_FILE, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
_SMALL_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
_SENTENCEPIECE = ("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", *_SENTENCEPIECE)
_LARGEST_VOCABULARY = 256 * 2**20
# Keys by which a configuration would load something other than the folder's own safetensors.
_FOREIGN = {
    "quantization_config": "the weights are quantised (use the checkpoint in full precision)",
    "transformers_weights": "names other weight files (save the model again as model.safetensors)",
    "fusion_config": "changes the model's code (remove it)",
}
# Most of what a model is built from one by one, so that building it ends; the deepest models known have some two hundred
# layers. Sizes are compared with the weights, see `refuse_absurd`.
_MOST = {
    re.compile(r"(^|_)(layers?|blocks?|block_sizes|depths?)$"): 1000,
    re.compile(r"^num_labels$"): 100_000,
    re.compile(r"position"): 2**24,
    # Bases of rotary embeddings, scales and token numbers are no sizes; infinitely large ones only overflow.
    re.compile(r"^(?!.*(theta|base|scal|factor|ids?$))"): 2**31 - 1,
    re.compile(r""): 2**63 - 1,
}
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_LABEL_NAMES = ("id2label", "label2id")  # whose keys are the labels of a classifier
_TICK = 20_000_000  # nanoseconds in which a file system may give two changes the same time
FileTimes: TypeAlias = tuple[tuple[str, int, int, int, int], ...]
_ADAPTERS = ("LORA", "IA3", "PREFIX_TUNING", "P_TUNING", "PROMPT_TUNING")


def file_times(folder: Path) -> FileTimes:
    """Return name, inode, bytes and times of every file right in a folder: they differ after any change of one of them."""
    found = []
    for path in sorted(folder.iterdir()):
        for stat in (path.lstat, path.stat):  # a link, and what it leads to
            try:
                info = stat()
            except OSError:  # a link to nothing
                continue
            if 0 <= time.time_ns() - info.st_ctime_ns < _TICK:
                time.sleep(_TICK / 1e9)
            found.append((path.name, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
    return tuple(found)


def check_model_folder(folder: Path) -> int:
    """Refuse a model folder that is damaged, or would do anything but load; return how many numbers its weights contain."""
    shown = shown_path(folder)
    if not (folder / CONFIG_FILE).is_file():
        what = "is not a regular file" if (folder / CONFIG_FILE).exists() else "is missing"
        raise ModelRefused(f"{shown}: not a model folder: {CONFIG_FILE} {what}")
    refuse_links(folder)
    _check_config(read_mapping(folder / CONFIG_FILE), shown)
    for name in _SMALL_FILES:
        if not (folder / name).is_file():
            continue
        content = read_mapping(folder / name)
        listed = content.get("fast_tokenizer_files") or ()
        if not isinstance(listed, list | tuple) or any(not isinstance(file, str) or re.search(r"[/\\]", file) for file in listed):
            raise ModelRefused(f"{shown}: {name}: fast_tokenizer_files leads out of the folder (remove it)")
        if content.get("init_inputs"):
            raise ModelRefused(f"{shown}: {name}: init_inputs: petkit reads no tokenizer made from other files (remove it)")
    for name in VOCABULARIES:
        if (folder / name).is_file() and (folder / name).stat().st_size > _LARGEST_VOCABULARY:
            raise ModelRefused(
                f"{shown}: {name} is larger than {_LARGEST_VOCABULARY / 2**20:,.0f} MiB, too large for a vocabulary"
            )
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return numbers_in(folder)
    if (folder / ADAPTER_WEIGHTS).is_file():
        header_of(folder / ADAPTER_WEIGHTS)
        return 0
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        why = "contains pickled weights, which can run code when loaded (save the model again as safetensors)"
    else:
        why = f"{ADAPTER_WEIGHTS if (folder / ADAPTER_CONFIG).is_file() else WEIGHTS} is missing"
    raise ModelRefused(f"{shown}: {why}")


def check_adapter_folder(folder: Path) -> None:
    """Refuse a folder whose adapter petkit does not know, or that needs more than its own tensors.

    The model it names is never looked up: the caller chooses the model.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    shown = f"{shown_path(folder)}: {ADAPTER_CONFIG}"
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelRefused(f"{shown} is missing or damaged: no such file")
    refuse_links(folder)
    content = read_mapping(folder / ADAPTER_CONFIG)
    kind = content.get("peft_type")
    if kind not in _ADAPTERS:
        raise ModelRefused(f"{shown}: peft_type: {kind!r:.50} is none of {', '.join(_ADAPTERS)}")
    if content.get("auto_mapping"):
        raise ModelRefused(f"{shown}: auto_mapping names code to be run, which petkit never does (remove it)")
    known = [*PEFT_TYPE_TO_CONFIG_MAPPING[kind].__dataclass_fields__, "modules_to_save"]
    if unknown := sorted(content.keys() - set(known)):
        raise ModelRefused(f"{shown}: unknown key {unknown[0]!r:.50} ({did_you_mean(unknown[0], known)})")


def refuse_links(folder: Path) -> None:
    """Refuse a folder that contains a link out of it, or something that is neither a file nor a folder.

    The hub's cache consists of links: those of a snapshot may lead to the blobs of the same model.
    """
    whole = folder.resolve()
    root = whole.parent.parent if is_hub_snapshot(folder) else whole
    for entry in sorted(folder.iterdir()):
        try:
            leaves = entry.is_symlink() and not entry.resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # a link in a circle
            leaves = True
        if leaves:
            raise ModelRefused(
                f"{shown_path(folder)}: {entry.name!r:.100} is a link out of the folder (put the file itself there)"
            )
        if not entry.is_file() and not entry.is_dir():  # reading a pipe would wait for ever
            raise ModelRefused(f"{shown_path(folder)}: {entry.name!r:.100} is not a regular file")


def refuse_strange_vocabulary(tokenizer: Any, config: PretrainedConfig, shown: str) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding for, or without words.

    Where the file with the words is missing, transformers makes a tokenizer of special tokens only. Special tokens that no text
    can spell do not count: some checkpoints list more of those than they have embeddings.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(rows, int):
        return  # a model that reads characters
    used = {getattr(tokenizer, f"{kind}_token_id") for kind in ("mask", "pad", "cls", "sep", "bos", "eos", "unk")}
    unspellable = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special} - used
    words = tokenizer.get_vocab()
    if len(words) <= len({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}):
        raise ModelRefused(f"{shown}: the tokenizer has no words (add its file to the folder, such as tokenizer.json)")
    highest = max((index for index in words.values() if index not in unspellable), default=-1)
    if highest >= rows:
        raise ModelRefused(
            f"{shown}: the tokenizer has tokens up to number {highest:,}, and the model's vocabulary ends at {rows - 1:,}:"
            " they do not belong together"
        )


def _check_config(config: Mapping[str, Any], shown: str) -> None:
    from transformers import CONFIG_MAPPING

    place = f"{shown}: {CONFIG_FILE}"
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
        raise ModelRefused(f"{place}: auto_map: the model needs code of its own, which petkit never runs (use another model)")
    try:
        entries = list(_entries({key: value for key, value in config.items() if key not in _LABEL_NAMES}))
    except RecursionError:
        raise ModelRefused(f"{place}: nested too deeply") from None
    for key, value in entries:
        if key in _FOREIGN and value:
            raise ModelRefused(f"{place}: {key}: {_FOREIGN[key]}")
        if "_implementation" in key and "/" in repr(value):
            raise ModelRefused(f"{place}: {key}: names code to be downloaded, which petkit never runs (remove it)")
        if key in _LAYERS and isinstance(value, int) and value < 1:
            raise ModelRefused(f"{place}: {key}: a model needs at least one layer, not {value}")
        if isinstance(value, int) and any(value > most and pattern.search(key) for pattern, most in _MOST.items()):
            raise ModelRefused(f"{place}: {key}: {str(value)[:20]} is more than any model has")
        if mistake := config_mistake(key, value):
            raise ModelRefused(f"{place}: {key}: {mistake}")


def _entries(data: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value below ``data`` with the nearest key above it."""
    inside = data.items() if isinstance(data, Mapping) else ((key, value) for value in data) if isinstance(data, list) else ()
    for name, value in inside:
        yield name, value
        yield from _entries(value, name)
