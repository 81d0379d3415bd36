"""Loading models and tokenizers, and refusing those petkit cannot use; the only door to ``from_pretrained``.

Safetensors only, never remote code, weights always as float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petkit.errors import ModelRefused, shown_path
from petkit.lm.architectures import VISION_LANGUAGE, is_causal, why_not_left_to_right
from petkit.proof import refuse_damaged
from petkit.task.tokenization import PieceTokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from petkit.lm.four_bit import FourBit

EMBEDDED = "embedded"
_EMBEDDED_FOLDER = "minilm-mlm-en"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_IDENTITY_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
)


def embedded_folder() -> Path:
    """Return the folder of the model that ships with petkit.

    Raises:
        ModelRefused: the installed copy is damaged.
    """
    folder = Path(str(files("petkit"))) / "assets" / _EMBEDDED_FOLDER
    _verify_embedded(folder)
    return folder


@lru_cache(maxsize=1)
def _verify_embedded(folder: Path) -> None:
    listed = folder / "SHA256SUMS"
    if not listed.is_file():
        raise ModelRefused(f"embedded model: {listed.name} is missing (reinstall petkit)")
    sums = listed.read_text().split()
    for expected, name in zip(sums[::2], sums[1::2], strict=True):
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise ModelRefused(f"embedded model: {name} is damaged or missing (reinstall petkit)")


def model_source(name: str) -> str:
    """Return what transformers loads for ``name``: a folder, or a hub name as it stands.

    Raises:
        ModelRefused: a folder that does not exist, is no model folder, holds pickled weights only, or was damaged.
    """
    if name == EMBEDDED:
        return str(embedded_folder())
    folder = Path(name)
    if folder.is_dir():
        _check_folder(folder)
        refuse_damaged(folder)
        return str(folder)
    if folder.is_absolute() or name.startswith("."):
        raise ModelRefused(f"{shown_path(name)}: no such model folder")
    return name


def _check_folder(folder: Path) -> None:
    shown = shown_path(folder)
    config = folder / "config.json"
    if not config.is_file():
        raise ModelRefused(f"{shown}: is no model folder: config.json is missing")
    try:
        is_mapping = isinstance(json.loads(config.read_text(encoding="utf-8")), dict)
    except (ValueError, OSError):
        is_mapping = False
    if not is_mapping:
        raise ModelRefused(f"{shown}: config.json is not valid JSON")
    adapted = (folder / "adapter_config.json").is_file()
    if not any((folder / name).is_file() for name in (*_WEIGHTS, "adapter_model.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = (
            "holds pickled weights, which can run code when loaded (save the model again as safetensors)"
            if pickled
            else f"{'adapter_model' if adapted else 'model'}.safetensors is missing"
        )
        raise ModelRefused(f"{shown}: {why}")


def model_fingerprint(name: str) -> str:
    """Return a hash that changes with the model's weights, tokenizer or configuration."""
    source = model_source(name)
    folder = Path(source)
    if not folder.is_dir():
        config = load_config(name)
        return f"hub:{name}@{getattr(config, '_commit_hash', None)}"
    paths = [path for path in sorted(folder.iterdir()) if path.name in _IDENTITY_FILES or path.suffix == ".safetensors"]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}:{_sha256(path)}\n".encode())
    return digest.hexdigest()


def load_config(name: str) -> PretrainedConfig:
    """Load a model's configuration.

    Raises:
        ModelRefused: not to be had.
    """
    from transformers import AutoConfig

    config: PretrainedConfig = _load(AutoConfig, name)
    return config


def load_tokenizer(name: str, *, needs_mask: bool = True) -> PieceTokenizer:
    """Load a tokenizer.

    Raises:
        ModelRefused: not to be had, or without a mask token where one is needed (causal models need none).
    """
    from transformers import AutoTokenizer

    hf, causal = _load(AutoTokenizer, name), is_causal(load_config(name))
    if causal:
        # Rows are padded on the right here, and must be by whoever takes the tokenizer from a student's folder.
        hf.padding_side = "right"
        if hf.pad_token_id is None and hf.eos_token_id is not None:
            hf.pad_token = hf.eos_token  # attention never sees it
    return PieceTokenizer(hf, shown_name(name), needs_mask=needs_mask, causal=causal and needs_mask)


def longest_input(config: PretrainedConfig, tokenizer: PieceTokenizer) -> int:
    """Return how many tokens the model can read, special tokens included."""
    limits = [int(tokenizer.hf.model_max_length)]
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # The RoBERTa family counts positions from the padding index on.
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    return min(limits)


_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "longformer"}
)


def check_masked_lm(config: PretrainedConfig, name: str) -> None:
    """Refuse architectures without a masked-LM form, before any weight is read.

    Raises:
        ModelRefused: with the cure.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelRefused(f"{shown_name(name)}: a {config.model_type!r} model has no masked-LM form (use a BERT-like encoder)")


def check_language_model(config: PretrainedConfig, name: str) -> None:
    """Refuse architectures that are neither masked nor causal language models, before any weight is read.

    Raises:
        ModelRefused: with the cure.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if not is_causal(config) and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        why = f"a {config.model_type!r} model is neither a masked nor a causal language model"
        raise ModelRefused(f"{shown_name(name)}: {why} (use a BERT-like encoder, or one such as GPT-2)")


