"""The weights in a folder: safetensors whose headers hold together, and numbers that are numbers.

Headers are read without the numbers after them, so that a file can be refused before memory is spent on it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from petkit.errors import ModelRefused, first_line, shown_path
from petkit.models.safety.json_file import read_mapping
from petkit.storage.integrity import stays_inside

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_LARGEST_INDEX = 64 * 2**20
_BYTES = 4  # of a number once it is loaded, as float32
# What a model may have beside its checkpoint: a new head, tables it computes, weights that are tied in the file.
_MORE_AT_MOST, _MORE_IN_ANY_CASE = 2, 2**26


def numbers_in(folder: Path) -> int:
    """Return how many numbers the weights of a model folder hold, after looking at every header.

    Raises:
        ModelRefused: files missing or damaged, an index that leads elsewhere, or more numbers than the memory can hold.
    """
    shown = shown_path(folder)
    if (folder / WEIGHTS).is_file():
        shapes = header_of(folder / WEIGHTS)
    else:
        shapes = {}
        for name, tensors in sorted(_shards(folder).items()):
            found = header_of(folder / name)
            missing = sorted(tensors - found.keys())
            if missing:
                raise ModelRefused(f"{shown}: {INDEX} is damaged: {name} holds no {missing[0]}")
            shapes |= found
    numbers = sum(math.prod(shape) for shape in shapes.values())
    memory = _memory()
    if memory is not None and numbers * _BYTES > memory:
        need = f"its weights take {numbers * _BYTES / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f}"
        raise ModelRefused(f"{shown}: {need} (use a smaller model)")
    return numbers


def without_numbers(kind: Any, config: Any) -> Any:
    """Return the model that a configuration asks of a transformers class, none of its numbers made."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return kind.from_config(config, trust_remote_code=False)


def header_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in a safetensors file; its numbers are not read.

    Raises:
        ModelRefused: not to be read, or a header that does not fit the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ModelRefused(f"{shown_path(path.parent)}: the weights are damaged: {path.name}: {first_line(error)}") from None


def refuse_absurd(config_asks: int, held: int, shown: str) -> None:
    """Refuse a configuration that asks for far more numbers than the checkpoint holds, before they are made.

    Raises:
        ModelRefused: with both figures.
    """
    if config_asks > max(_MORE_AT_MOST * held, held + _MORE_IN_ANY_CASE):
        raise ModelRefused(
            f"{shown}: config.json asks for {config_asks:,} numbers, and the weights hold {held:,}: they do not belong together"
        )


def refuse_not_finite(tensors: Mapping[str, Tensor], shown: str) -> None:
    """Refuse weights among which are NaN or infinite values.

    Raises:
        ModelRefused: with the first such tensor.
    """
    for name, value in tensors.items():
        if not value.is_floating_point() or value.numel() == 0 or value.is_meta:
            continue
        if not all(math.isfinite(bound) for bound in torch.aminmax(value.detach())):
            raise ModelRefused(f"{shown}: the weights are damaged: {name} holds values that are not finite")


def _shards(folder: Path) -> dict[str, set[str]]:
    """Return the files that the index names, each with the tensors it should hold."""
    shown = shown_path(folder)
    index = read_mapping(folder / INDEX, _LARGEST_INDEX)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(index.get("metadata"), dict):
        raise ModelRefused(f"{shown}: {INDEX} is damaged: weight_map or metadata is missing")
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not _is_inside(name):
            raise ModelRefused(f"{shown}: {INDEX} leads out of the folder: {name!r:.100}")
        if not name.endswith(".safetensors"):
            raise ModelRefused(f"{shown}: {INDEX} names {name!r:.100}, and only safetensors are read")
        files.setdefault(name, set()).add(tensor)
    for name in files:
        if not (folder / name).is_file():
            raise ModelRefused(f"{shown}: {name} is missing, which {INDEX} names")
    return files


def _is_inside(name: str) -> bool:
    """Say whether a file's name, as an index writes it, is that of a file right in the folder."""
    return len(PurePosixPath(name).parts) == 1 and stays_inside(name)


def _memory() -> int | None:
    """Return the machine's memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
