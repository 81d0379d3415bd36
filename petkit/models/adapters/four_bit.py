"""A frozen model's linear layers in 4 bits: NF4 with double quantisation (QLoRA, Dettmers et al. 2023, sections 2 and 3).

Of a block of 64 weights, each becomes the nearest of the 16 levels ``q_i · absmax``; the blocks' ``absmax`` are held in 8
bits, 256 to a block of their own. That makes 4 + 8/64 + 32/(64·256) = 4.13 bits per weight instead of 32. A layer is
multiplied out in the run's number format whenever it is used; it is never trained. Tested on processors only.

The package ``bitsandbytes`` is optional and imported only here (PEFT imports it too, where it is installed).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from petkit.errors import ModelRefused, first_line

_OLDEST = "0.50"  # the first whose processor kernels were tried


@dataclass(frozen=True)
class FourBit:
    """The device of layers in 4 bits, and the number format they are multiplied in."""

    device: str
    dtype: torch.dtype

    def hold(self, model: Any, spared: Collection[str] = ()) -> None:
        """Replace the encoder's linear layers, each on its device at once, but not the head or those of ``spared`` parameters."""
        if refused := obstacle(self.device):
            raise ModelRefused(f"adapter qlora: {refused[0]} ({refused[1]})")
        kept = {name.rpartition(".")[0] for name in spared}
        encoder = {id(module) for module in model.base_model.modules()}
        for name, layer in list(model.named_modules()):
            if type(layer) is nn.Linear and id(layer) in encoder and name not in kept:
                parent, _, own = name.rpartition(".")
                setattr(model.get_submodule(parent), own, _in_four_bits(layer, self))
        model.is_loaded_in_4bit = True  # PEFT looks for it before it looks at the layers


def refuse_unholdable(model: Any) -> None:
    """Refuse a model without torch's linear layers, as GPT-2: nothing of it would be stored in 4 bits."""
    if not any(isinstance(module, nn.Linear) for module in model.base_model.modules()):
        raise ModelRefused(f"a {model.config.model_type!r} model has no layers that can be held in 4 bits (use lora)")


def numbers_in(parameter: Tensor) -> int:
    """Return how many numbers a parameter represents; in 4 bits, two of them share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(state.shape.numel())


def weights_in_full(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that layers in 4 bits stand for, in float32 on the processor, with the layers' names."""
    for name, layer in model.named_modules():
        if isinstance(getattr(layer, "weight", None), torch.Tensor) and hasattr(layer.weight, "quant_state"):
            from bitsandbytes.functional import dequantize_4bit

            yield name, dequantize_4bit(layer.weight.data, layer.weight.quant_state).to("cpu", torch.float32)


def obstacle(device: str) -> tuple[str, str] | None:
    """Return why 4-bit layers are not available on a device, with a hint; None where a trial layer passed a gradient through."""
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not is_bitsandbytes_available(_OLDEST):
        return f"bitsandbytes {_OLDEST} or later is not installed", "pip install 'petkit[qlora]'"
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            layer = _in_four_bits(nn.Linear(64, 64), FourBit(device, torch.float32))
            layer(torch.ones(2, 64, device=device, requires_grad=True)).sum().backward()
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
        return f"bitsandbytes does not work on {device}: {first_line(error)}", "use adapter: lora"
    return None


def _in_four_bits(layer: nn.Linear, where: FourBit) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    how: dict[str, Any] = {"compress_statistics": True, "quant_type": "nf4"}
    held = Linear4bit(layer.in_features, layer.out_features, bias=False, compute_dtype=where.dtype, device="meta", **how)
    held.weight = Params4bit(layer.weight.data, requires_grad=False, module=held, **how)
    held.bias = layer.bias
    held.to(where.device)  # this quantises
    # On processors with bfloat16 units the first forward pass without gradients would repack the weights, for good: training
    # afterwards fails, or silently gives no gradient; and the packing knows no widths but multiples of 64 by 32.
    held.support_avx512bf16_for_cpu = False
    held.register_forward_pre_hook(_under_autocast)
    frozen: nn.Module = held.train(layer.training)
    return frozen


def _under_autocast(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cast the input as autocast does for plain linear layers: DeBERTa depends on it, and a layer in 4 bits would not."""
    rows, *others = given
    device = rows.device.type
    return (rows.to(torch.get_autocast_dtype(device)), *others) if torch.is_autocast_enabled(device) else given
