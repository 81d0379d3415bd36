"""What a cell of a row may be, whatever it is for."""

from __future__ import annotations

import math
import re
from typing import Any

MISSING = "missing"
LONE_SURROGATE = "contains a lone surrogate (invalid Unicode)"
SURROGATE = re.compile("[\ud800-\udfff]")


def is_missing(value: Any) -> bool:
    """Say whether a cell is null or NaN, which pandas writes where there is no value."""
    return value is None or (isinstance(value, float) and math.isnan(value))
