"""The model that ships with petkit, and its checksums."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from petkit.errors import ModelRefused

FOLDER_NAME = "minilm-mlm-en"


def embedded_folder() -> Path:
    """Return the folder of the model that ships with petkit.

    Raises:
        ModelRefused: the installed copy is damaged.
    """
    folder = Path(str(files("petkit"))) / "assets" / FOLDER_NAME
    _verify_embedded(folder)
    return folder


@lru_cache(maxsize=1)
def _verify_embedded(folder: Path) -> None:
    listed = folder / "SHA256SUMS"
    if not listed.is_file():
        raise ModelRefused(f"embedded model: {listed.name} is missing (reinstall petkit)")
    sums = listed.read_text().split()
    for expected, name in zip(sums[::2], sums[1::2], strict=True):
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise ModelRefused(f"embedded model: {name} is damaged or missing (reinstall petkit)")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
