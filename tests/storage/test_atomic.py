"""What the disk is blamed for, and what not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from petkit.errors import DiskRefused, InvalidInput, PetkitError, Problem
from petkit.runs.store import RunStore
from tests.runs.steps import INPUTS, STEP


@pytest.fixture
def store(here: Path) -> RunStore:
    return RunStore(here / "run")


def fail_in_a_step(store: RunStore, error: Exception) -> None:
    with store.locked(), store.publishing(STEP, INPUTS, {}):
        raise error


@pytest.mark.parametrize("error", [OSError("some library says no"), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))], ids=str)
def test_errors_that_are_not_the_disks_are_left_alone(store: RunStore, error: OSError) -> None:
    with pytest.raises(OSError) as raised:
        fail_in_a_step(store, error)
    assert raised.value is error and error.filename is None


def test_a_mistake_that_quotes_the_systems_words_is_reported_as_it_is(store: RunStore) -> None:
    mistake = InvalidInput(
        [Problem.of_file("rows.jsonl", "label 'File too large' is not in the verbalizer", line=3, key="label")]
    )
    with pytest.raises(PetkitError) as raised:
        fail_in_a_step(store, mistake)
    assert raised.value is mistake


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE], ids=os.strerror)
def test_a_disk_that_refuses_is_blamed_for_the_step(store: RunStore, number: int) -> None:
    with pytest.raises(DiskRefused, match=f"^run: {STEP} cannot be read or written: {os.strerror(number)} "):
        fail_in_a_step(store, OSError(number, os.strerror(number)))
