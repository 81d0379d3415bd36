"""A model tried out on two short rows before any work: what it cannot carry shows here, and not in the middle of training.

A trial draws no random number, trains nothing and leaves every module's mode as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from petkit.errors import ModelRefused, first_line
from petkit.models.architectures import forward_options
from petkit.models.batch import Batch
from petkit.models.mask_reader import MaskReader

# What a model raises that was built for other inputs: other shapes, missing parts, more or fewer layers than it says.
STUMBLES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, StopIteration)


def reads_every(model: Any, attached: Any, trained: Tensor) -> bool:
    """Return whether a model's hidden rows keep their length and depend on every entry of what is to be trained.

    A gradient of exactly 0 means that an entry could never be trained, as all else is frozen.

    Args:
        attached: takes what it puts into the model from its ``source``; here, from ``trained`` of shape ``(entries, …)``.
    """
    hidden_rows: list[Tensor] = []
    trained, source = trained.detach().clone().requires_grad_(), attached.source
    attached.source = lambda: trained
    hook = model.base_model.register_forward_hook(lambda module, args, output: hidden_rows.append(output[0]))
    try:
        with torch.enable_grad(), _trial(model) as inputs:
            model(**inputs)
            hidden = hidden_rows[0].float()  # (2, 4, hidden)
            # A plain sum would not move: normalised vectors all have the same.
            uneven = torch.arange(hidden.numel(), device=hidden.device).view_as(hidden).sin()
            (gradient,) = torch.autograd.grad((hidden * uneven).sum(), trained)
    except STUMBLES:
        return False
    finally:
        hook.remove()
        attached.source = source
    return hidden.shape[:2] == inputs["input_ids"].shape and bool(gradient.flatten(1).any(dim=1).all())


def check_reading(model: Any, shown: str) -> None:
    """Refuse a language model whose logits of single words at single places differ from those of a full forward pass.

    Some heads do more than map to the vocabulary by one layer, which a :class:`~petkit.models.mask_reader.MaskReader` relies on.
    """
    reader, reads_text, sound = MaskReader(model), False, False
    why, finite = "its head answers for the whole vocabulary at once", True
    try:
        with torch.no_grad(), _trial(model) as inputs:
            rows, columns = torch.tensor([[0, 1], [3, 1]], device=model.device)  # the last token of each row
            words = torch.arange(2, device=model.device)
            torch.default_generator.manual_seed(0)  # attention by random hashes is to draw the same twice
            every = model(**inputs, **forward_options(model)).logits[rows, columns]  # (2, vocabulary)
            reads_text, finite = True, bool(every.isfinite().all())
            torch.default_generator.manual_seed(0)
            batch = Batch(inputs["input_ids"], inputs["attention_mask"], None, columns)
            if reader.projection is None:
                found, expected = reader.read(batch, rows, columns), every
            else:
                found, expected = reader.read(batch, rows, columns, lambda hidden: reader.columns(hidden, words)), every[:, words]
            sound = found.shape == expected.shape and torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-3)
    except STUMBLES as error:
        if not reads_text:
            why = first_line(error)
    finally:
        reader.detach()
    if not finite:
        raise ModelRefused(f"{shown}: its logits are NaN or infinite: the weights, or a scale in config.json, are too large")
    if not sound:
        hint = "use another model, such as BERT or RoBERTa"
        raise ModelRefused(f"{shown}: a {model.config.model_type!r} model cannot be read at the mask alone: {why} ({hint})")


@contextmanager
def _trial(model: Any) -> Iterator[dict[str, Tensor]]:
    """Give two short rows, one of them padded, and have the model in evaluation mode meanwhile."""
    device = model.device
    ids = torch.arange(8, device=device).view(2, 4) % model.get_input_embeddings().weight.shape[0]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=device)
    modes = [(module, module.training) for module in model.modules()]
    # Weights may already be in the format of autocast, and work under it alone.
    half = any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    model.eval()
    try:
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=half),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            yield {"input_ids": ids, "attention_mask": mask}
    finally:
        for module, training in modes:
            module.training = training
