"""The base of every adapter: few trained parameters on a frozen model, in PEFT's configurations and file format."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from petkit.errors import ModelRefused, first_line, shown_path
from petkit.models.hub import split_revision
from petkit.models.loading import EMBEDDED
from petkit.models.safety.model_folder import ADAPTER_WEIGHTS, check_adapter_folder
from petkit.models.safety.weight_files import refuse_not_finite

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

STATE_FILE = ADAPTER_WEIGHTS
_PEFT_PREFIX = "base_model.model."


class Adapter(nn.Module, ABC):
    """Few trained parameters on a frozen model, and PEFT's description of them."""

    mergeable = False  # whether `merge` can fold it into the model's weights
    tokens_before = 0  # tokens, or keys and values in every layer, that it puts before each row

    def __init__(self, model: PreTrainedModel, config: PeftConfig) -> None:
        super().__init__()
        self.config: Any = config
        self._model: list[Any] = [model]  # in a list, so as not to own its parameters
        self._head: dict[str, nn.Parameter] = {}

    @property
    def model(self) -> Any:
        """The model that answers with the adapter."""
        return self._model[0]

    @abstractmethod
    def own_state(self) -> dict[str, Tensor]:
        """Return the adapter's own tensors, under PEFT's names."""

    @abstractmethod
    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over tensors of the names and shapes of :meth:`own_state`."""

    @abstractmethod
    def detach(self) -> None:
        """Let the model answer without the adapter again."""

    def merge(self) -> None:
        """Fold the adapter into the model's weights and detach it; only where ``mergeable``."""
        raise TypeError(f"{type(self).__name__} cannot be merged")

    def train_too(self, names: Iterable[str]) -> None:
        """Train and keep these parameters of the model as well: a head that its checkpoint did not hold."""
        parameters = dict(self.model.named_parameters())
        self._head = {name: parameters[name] for name in names}
        for parameter in self._head.values():
            parameter.requires_grad_(True)
        # Kinds that PEFT gives no such attribute keep it as well.
        self.config.modules_to_save = sorted({name.rpartition(".")[0] for name in self._head}) or None

    def state(self) -> dict[str, Tensor]:
        """Return everything that was trained, under PEFT's names."""
        return self.own_state() | {f"{_PEFT_PREFIX}{name}": value.detach() for name, value in self._head.items()}

    def put(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over what :meth:`state` gave; ``source`` is where it comes from, for messages."""
        expected = {name: tuple(value.shape) for name, value in self.state().items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if wrong:
            name = wrong[0]
            shapes = f"{name} is {found.get(name, 'missing')} there and {expected.get(name, 'missing')} here"
            raise ModelRefused(f"{source}: the adapter was made for another model or with other options: {shapes}")
        with torch.no_grad():
            for name, parameter in self._head.items():
                parameter.copy_(state[_PEFT_PREFIX + name])
        self.load_own_state({name: value for name, value in state.items() if name.removeprefix(_PEFT_PREFIX) not in self._head})

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter to the frozen model named ``base`` as PEFT does: ``adapter_config.json`` and its tensors."""
        # The embedded model's name means nothing to PEFT, which would look it up on the hub.
        name, revision = (base, None) if Path(base).is_dir() else split_revision(base)
        self.config.base_model_name_or_path, self.config.revision = None if base == EMBEDDED else name, revision
        self.config.inference_mode = True
        folder.mkdir(parents=True, exist_ok=True)
        written = copy(self.config)
        for name, value in vars(self.config).items():
            if isinstance(value, set):  # PEFT would write it in an order that differs between processes
                setattr(written, name, sorted(value))
        written.save_pretrained(str(folder))
        save_file({name: value.to("cpu").contiguous() for name, value in self.state().items()}, folder / STATE_FILE)


def read_adapter(folder: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of an adapter folder, whose file must have this hash where one is given."""
    shown = shown_path(folder)
    check_adapter_folder(folder)
    try:
        if sha256 is None:
            state = load_file(folder / STATE_FILE)
        else:
            content = (folder / STATE_FILE).read_bytes()  # once, so that what is hashed is what is used
            if hashlib.sha256(content).hexdigest() != sha256:
                raise ModelRefused(f"{shown}: {STATE_FILE} has changed since it was checked (run the command again)")
            state = load(content)
    except (SafetensorError, OSError) as error:
        raise ModelRefused(f"{shown}: {STATE_FILE} is missing or damaged: {first_line(error)}") from None
    refuse_not_finite(state, shown)
    return state
