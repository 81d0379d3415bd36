"""The hub's local cache, as its library makes it: no test fetches anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from petkit.models import hub

NAME = "somebody/tiny-bert"


@pytest.fixture
def cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache. What a process has looked up it keeps, so that it has to forget."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    hub.hub_folder.cache_clear()
    yield here / "cache"
    hub.hub_folder.cache_clear()


def put_into_cache(folder: Path, cache: Path, commit: str) -> Path:
    """Make the newest commit of a model hold the files at the top of a folder; return the snapshot, made of links to blobs."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
    for made in (snapshot, blobs, repository / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        blob = f"{path.name}-{commit}"
        shutil.copy(path, blobs / blob)
        (snapshot / path.name).symlink_to(Path("../../blobs", blob))
    hub.hub_folder.cache_clear()
    return snapshot
