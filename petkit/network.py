"""Whether the network may be used: only for what a pipeline names on the Hugging Face hub, and never when it is forbidden.

The libraries that fetch read the environment when they are imported, so the command line decides before that. From Python,
set ``HF_HUB_OFFLINE=1`` before anything else.
"""

from __future__ import annotations

import os

# The second would overrule the first.
_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_YES = ("1", "ON", "YES", "TRUE")


def forbid() -> None:
    """Let nothing be fetched from now on; what the local cache contains can still be used."""
    for variable in _VARIABLES:
        os.environ[variable] = "1"


def is_forbidden() -> bool:
    """Say whether nothing may be fetched."""
    return any(os.environ.get(variable, "").upper() in _YES for variable in (*_VARIABLES, "TRANSFORMERS_OFFLINE"))
