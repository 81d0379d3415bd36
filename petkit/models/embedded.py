"""The model that ships with petkit, and its checksums."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from petkit.errors import ModelRefused
from petkit.storage.integrity import sha256

FOLDER_NAME = "minilm-mlm-en"


def embedded_folder() -> Path:
    """Return the folder of the model that ships with petkit."""
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
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise ModelRefused(f"embedded model: {name} is damaged or missing (reinstall petkit)")
