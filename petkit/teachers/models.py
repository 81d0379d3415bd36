"""The models behind the teachers: each has its own, or all share one frozen backbone and differ by an adapter.

With an adapter the backbone is loaded once. A teacher is then its adapter, a few megabytes in its folder, and takes turns
with the others on that backbone; switching copies the adapter's tensors, nothing else. Untrained patterns share it always.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from petkit.config.schema.adapter import AnyAdapter, PromptEncoderSpec
from petkit.engine.device import Device, prepare_for_inference, release_memory
from petkit.models.adapters.attach import attach, start_from_folder
from petkit.models.adapters.base import Adapter, read_adapter
from petkit.models.architectures import WantedScoring
from petkit.models.label_scorer import LabelScorer
from petkit.models.label_scorers import LABEL_SCORERS
from petkit.models.loading import load_language_model
from petkit.models.mask_reader import MaskReader
from petkit.prompts.pvp import PVP
from petkit.runs.layout import OWN_STATE, teacher_model
from petkit.runs.store import RunStore
from petkit.storage.fault_points import crash_point
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher


def scorer_of(model: Any, pvp: PVP, *, normalised: bool = False, soft_tokens: int | None = None) -> LabelScorer:
    """Return what reads a PVP's answers from a model (or through the ``MaskReader`` of another scorer's).

    Soft tokens are drawn from torch's current random state.

    Args:
        normalised: give log-probabilities under the whole vocabulary where plain logits would do.
        soft_tokens: how many of the pattern's soft tokens it has; default: all of them.
    """
    soft_tokens = pvp.pattern.soft_tokens if soft_tokens is None else soft_tokens
    return LABEL_SCORERS[pvp.verbalizer.kind](model, pvp, soft_tokens, normalised)


def load_scorer(model: str, pvp: PVP, device: Device) -> LabelScorer:
    """Load a language model (a teacher's folder, or a backbone's name for an untrained one) ready to score."""
    scorer = _untrained_scorer(load_language_model(model), pvp)
    _load_own_state(scorer, Path(model))
    prepare_for_inference(scorer, device)
    return scorer


class TeacherModels(ABC):
    """Lends the models of teachers that start from ``backbone``, one at a time."""

    spec: AnyAdapter | None = None  # the adapter that is trained

    def __init__(self, backbone: str, device: Device, scoring: WantedScoring = "auto") -> None:
        self.backbone, self.device, self.scoring = backbone, device, scoring
        self._reader: MaskReader | None = None

    @abstractmethod
    def new(self, pvp: PVP, *, normalised: bool = False) -> AbstractContextManager[LabelScorer]:
        """Lend a teacher to be trained, made by :func:`scorer_of`."""

    @abstractmethod
    def trained(self, folder: Path, pvp: PVP) -> AbstractContextManager[LabelScorer]:
        """Lend a finished teacher, ready to score."""

    @contextmanager
    def untrained(self, pvp: PVP) -> Iterator[LabelScorer]:
        """Lend the pretrained backbone, ready to score; its soft tokens are always the same."""
        scorer = _untrained_scorer(self._backbone_reader(None), pvp).to(self.device.name)
        yield scorer.eval()
        scorer.release()

    def save(self, scorer: LabelScorer, folder: Path) -> None:
        """Write a teacher that was just trained: its adapter, or its model."""
        crash_point("model: before write")
        if own := {name: value.to("cpu", torch.float32).contiguous() for name, value in scorer.own_state().items()}:
            save_file(own, folder / OWN_STATE)
        self._save(scorer, folder)
        crash_point("model: written")

    @abstractmethod
    def _save(self, scorer: LabelScorer, folder: Path) -> None: ...

    def release(self) -> None:
        """Free the memory of the shared backbone."""
        if self._reader is not None:
            self._reader = None
            release_memory()

    def _backbone_reader(self, attention: str | None) -> MaskReader:
        """Return the mask reader of the shared backbone without an adapter."""
        if self._reader is None:
            with torch.random.fork_rng(devices=[]):
                model = load_language_model(self.backbone, four_bit=self.device.four_bit(self.spec), scoring=self.scoring)
            self._own_attention = model.config._attn_implementation
            # Frozen weights may be stored in the format they are multiplied in: autocast would cast them in every step.
            prepare_for_inference(model, self.device)
            self._reader = MaskReader(model)
        self._reader.model.set_attn_implementation(attention or self._own_attention)
        return self._reader


def teacher_models(
    backbone: str,
    adapter: AnyAdapter | None,
    device: Device,
    start_sha256: str | None = None,
    scoring: WantedScoring = "auto",
) -> TeacherModels:
    """Return what lends the models of teachers that train an adapter (from the prompt of this hash), or the whole model."""
    if adapter is None:
        return OwnModels(backbone, device, scoring)
    return SharedBackbone(backbone, adapter, device, start_sha256, scoring)


class OwnModels(TeacherModels):
    """Every trained teacher is a copy of the backbone; none is loaded together with another or with the backbone."""

    @contextmanager
    def new(self, pvp: PVP, *, normalised: bool = False) -> Iterator[LabelScorer]:
        self.release()
        model = load_language_model(self.backbone, self.device.training_attention, scoring=self.scoring)
        scorer = scorer_of(model, pvp, normalised=normalised)
        yield scorer.to(self.device.name)
        _free(scorer)

    @contextmanager
    def trained(self, folder: Path, pvp: PVP) -> Iterator[LabelScorer]:
        self.release()
        scorer = load_scorer(str(folder), pvp, self.device)
        yield scorer
        _free(scorer)

    def _save(self, scorer: LabelScorer, folder: Path) -> None:
        scorer.detach().save_pretrained(folder)


class SharedBackbone(TeacherModels):
    """Every trained teacher is an adapter to one frozen backbone."""

    spec: AnyAdapter

    def __init__(
        self,
        backbone: str,
        adapter: AnyAdapter,
        device: Device,
        start_sha256: str | None = None,
        scoring: WantedScoring = "auto",
    ) -> None:
        super().__init__(backbone, device, scoring)
        self.spec, self._start_sha256 = adapter, start_sha256
        self._adapter: Adapter | None = None
        self._states: dict[Path, dict[str, Tensor]] = {}

    @contextmanager
    def new(self, pvp: PVP, *, normalised: bool = False) -> Iterator[LabelScorer]:
        reader = self._backbone_reader(self.device.training_attention)
        adapter = self._attach(reader, pvp)
        start_from_folder(adapter, self.spec, self._start_sha256)
        with self._scorer(reader, adapter, pvp, normalised=normalised) as scorer:
            yield scorer
        self._detach()

    @contextmanager
    def trained(self, folder: Path, pvp: PVP) -> Iterator[LabelScorer]:
        if folder not in self._states:
            self._states[folder] = read_adapter(folder)
        reader, adapter = self._reader, self._adapter
        if reader is None or adapter is None or self._virtual_tokens(pvp):
            reader = self._backbone_reader(None)
            with torch.random.fork_rng(devices=[]):
                adapter = self._attach(reader, pvp)
        adapter.put(self._states[folder], str(folder))
        with torch.random.fork_rng(devices=[]), self._scorer(reader, adapter, pvp) as scorer:
            _load_own_state(scorer, folder)
            yield scorer.eval()
        if self._virtual_tokens(pvp):
            self._detach()

    def release(self) -> None:
        self._adapter = None
        self._states.clear()
        super().release()

    def _save(self, scorer: LabelScorer, folder: Path) -> None:
        assert self._adapter is not None
        self._adapter.save(folder, self.backbone)

    def _backbone_reader(self, attention: str | None) -> MaskReader:
        self._detach()
        return super()._backbone_reader(attention)

    def _attach(self, reader: MaskReader, pvp: PVP) -> Adapter:
        self._adapter = attach(reader.model, self.spec, self._virtual_tokens(pvp)).to(self.device.name)
        return self._adapter

    def _detach(self) -> None:
        if self._adapter is not None:
            self._adapter.detach()
            self._adapter = None

    def _virtual_tokens(self, pvp: PVP) -> int:
        """Return how many soft tokens of the pattern are P-Tuning v1's virtual tokens."""
        return pvp.pattern.soft_tokens if isinstance(self.spec, PromptEncoderSpec) else 0

    @contextmanager
    def _scorer(self, reader: MaskReader, adapter: Adapter, pvp: PVP, *, normalised: bool = False) -> Iterator[LabelScorer]:
        own_soft_tokens = pvp.pattern.soft_tokens - self._virtual_tokens(pvp)
        scorer = scorer_of(reader, pvp, normalised=normalised, soft_tokens=own_soft_tokens)
        scorer.adapter = adapter
        yield scorer.to(self.device.name)
        scorer.release()


def teacher_scorer(store: RunStore, task: Task, models: TeacherModels, teacher: Teacher) -> AbstractContextManager[LabelScorer]:
    """Lend a teacher of the run, ready to score; one that learnt from nothing is its pattern untrained."""
    pvp = task.pvps[teacher.pattern]
    return models.trained(store.path(teacher_model(teacher.name)), pvp) if teacher.trained else models.untrained(pvp)


def _untrained_scorer(model: Any, pvp: PVP) -> LabelScorer:
    """Return a scorer whose soft tokens are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return scorer_of(model, pvp)


def _load_own_state(scorer: LabelScorer, folder: Path) -> None:
    if (folder / OWN_STATE).is_file():
        scorer.load_own_state(load_file(folder / OWN_STATE))


def _free(scorer: LabelScorer) -> None:
    scorer.to("meta")  # the borrower still names it while the next one is loaded
    release_memory()
