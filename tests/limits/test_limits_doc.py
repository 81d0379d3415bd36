"""The page on limits says what holds."""

from __future__ import annotations

import re
from pathlib import Path

from petkit import limits
from petkit.formatting import binary_size

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
OF_MESSAGES = ("SHOWN_", "COMPARED_")


def test_every_cap_is_on_the_page() -> None:
    rows = re.findall(r"^\| .+ \| ([\d,]+(?: MiB)?) \| `(\w+)` \|$", PAGE, re.MULTILINE)
    caps = {name: value for name, value in vars(limits).items() if name.isupper() and not name.startswith(OF_MESSAGES)}
    in_bytes = {"CONFIG_BYTES", "ROW_BYTES", "PARQUET_FOOTER", "PARQUET_UNPACKED"}

    assert {name: page_value for page_value, name in rows} == {
        name: binary_size(value) if name in in_bytes else f"{value:,}" for name, value in caps.items()
    }
