"""Every public loss has an example in its docstring, and the examples run."""

from __future__ import annotations

import doctest
import sys

import pytest
import torch

from petkit import losses


@pytest.mark.parametrize("name", sorted(set(losses.__all__) - {"DIVERGENCES", "LOSSES"}))
def test_example_runs(name: str) -> None:
    function = getattr(losses, name)
    finder = doctest.DocTestFinder(recurse=False)
    found = finder.find(function, name, sys.modules[function.__module__], {**vars(losses), "torch": torch})
    results = [doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example) for example in found]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0
