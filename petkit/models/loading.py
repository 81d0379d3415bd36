"""Loading models and tokenizers: the only calls of ``from_pretrained``.

Safetensors only, never remote code, weights always as float32. A folder is checked, and its configuration parsed, once for as
long as its files stay the same. Tokenizers are loaded again each time: copying one takes as long.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petkit.errors import ModelRefused, PetkitError, first_line, shown_path
from petkit.models.architectures import (
    Scoring,
    WantedScoring,
    is_causal,
    is_masked_lm,
    language_model_class,
    scoring_of,
    why_not_left_to_right,
)
from petkit.models.hub import hub_folder
from petkit.models.safety.config_values import validation_mistake
from petkit.models.safety.model_folder import (
    ADAPTER_CONFIG,
    VOCABULARIES,
    FileTimes,
    check_model_folder,
    file_times,
    refuse_strange_vocabulary,
)
from petkit.models.safety.weight_files import (
    left_over_layers,
    numbers_built,
    numbers_in,
    refuse_absurd,
    refuse_not_finite,
    shapes_in,
)
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.integrity import refuse_damaged, sha256

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from petkit.models.adapters.four_bit import FourBit

EMBEDDED, _EMBEDDED_FOLDER = "embedded", "minilm-mlm-en"
_IDENTITY_FILES = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", *VOCABULARIES)
_NO_LIMIT = 10**30
_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "longformer"}
)


class ModelFolder:
    """A model folder that passed its checks, what was read from it, and how many numbers its weights contain."""

    def __init__(self, path: Path, numbers: int) -> None:
        self.path, self.numbers = path, numbers
        self.finite: set[str] = set()  # transformers classes whose weights were loaded from it without NaN or Inf

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration; copy it before a change, or before handing it to others."""
        from transformers import AutoConfig
        from transformers.utils import logging

        quiet: Any = logging
        quiet.disable_progress_bar()
        quiet.set_verbosity_error()
        config: PretrainedConfig = AutoConfig.from_pretrained(str(self.path), trust_remote_code=False)
        return config

    @cached_property
    def weights(self) -> frozenset[str]:
        """The names of the tensors in the checkpoint."""
        return frozenset(shapes_in(self.path))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files that make the model what it is."""
        paths = [path for path in sorted(self.path.iterdir()) if path.name in _IDENTITY_FILES or path.suffix == ".safetensors"]
        return hashlib.sha256("".join(f"{path.name}:{sha256(path)}\n" for path in paths).encode()).hexdigest()


def open_folder(name: str) -> ModelFolder:
    """Return the folder of a model after its checks; a hub model is downloaded into the local cache."""
    if name == EMBEDDED:
        folder = embedded_folder()  # checked by its own hashes
        return _opened(folder, file_times(folder), checked=True)
    folder = Path(name)
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith("."):
            raise ModelRefused(f"{shown_path(name)}: no such model folder")
        folder = hub_folder(name)
    opened = _opened(folder, file_times(folder), checked=False)
    refuse_damaged(folder)
    return opened


def embedded_folder() -> Path:
    """Return the folder of the model that ships with petkit, whose files have the listed hashes."""
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
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise ModelRefused(f"embedded model: {name} is damaged or missing (reinstall petkit)")


@lru_cache(maxsize=64)
def _opened(folder: Path, times: FileTimes, *, checked: bool) -> ModelFolder:
    return ModelFolder(folder, numbers_in(folder) if checked else check_model_folder(folder))


def model_fingerprint(name: str) -> str:
    """Return a hash that changes with the model's weights, tokenizer or configuration, but not with its place."""
    return open_folder(name).fingerprint


def load_config(name: str) -> PretrainedConfig:
    """Load a model's configuration."""
    folder = open_folder(name)
    with _loading(name):
        return deepcopy(folder.config)


def load_tokenizer(name: str, *, needs_mask: bool = True) -> PieceTokenizer:
    """Load a tokenizer."""
    from transformers import AutoTokenizer

    config = load_config(name)
    causal = is_causal(config)
    with _loading(name):
        hf = AutoTokenizer.from_pretrained(str(open_folder(name).path), config=config, trust_remote_code=False)
        refuse_strange_vocabulary(hf, config, shown_name(name))
    if causal:
        # Rows are padded on the right, also by those who load the tokenizer from a student's folder.
        hf.padding_side = "right"
        if hf.pad_token_id is None and hf.eos_token_id is not None:
            hf.pad_token = hf.eos_token  # attention never sees it
    return PieceTokenizer(hf, shown_name(name), needs_mask=needs_mask, causal=causal and needs_mask)


def longest_input(config: PretrainedConfig, tokenizer: PieceTokenizer) -> int:
    """Return how many tokens the model can read, special tokens included."""
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


def check_language_model(config: PretrainedConfig, name: str, *, masked: bool = False) -> None:
    """Refuse architectures that are not a language model, or with ``masked`` not a masked one, before any weight is read."""
    if is_masked_lm(config) or (is_causal(config) and not masked):
        return
    why = "is neither a masked nor a causal language model (use a BERT-like encoder, or one such as GPT-2)"
    if masked:
        why = "has no masked-LM form (use a BERT-like encoder)"
    raise ModelRefused(f"{shown_name(name)}: a {config.model_type!r} model {why}")


def scoring_by(name: str, wanted: WantedScoring = "auto") -> Scoring:
    """Return how a model answers a pattern: at a mask, by the next token, or by telling replaced tokens."""
    return scoring_of(load_config(name), open_folder(name).weights, wanted, shown_name(name))


