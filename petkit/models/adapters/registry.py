"""The adapters that a pipeline file chooses by name; other packages add theirs by entry points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from petkit.config.registry import ADAPTER_NAMES, Registry
from petkit.models.adapters.base import Adapter
from petkit.models.adapters.lora_ia3 import LayerAdapter
from petkit.models.adapters.p_tuning_v2 import DeepPrefix
from petkit.models.adapters.prompt_tuning import VirtualTokens

# Called with a frozen model, the adapter's settings, the number of soft tokens it replaces, and the names of the parameters that
# are new and trained in full. What another package adds is a class, whose ``settings`` is the section of its options.
ADAPTERS: Final[Registry[Callable[..., Adapter]]] = Registry(
    ADAPTER_NAMES,
    {
        **dict.fromkeys(("lora", "qlora", "ia3"), LayerAdapter),
        "p_tuning_v2": DeepPrefix,
        **dict.fromkeys(("p_tuning_v1", "prompt_tuning"), VirtualTokens),
    },
)
