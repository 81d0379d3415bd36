"""Models of the Hugging Face Hub, downloaded whole into its local cache before anything in them is read.

A name may end in a revision (branch, tag or commit): ``roberta-base@main``.

Only what petkit reads is downloaded: weights as safetensors, JSON, vocabularies. No pickle and no code ever arrives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from petkit import network
from petkit.errors import ModelRefused, first_line
from petkit.formatting import in_one_line
from petkit.models.safety.model_folder import VOCABULARIES
from petkit.storage.integrity import is_hub_snapshot

# An asterisk matches folders too: sentence-transformers' modules have small files in folders of their own.
_DOWNLOADED = ["*.json", "model.safetensors", "model-*.safetensors", "bpe.codes", *VOCABULARIES]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[\w][\w./-]{0,199}")
_LEFT_OUT = ["onnx/*", "openvino/*", "checkpoint-*"]


def split_revision(name: str) -> tuple[str, str | None]:
    """Return the repository and the revision of a hub model's name.

    >>> split_revision("roberta-base@v1.0"), split_revision("roberta-base")
    (('roberta-base', 'v1.0'), ('roberta-base', None))
    """
    repository, separator, revision = name.partition("@")
    return repository, revision if separator else None


def at_commit(name: str, recorded: Mapping[str, Any]) -> str:
    """Return a hub model's name with the commit that is ``recorded`` for it, or else with the present one.

    Names of folders stay as they are, and so do those of models that are not available, which are refused where they are loaded.
    """
    if Path(name).is_dir() or Path(name).is_absolute() or name.startswith("."):
        return name
    repository, _ = split_revision(name)
    commit = recorded.get(name)
    if isinstance(commit, str) and _COMMIT.fullmatch(commit):
        return f"{repository}@{commit}"
    try:
        folder = hub_folder(name)
    except ModelRefused:
        return name
    return f"{repository}@{folder.name}" if is_hub_snapshot(folder) and _COMMIT.fullmatch(folder.name) else name


@cache
def hub_folder(name: str) -> Path:
    """Return the local copy of a hub model at the named or the newest revision; within a process it stays the same one."""
    from huggingface_hub import snapshot_download, utils
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    quiet: Any = utils
    quiet.disable_progress_bars()
    quiet.logging.set_verbosity_error()  # a failure is reported once, and not at every attempt
    repository, revision = split_revision(name)
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        message = f"{revision!r:.100} is not a revision (write the branch, tag or commit after the @)"
        raise ModelRefused(f"{in_one_line(name):.300}: {message}")
    offline = network.is_forbidden()
    try:
        found = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=_DOWNLOADED,
            ignore_patterns=_LEFT_OUT,
            local_files_only=offline,
        )
        return Path(found)
    except HFValidationError:
        raise ModelRefused(f"{in_one_line(name)}: no such model folder, and not a valid name of a Hub model") from None
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        partly = getattr(error, "snapshot_path", None)
        if partly is not None:  # the folder's own check reports what is missing, if that matters
            return Path(partly)
        why = "offline mode is on, and the local cache does not contain it" if offline else first_line(error)
        raise ModelRefused(f"{in_one_line(name)}: not a local folder, and could not be downloaded from the Hub: {why}") from None