def load_language_model(
    name: str, attention: str | None = None, four_bit: FourBit | None = None, scoring: WantedScoring = "auto"
) -> PreTrainedModel:
    """Load a masked or a causal language model, or a discriminator, in float32 and evaluation mode.

    ``attention`` is its implementation, by default transformers' own choice; ``scoring``, how the model is to answer.
    """
    config = load_config(name)
    check_language_model(config, name)
    chosen = scoring_by(name, scoring)
    kind = language_model_class(config, chosen)
    model, missing = _load_weights(kind, name, attention)
    if missing:
        head = {"mask": "masked-LM", "next_token": "language-model", "replaced_token": "discriminator"}[chosen]
        message = f"the checkpoint has no {head} head: {missing[0]} is missing (use a checkpoint saved from {kind.__name__})"
        raise ModelRefused(f"{shown_name(name)}: {message}")
    if is_causal(config) and (why := why_not_left_to_right(model)):
        hint = "use one that reads from left to right, such as GPT-2, Llama or Qwen2"
        raise ModelRefused(f"{shown_name(name)}: a {config.model_type!r} model {why} ({hint})")
    if four_bit is not None:
        four_bit.hold(model)
    return model


def load_masked_lm(name: str, attention: str | None = None) -> PreTrainedModel:
    """Load a language model, as :func:`load_language_model` does, that must be a masked one."""
    check_language_model(load_config(name), name, masked=True)
    return load_language_model(name, attention, scoring="mask")


def check_classifier(config: PretrainedConfig, name: str, *, chooses: bool = False) -> None:
    """Refuse architectures that cannot be a student, or one that ``chooses`` among candidates, before any weight is read."""
    from transformers.models.auto import modeling_auto as known

    forms = known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    forms = known.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES if chooses else forms
    if config.model_type not in forms:
        why = f"a {config.model_type!r} model has no {'multiple-choice' if chooses else 'classifier'} form"
        raise ModelRefused(f"{shown_name(name)}: {why} (name another as student.model, such as embedded)")


def new_classifier(
    name: str, labels: Sequence[str] | None, attention: str | None = None, *, multi: bool = False, four_bit: FourBit | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Load a backbone with a new classification head, drawn from torch's current random state and never stored in 4 bits.

    Args:
        labels: None: a multiple-choice model, whose head gives one logit to each candidate.

    Returns:
        The model, and the names of the parameters that its checkpoint does not contain.
    """
    from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

    if labels is None:
        model, new = _load_weights(AutoModelForMultipleChoice, name, attention)
    else:
        model, new = _load_weights(
            AutoModelForSequenceClassification,
            name,
            attention,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="multi_label_classification" if multi else "single_label_classification",
        )
    if is_causal(model.config):
        # Its head reads the last token that is not padding, and finds the padding token in the configuration.
        model.config.get_text_config().pad_token_id = load_tokenizer(name, needs_mask=False).pad_id
    if four_bit is not None:
        four_bit.hold(model, spared=new)
    return model, new


def load_classifier(folder: str) -> PreTrainedModel:
    """Load a finished classifier, or a multiple-choice model, as its configuration says."""
    from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

    chooses = is_choice_model(load_config(folder))
    model, missing = _load_weights(AutoModelForMultipleChoice if chooses else AutoModelForSequenceClassification, folder)
    if missing:
        what = "multiple-choice model" if chooses else "sequence classifier"
        raise ModelRefused(f"{shown_name(folder)}: not a {what}: {missing[0]} is missing")
    return model


def is_choice_model(config: PretrainedConfig) -> bool:
    """Say whether a folder's model chooses among the candidates of a row."""
    return any(name.endswith("ForMultipleChoice") for name in config.architectures or ())


def shown_name(name: str) -> str:
    """Return a model's name for messages."""
    if name == EMBEDDED:
        return f"the embedded model ({_EMBEDDED_FOLDER})"
    return shown_path(name) if Path(name).is_dir() else re.sub(r"(?<=@[0-9a-f]{7})[0-9a-f]{33}$", "", name)


def _load_weights(kind: Any, name: str, attention: str | None = None, **settings: Any) -> tuple[PreTrainedModel, list[str]]:
    """Return the model, its configuration changed by ``settings``, and the names of parameters without weights."""
    import torch

    folder, shown = open_folder(name), shown_name(name)
    if (folder.path / ADAPTER_CONFIG).is_file():  # transformers would download the model that this file names
        raise ModelRefused(f"{shown}: contains an adapter, not a model of its own (name the model it belongs to)")
    config = load_config(name)
    options = {} if attention is None else {"attn_implementation": attention}
    with _loading(name):
        for key, value in settings.items():
            setattr(config, key, value)
        refuse_absurd(numbers_built(kind, config).all, folder.numbers, shown)
        model, info = kind.from_pretrained(
            str(folder.path),
            config=config,
            trust_remote_code=False,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    if left := next(left_over_layers(model.state_dict(), info["unexpected_keys"]), None):
        raise ModelRefused(
            f"{shown}: config.json: describes fewer layers than the weights have, such as {left} (write their number)"
        )
    if kind.__name__ not in folder.finite:
        refuse_not_finite(dict(model.named_parameters()), shown)
        folder.finite.add(kind.__name__)
    model.eval()
    return model, sorted(info["missing_keys"])


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Refuse the model where building something from its files fails; odd files make libraries raise almost anything."""
    from safetensors import SafetensorError

    try:
        yield
    except PetkitError:
        raise
    except SafetensorError as error:
        raise ModelRefused(f"{shown_name(name)}: the weights are damaged: {error}") from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # the tokenizers' own
            raise
        why = first_line(error)
        if "ignore_mismatched_sizes" in why:  # the report it speaks of is not shown
            why = "its weights have other shapes than config.json says"
        raise ModelRefused(f"{shown_name(name)}: {validation_mistake(str(error)) or f'cannot be loaded: {why}':.500}") from None
