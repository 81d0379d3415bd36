"""Loading models and tokenizers, and refusing those petkit cannot use; the only door to ``from_pretrained``.

Safetensors only, never remote code, weights always as float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petkit.errors import ModelRefused, PetkitError, first_line, shown_path
from petkit.models.architectures import VISION_LANGUAGE, is_causal, why_not_left_to_right
from petkit.models.embedded import FOLDER_NAME, embedded_folder
from petkit.models.hub import hub_folder
from petkit.models.safety.model_folder import ADAPTER_CONFIG, VOCABULARIES, check_model_folder, refuse_strange_vocabulary
from petkit.models.safety.weight_files import numbers_in, refuse_absurd, refuse_not_finite, without_numbers
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.integrity import refuse_damaged, sha256

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from petkit.models.adapters.four_bit import FourBit

EMBEDDED = "embedded"
_IDENTITY_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *VOCABULARIES,
)


def model_source(name: str) -> str:
    """Return the folder that ``name`` means, after a look at what lies in it; a hub model is fetched into the local cache.

    Raises:
        ModelRefused: a folder or hub model that does not exist, is damaged, or would do anything but load.
    """
    if name == EMBEDDED:
        return str(embedded_folder())
    folder = Path(name)
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith("."):
            raise ModelRefused(f"{shown_path(name)}: no such model folder")
        folder = hub_folder(name)
    check_model_folder(folder)
    refuse_damaged(folder)
    return str(folder)


def model_fingerprint(name: str) -> str:
    """Return a hash that changes with the model's weights, tokenizer or configuration, wherever it lies."""
    folder = Path(model_source(name))
    paths = [path for path in sorted(folder.iterdir()) if path.name in _IDENTITY_FILES or path.suffix == ".safetensors"]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}:{sha256(path)}\n".encode())
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

    config = load_config(name)
    hf, causal = _load(AutoTokenizer, name), is_causal(config)
    with _loading(name):
        refuse_strange_vocabulary(hf, config, shown_name(name))
    if causal:
        # Rows are padded on the right here, and must be by whoever takes the tokenizer from a student's folder.
        hf.padding_side = "right"
        if hf.pad_token_id is None and hf.eos_token_id is not None:
            hf.pad_token = hf.eos_token  # attention never sees it
    return PieceTokenizer(hf, shown_name(name), needs_mask=needs_mask, causal=causal and needs_mask)


def longest_input(config: PretrainedConfig, tokenizer: PieceTokenizer) -> int:
    """Return how many tokens the model can read, special tokens included.

    Raises:
        ModelRefused: its tokenizer tells something else.
    """
    longest = tokenizer.hf.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:  # written in a file of the folder
        raise ModelRefused(
            f"{tokenizer.name}: tokenizer_config.json: model_max_length: must be a number of tokens, not {longest!r:.50}"
        )
    limits = [int(min(longest, _NO_LIMIT))]
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # The RoBERTa family counts positions from the padding index on.
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    return min(limits)


_NO_LIMIT = 10**30
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
        hint = "use one that reads from left to right, such as GPT-2, Llama or Qwen2"
        raise ModelRefused(f"{shown_name(name)}: a {config.model_type!r} model {why} ({hint})")
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
    return f"the embedded model ({FOLDER_NAME})" if name == EMBEDDED else shown_path(name) if Path(name).is_dir() else name


def _attention(implementation: str | None) -> dict[str, str]:
    return {} if implementation is None else {"attn_implementation": implementation}


def _load_weights(kind: Any, name: str, **options: Any) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    import torch

    folder = Path(model_source(name))
    if (folder / ADAPTER_CONFIG).is_file():
        # transformers would fetch whatever model that file names.
        raise ModelRefused(f"{shown_name(name)}: holds an adapter, and no model of its own (name the model it belongs to)")
    config = load_config(name)
    with _loading(name):
        refuse_absurd(_numbers_asked(kind, config), numbers_in(folder), shown_name(name))
    model, info = _load(kind, name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options)
    refuse_not_finite(dict(model.named_parameters()), shown_name(name))
    model.eval()
    return model, info


def _numbers_asked(kind: Any, config: PretrainedConfig) -> int:
    """Return how many numbers a configuration asks for; none of them is made."""
    model = without_numbers(kind, config)
    return sum(value.numel() for value in (*model.parameters(), *model.buffers()))


def _load(kind: Any, name: str, **options: Any) -> Any:
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    quiet.set_verbosity_error()
    source = model_source(name)
    with _loading(name):
        return kind.from_pretrained(source, trust_remote_code=False, **options)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Refuse the model where building something from its files fails; what odd files make libraries raise is anybody's guess.

    Raises:
        ModelRefused: in one line.
    """
    from safetensors import SafetensorError

    try:
        yield
    except PetkitError:
        raise
    except SafetensorError as error:
        raise ModelRefused(f"{shown_name(name)}: the weights are damaged: {error}") from None
    except BaseException as error:
        # The tokenizers' own panics are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = first_line(error)
        if "ignore_mismatched_sizes" in why:  # the report it speaks of is not shown
            why = "its weights have other shapes than config.json says"
        raise ModelRefused(f"{shown_name(name)}: cannot be loaded: {why:.500}") from None
