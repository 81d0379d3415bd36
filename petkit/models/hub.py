"""Models of the Hugging Face Hub, downloaded whole into its local cache before anything in them is read.

Only what petkit reads is downloaded: weights as safetensors, JSON, vocabularies. No pickle and no code ever arrives.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from petkit import network
from petkit.errors import ModelRefused, first_line
from petkit.formatting import in_one_line
from petkit.models.safety.model_folder import VOCABULARIES

# An asterisk matches folders too: sentence-transformers' modules have small files in folders of their own.
_DOWNLOADED = ["*.json", "model.safetensors", "model-*.safetensors", "bpe.codes", *VOCABULARIES]
_LEFT_OUT = ["onnx/*", "openvino/*", "checkpoint-*"]


@cache
def hub_folder(name: str) -> Path:
    """Return the local copy of a hub model at its newest revision; within a process it stays the same one."""
    from huggingface_hub import snapshot_download, utils
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    quiet: Any = utils
    quiet.disable_progress_bars()
    quiet.logging.set_verbosity_error()  # a failure is reported once, and not at every attempt
    offline = network.is_forbidden()
    try:
        return Path(snapshot_download(name, allow_patterns=_DOWNLOADED, ignore_patterns=_LEFT_OUT, local_files_only=offline))
    except HFValidationError:
        raise ModelRefused(f"{in_one_line(name)}: no such model folder, and not a valid name of a Hub model") from None
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        partly = getattr(error, "snapshot_path", None)
        if partly is not None:  # the folder's own check reports what is missing, if that matters
            return Path(partly)
        why = "offline mode is on, and the local cache does not contain it" if offline else first_line(error)
        raise ModelRefused(f"{in_one_line(name)}: not a local folder, and could not be downloaded from the Hub: {why}") from None
