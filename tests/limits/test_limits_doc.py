"""The page on limits says what holds."""

from __future__ import annotations

import re
from pathlib import Path

from petkit import limits

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
OF_MESSAGES = ("SHOWN_", "COMPARED_")


def test_every_cap_is_on_the_page() -> None:
    rows = re.findall(r"^\| .+ \| ([\d,]+(?: MiB)?) \| `(\w+)` \|$", PAGE, re.MULTILINE)
    caps = {name: value for name, value in vars(limits).items() if name.isupper() and not name.startswith(OF_MESSAGES)}
    in_bytes = {"CONFIG_BYTES", "ROW_BYTES", "PARQUET_FOOTER", "PARQUET_UNPACKED"}

    assert {name: told for told, name in rows} == {
        name: limits.in_units(value) if name in in_bytes else f"{value:,}" for name, value in caps.items()
    }


def test_sizes_for_people() -> None:
    sizes = (7, 1023, 1024, 1536, 4 * 2**20, 999 * 2**20, 1500 * 2**20, 50 * 2**30, 2**41)

    told = ["7 bytes", "1,023 bytes", "1 KiB", "1.5 KiB", "4 MiB", "999 MiB", "1.46 GiB", "50 GiB", "2,048 GiB"]
    assert [limits.in_units(size) for size in sizes] == told
