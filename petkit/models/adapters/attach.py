"""Attaching adapters to frozen models.

While an adapter is attached, the transformers model it was given answers with it; hooks, readers and soft tokens work as on
the plain model. Low-rank updates and IA³ factors are PEFT's own layers; deep prefixes and virtual tokens are petkit's,
because PEFT's carry them on a few families only and drop them silently on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from petkit.config.schema.adapter import AnyAdapter, PromptTuningSpec
from petkit.errors import shown_path
from petkit.models.adapters.base import Adapter, read_adapter
from petkit.models.adapters.four_bit import numbers_in, refuse_unholdable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attach(model: PreTrainedModel, spec: AnyAdapter, soft_tokens: int = 0, head: Sequence[str] = ()) -> Adapter:
    """Freeze ``model`` and attach a new adapter to it, drawn from torch's current random state.

    Args:
        soft_tokens: number of soft tokens in the rows to come that P-Tuning v1 replaces.
        head: names of parameters that are new as well, and trained in full.
    """
    from petkit.models.adapters.registry import ADAPTERS  # PEFT takes seconds to import, and few pipelines have an adapter

    if spec.kind == "qlora":
        refuse_unholdable(model)
    model.requires_grad_(False)
    adapter = ADAPTERS[spec.kind](model, spec, soft_tokens, head)
    adapter.train_too(head)
    return adapter


def start_from_folder(adapter: Adapter, spec: AnyAdapter, sha256: str | None = None) -> None:
    """Let a new adapter begin where a pretrained prompt ended (PPT, Gu et al. 2022), if its settings name one (of this hash)."""
    if isinstance(spec, PromptTuningSpec) and spec.start is not None:
        # A head that is new stays as it was drawn.
        adapter.put({**adapter.state(), **read_adapter(Path(spec.start), sha256)}, shown_path(spec.start))


def trained_part(model: nn.Module) -> dict[str, float | int | str]:
    """Return how many of the parameters are trained, for the record: their number, and their share of all."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"trained_parameters": trained, "trained_share": trained / sum(map(numbers_in, model.parameters()))}