def load_language_model(name: str, attention: str | None = None, four_bit: FourBit | None = None) -> PreTrainedModel:
    """Load a masked or a causal language model, whichever it is, in float32, in evaluation mode.

    Args:
        attention: transformers' attention implementation; default: its own choice.
        four_bit: holds the linear layers below the head in 4 bits.

    Raises:
        ModelRefused: not to be had, unsafe, of the wrong kind, or without a trained language-model head.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    config = load_config(name)
    if not is_causal(config):
        return load_masked_lm(name, attention, four_bit)
    kind = AutoModelForImageTextToText if config.model_type in VISION_LANGUAGE else AutoModelForCausalLM
    model, info = _load_weights(kind, name, **_attention(attention))
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelRefused(
            f"{shown_name(name)}: the checkpoint has no language-model head: {missing[0]} is missing"
            f" (use a checkpoint saved from {kind.__name__})"
        )
    why = why_not_left_to_right(model)
    if why:
        cure = "use one that reads from left to right, such as GPT-2, Llama or Qwen2"
        raise ModelRefused(f"{shown_name(name)}: a {config.model_type!r} model {why} ({cure})")
    if four_bit is not None:
        four_bit.hold(model)
    return model


def load_masked_lm(name: str, attention: str | None = None, four_bit: FourBit | None = None) -> PreTrainedModel:
    """Load a masked language model in float32, in evaluation mode.

    Args:
        attention: transformers' attention implementation; default: its own choice.
        four_bit: holds the encoder's linear layers in 4 bits; the head stays as it is.

    Raises:
        ModelRefused: not to be had, unsafe, of the wrong kind, or without a trained masked-LM head.
    """
    from transformers import AutoModelForMaskedLM

    check_masked_lm(load_config(name), name)
    model, info = _load_weights(AutoModelForMaskedLM, name, **_attention(attention))
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelRefused(
            f"{shown_name(name)}: the checkpoint has no masked-LM head: {missing[0]} is missing"
            " (use a checkpoint saved from AutoModelForMaskedLM)"
        )
    if four_bit is not None:
        four_bit.hold(model)
    return model


def check_classifier(config: PretrainedConfig, name: str) -> None:
    """Refuse architectures that cannot be a student, before any weight is read.

    Raises:
        ModelRefused: with the cure.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        why = f"a {config.model_type!r} model has no classifier form"
        raise ModelRefused(f"{shown_name(name)}: {why} (name another as student.model, such as embedded)")


def new_classifier(
    name: str, labels: Sequence[str], attention: str | None = None, *, multi: bool = False, four_bit: FourBit | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Load a backbone with a new classification head; the head is drawn from torch's current random state.

    Its configuration tells transformers whether labels share a softmax or, where rows may have several (``multi``), each
    has a sigmoid of its own. With ``four_bit`` the encoder's linear layers are held in 4 bits, but not those that are new.

    Returns:
        The model, and the names of the parameters that the backbone's checkpoint did not hold.
    """
    from transformers import AutoModelForSequenceClassification

    model, info = _load_weights(
        AutoModelForSequenceClassification,
        name,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="multi_label_classification" if multi else "single_label_classification",
        **_attention(attention),
    )
    if is_causal(model.config):
        # Its head reads the last token that is no padding, and asks the configuration what padding is.
        model.config.get_text_config().pad_token_id = load_tokenizer(name, needs_mask=False).pad_id
    new = sorted(info["missing_keys"])
    if four_bit is not None:
        four_bit.hold(model, spared=new)
    return model, new


def load_classifier(folder: str) -> PreTrainedModel:
    """Load a finished classifier.

    Raises:
        ModelRefused: not to be had, or its head was never trained.
    """
    from transformers import AutoModelForSequenceClassification

    model, info = _load_weights(AutoModelForSequenceClassification, folder)
    if info["missing_keys"]:
        raise ModelRefused(f"{shown_name(folder)}: is no sequence classifier: {sorted(info['missing_keys'])[0]} is missing")
    return model


def shown_name(name: str) -> str:
    """Return a model's name for messages."""
    return f"the embedded model ({_EMBEDDED_FOLDER})" if name == EMBEDDED else shown_path(name) if Path(name).is_dir() else name


def _attention(implementation: str | None) -> dict[str, str]:
    return {} if implementation is None else {"attn_implementation": implementation}


def _load_weights(kind: Any, name: str, **options: Any) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    import torch

    if (Path(model_source(name)) / "adapter_config.json").is_file():
        # transformers would fetch whatever model that file names.
        raise ModelRefused(f"{shown_name(name)}: holds an adapter, and no model of its own (name the model it belongs to)")
    model, info = _load(kind, name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options)
    model.eval()
    return model, info


def _load(kind: Any, name: str, **options: Any) -> Any:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import logging as hub_logging
    from safetensors import SafetensorError
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    quiet.set_verbosity_error()
    told_once: Any = hub_logging
    told_once.set_verbosity_error()  # a name that is not to be had is told once, and not at every attempt
    source = model_source(name)
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except SafetensorError as error:
        raise ModelRefused(f"{shown_name(name)}: the weights are damaged: {error}") from None
    except (OSError, ValueError, KeyError, RuntimeError, HfHubHTTPError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        cure = "" if Path(source).is_dir() else "; it is no folder here, and as a hub name it needs the network once"
        raise ModelRefused(f"{shown_name(name)}: cannot be loaded{cure}: {first_line}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
