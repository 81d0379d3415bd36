"""Arrays with an entry per row: the same from memory and from a file, and no file stays mapped."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from petkit.storage.row_array import RowArray


def filled(path: Path | None, *blocks: list[list[float]]) -> RowArray:
    array = RowArray(np.float32, (2,), path)
    for block in blocks:
        array.append(np.array(block))
    return array


BLOCKS = ([[0, 1], [2, 3]], [[4, 5]], [[6, 7], [8, 9]])


@pytest.mark.parametrize("on_disk", [False, True])
def test_entries_are_read_by_number(on_disk: bool, tmp_path: Path) -> None:
    array = filled(tmp_path / "deep" / "file" if on_disk else None, *BLOCKS)

    assert len(array) == 5
    assert array[np.array([4, 0, 4])].tolist() == [[8, 9], [0, 1], [8, 9]]
    assert array[1:3].tolist() == [[2, 3], [4, 5]]
    assert array.whole().shape == (5, 2) and array.whole().dtype == np.float32
    array[:][0] = 100  # a copy
    assert array[[0]].tolist() == [[0, 1]]


@pytest.mark.parametrize("on_disk", [False, True])
def test_entries_can_follow_after_a_read(on_disk: bool, tmp_path: Path) -> None:
    array = filled(tmp_path / "file" if on_disk else None, BLOCKS[0])

    assert array[:].tolist() == BLOCKS[0]
    array.append(np.array(BLOCKS[1]))
    assert array[:].tolist() == [*BLOCKS[0], *BLOCKS[1]]


@pytest.mark.parametrize("on_disk", [False, True])
def test_nothing_in_it(on_disk: bool, tmp_path: Path) -> None:
    array = filled(tmp_path / "file" if on_disk else None)

    assert len(array) == 0 and array[:].shape == (0, 2)


def test_a_file_of_an_earlier_process_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else")

    assert filled(tmp_path / "file", BLOCKS[0])[:].tolist() == BLOCKS[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell what is mapped")
def test_a_file_stays_mapped_no_longer_than_it_is_read(tmp_path: Path) -> None:
    array = filled(tmp_path / "a-file-of-rows", *BLOCKS)

    def is_mapped() -> bool:
        return "a-file-of-rows" in Path("/proc/self/maps").read_text()

    taken = array[np.array([3])]
    assert not is_mapped()
    held = array.whole()
    assert is_mapped() and taken.tolist() == [[6, 7]] == held[3:4].tolist()
    del held
    assert not is_mapped()
