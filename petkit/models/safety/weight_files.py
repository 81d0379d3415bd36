"""The files of a model folder: JSON of bounded size, and weights with consistent headers, a bearable size and finite values.

Headers are read without the numbers after them, so that a file can be refused before memory is spent on it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from petkit.errors import ModelRefused, first_line, shown_path
from petkit.storage.integrity import stays_inside

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_LARGEST_JSON, _LARGEST_INDEX = 16 * 2**20, 64 * 2**20
_NUMBER = re.compile(r"\.\d+\.")
_BYTES = 4  # of a number once it is loaded, as float32
# What a model may have in addition to its checkpoint: a new head, tables it computes, weights that are tied in the file.
_MORE_AT_MOST, _MORE_IN_ANY_CASE = 2, 2**26


def read_mapping(path: Path, largest: int = _LARGEST_JSON) -> dict[str, Any]:
    """Return the JSON object in a file of at most ``largest`` bytes."""
    shown = shown_path(path.parent)
    try:
        if path.stat().st_size > largest:
            raise ModelRefused(f"{shown}: {path.name} is larger than {largest / 2**20:,.0f} MiB, too large for a model's")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelRefused(f"{shown}: {path.name} is not valid JSON")
    return content


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in the weights of a model folder, by their headers."""
    if (folder / WEIGHTS).is_file():
        return header_of(folder / WEIGHTS)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensors in sorted(_shards(folder).items()):
        found = header_of(folder / name)
        if missing := sorted(tensors - found.keys()):
            raise ModelRefused(f"{shown_path(folder)}: {INDEX} is damaged: {name} does not contain {missing[0]}")
        shapes |= found
    return shapes


def numbers_in(folder: Path) -> int:
    """Return how many numbers the weights of a model folder contain, by their headers."""
    shown, shapes = shown_path(folder), shapes_in(folder)
    numbers = sum(math.prod(shape) for shape in shapes.values())
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # the system does not report it
        return numbers
    if numbers * _BYTES > memory:
        need = f"its weights take {numbers * _BYTES / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f}"
        raise ModelRefused(f"{shown}: {need} (use a smaller model)")
    return numbers


class NumbersBuilt(NamedTuple):
    """How many numbers a model has: in its parameters (tied ones count once), and in all with its buffers."""

    parameters: int
    all: int


_BUILT: dict[tuple[str, str], NumbersBuilt] = {}


def numbers_built(kind: Any, config: Any) -> NumbersBuilt:
    """Count the numbers that a transformers class would build from a configuration, without memory for any of them."""
    key = (kind.__name__, config.to_json_string(use_diff=False))
    if key not in _BUILT:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
        parameters = sum(value.numel() for value in model.parameters())
        _BUILT[key] = NumbersBuilt(parameters, parameters + sum(value.numel() for value in model.buffers()))
    return _BUILT[key]


def header_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in a safetensors file; its numbers are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ModelRefused(f"{shown_path(path.parent)}: the weights are damaged: {path.name}: {first_line(error)}") from None


def refuse_absurd(built: int, found: int, shown: str) -> None:
    """Refuse a configuration of a model far larger than its checkpoint, before the model takes memory."""
    if built > max(_MORE_AT_MOST * found, found + _MORE_IN_ANY_CASE):
        raise ModelRefused(
            f"{shown}: config.json describes {built:,} numbers, and the weights contain {found:,}: they do not belong together"
        )


def left_over_layers(built: Collection[str], unused: Iterable[str]) -> Iterator[str]:
    """Yield the unused tensors of a checkpoint that belong to further layers of a kind that a model has.

    >>> list(left_over_layers(["bert.layer.0.weight"], ["layer.1.weight", "pooler.weight", "head.0.bias"]))
    ['layer.1.weight']
    """
    kinds = {_NUMBER.sub(".*.", f".{name}") for name in built}
    for name in sorted(unused):
        kind = _NUMBER.sub(".*.", f".{name}")
        if "*" in kind and any(known.endswith(kind) for known in kinds):
            yield name


def refuse_not_finite(tensors: Mapping[str, Tensor], shown: str) -> None:
    """Refuse weights that contain NaN or Inf."""
    for name, value in tensors.items():
        if not value.is_floating_point() or value.numel() == 0 or value.is_meta:
            continue
        if not all(math.isfinite(bound) for bound in torch.aminmax(value.detach())):
            raise ModelRefused(f"{shown}: the weights are damaged: {name} contains NaN or Inf")


def _shards(folder: Path) -> dict[str, set[str]]:
    """Return the files that the index names, each with the tensors it should contain."""
    shown = shown_path(folder)
    index = read_mapping(folder / INDEX, _LARGEST_INDEX)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(index.get("metadata"), dict):
        raise ModelRefused(f"{shown}: {INDEX} is damaged: weight_map or metadata is missing")
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or len(PurePosixPath(name).parts) != 1 or not stays_inside(name):
            raise ModelRefused(f"{shown}: {INDEX} leads out of the folder: {name!r:.100}")
        if not name.endswith(".safetensors"):
            raise ModelRefused(f"{shown}: {INDEX} names {name!r:.100}, and only safetensors are read")
        files.setdefault(name, set()).add(tensor)
    for name in files:
        if not (folder / name).is_file():
            raise ModelRefused(f"{shown}: {name} is missing, which {INDEX} names")
    return files
