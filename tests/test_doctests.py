"""Every public function has an example in its docstring, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_public_names import NAMES

ROOT = Path(__file__).resolve().parents[1]
TRAINED = ("run", "Predictor")  # examples that train, in the order in which they build on each other: see test_example.py


def public() -> list[tuple[str, Any]]:
    """Return the public functions and classes with their names."""
    found = []
    for package in NAMES:
        module = importlib.import_module(package)
        found += [(f"{package}.{name}", getattr(module, name)) for name in module.__all__ if name != "__version__"]
    return [(name, value) for name, value in found if callable(value) and name.rpartition(".")[2] not in TRAINED]


def run_examples(name: str, value: Any) -> int:
    """Run the examples of a docstring and those of its methods; return how many lines there were."""
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=options)
    home = sys.modules[value.__module__]
    for test in doctest.DocTestFinder().find(value, name, module=home, globs={"torch": torch, **vars(home)}):
        runner.run(test)
    assert runner.failures == 0
    return runner.tries


@pytest.mark.parametrize(("name", "value"), public(), ids=[name for name, _ in public()])
def test_examples(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    lines = run_examples(name, value)

    assert lines or not inspect.isfunction(value)
