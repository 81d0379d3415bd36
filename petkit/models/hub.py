"""Models of the Hugging Face hub, fetched whole into its local cache before anything in them is read.

Only what petkit reads is fetched: weights as safetensors, JSON, vocabularies. No pickle and no code ever arrives.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from petkit import network
from petkit.errors import ModelRefused, first_line
from petkit.formatting import in_one_line

# An asterisk matches folders too: the small files of sentence-transformers' modules lie in folders of their own.
FETCHED = (
    "*.json",
    "model.safetensors",
    "model-*.safetensors",
    "vocab.txt",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
LEFT_ALONE = ("onnx/*", "openvino/*", "checkpoint-*")


@cache
def hub_folder(name: str) -> Path:
    """Return the local copy of a hub model at its newest revision; within a process it stays the same one.

    Raises:
        ModelRefused: no name of a hub model, or not to be had.
    """
    from huggingface_hub import snapshot_download, utils
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    quiet: Any = utils
    quiet.disable_progress_bars()
    quiet.logging.set_verbosity_error()  # what is not to be had is told once, and not at every attempt
    offline = network.is_forbidden()
    try:
        return Path(
            snapshot_download(name, allow_patterns=list(FETCHED), ignore_patterns=list(LEFT_ALONE), local_files_only=offline)
        )
    except HFValidationError:
        raise ModelRefused(f"{in_one_line(name)}: no such model folder, and no name of a hub model") from None
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        partly = getattr(error, "snapshot_path", None)
        if partly is not None:  # whether anything that matters is missing, the folder's own check tells
            return Path(partly)
        why = "offline is asked for, and the local cache does not hold it" if offline else first_line(error)
        raise ModelRefused(
            f"{in_one_line(name)}: cannot be loaded; it is no folder here, and as a hub name it needs the network once: {why}"
        ) from None
