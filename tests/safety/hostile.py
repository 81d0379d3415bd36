"""Model folders as an attacker would write them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mark:
    """A file that exists once hostile code has run."""

    path: Path

    def check(self) -> None:
        """Fail if it is there."""
        assert not self.path.exists(), "code from the folder was run"

    def pickle(self) -> bytes:
        """Return a pickle that leaves the mark when it is loaded."""
        return pickle.dumps(_Bomb(str(self.path)))

    def module(self) -> str:
        """Return the source of a module that leaves the mark when it is imported."""
        return f"from pathlib import Path\nPath({str(self.path)!r}).touch()\nclass Own: pass\nConfig = Model = Tokenizer = Own\n"


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.path,)


def edit_json(path: Path, **changes: Any) -> None:
    """Write other values into a JSON file; None removes a key."""
    content = {**(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def write_safetensors(path: Path, header: Mapping[str, Any], data: bytes = b"", length: int | None = None) -> None:
    """Write a safetensors file by hand, whatever its header claims."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def sharded(folder: Path, name: str | None = None) -> Path:
    """Turn a folder's weights into one shard with an index that calls it ``name``; return the index."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = list(file.keys())
    shard = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, name or shard)}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")
    return path
