"""The models behind the teachers: each has its own, or all share one frozen backbone and differ by an adapter.

With an adapter the backbone is loaded once. A teacher is then its adapter, a few megabytes in its folder, and takes turns
with the others on that backbone; switching copies the adapter's tensors, nothing else. Patterns untrained share it always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from petkit.config.schema import AnyAdapter, PromptEncoderSpec
from petkit.engine.device import Device, prepare_for_inference, release_memory
from petkit.models.adapters.attach import attach, start_from_folder
from petkit.models.adapters.base import Adapter, read_adapter
from petkit.models.label_scorers import LabelScorer
from petkit.models.loading import load_language_model
from petkit.models.mask_reader import MaskReader
from petkit.prompts.pvp import PVP
from petkit.runs.layout import teacher_model
from petkit.runs.store import RunStore
from petkit.storage.fault_points import crash_point
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.scoring import load_own_state, load_scorer, save_own_state, scorer_of


class TeacherModels:
    """Lends teachers' models, one at a time.

    Args:
        backbone: name of the model the teachers start from.
        adapter: what is trained beside it; None: the model itself, so that every teacher has a copy of its own.
        start_sha256: hash of the prompt it starts from, as it was checked.
    """

    def __init__(self, backbone: str, adapter: AnyAdapter | None, device: Device, start_sha256: str | None = None) -> None:
        self.backbone, self.spec, self.device = backbone, adapter, device
        self._start_sha256 = start_sha256
        self._reader: MaskReader | None = None
        self._adapter: Adapter | None = None
        self._states: dict[Path, dict[str, Tensor]] = {}

    @contextmanager
    def new(self, pvp: PVP, *, normalised: bool = False) -> Iterator[LabelScorer]:
        """Lend a teacher to be trained, drawn from torch's current random state.

        Args:
            normalised: give log-probabilities under the whole vocabulary where plain logits would do.
        """
        attention = self.device.training_attention
        if self.spec is None:
            self.forget()
            scorer = scorer_of(load_language_model(self.backbone, attention), pvp, normalised=normalised)
            yield scorer.to(self.device.name)
            _free(scorer)
            return
        reader = self._bare(attention)
        self._adapter = attach(reader.model, self.spec, _stands_for(self.spec, pvp)).to(self.device.name)
        start_from_folder(self._adapter, self.spec, self._start_sha256)
        with self._with_adapter(reader, pvp, normalised) as scorer:
            yield scorer
        self._detach()

    @contextmanager
    def trained(self, folder: Path, pvp: PVP) -> Iterator[LabelScorer]:
        """Lend a finished teacher, ready to score.

        Raises:
            ModelRefused: its files are damaged or made for another model.
        """
        if self.spec is None:
            self.forget()
            scorer = load_scorer(str(folder), pvp, self.device)
            yield scorer
            _free(scorer)
            return
        if folder not in self._states:
            self._states[folder] = read_adapter(folder)
        state = self._states[folder]
        stands_for = _stands_for(self.spec, pvp)
        if self._adapter is None or stands_for:
            reader = self._bare(None)
            with torch.random.fork_rng(devices=[]):
                self._adapter = attach(reader.model, self.spec, stands_for).to(self.device.name)
        assert self._reader is not None
        self._adapter.put(state, str(folder))
        with torch.random.fork_rng(devices=[]), self._with_adapter(self._reader, pvp, normalised=False) as scorer:
            load_own_state(scorer, folder)
            yield scorer.eval()
        if stands_for:
            self._detach()

    @contextmanager
    def untrained(self, pvp: PVP) -> Iterator[LabelScorer]:
        """Lend the backbone as it came, ready to score; soft tokens are the same at every look."""
        reader = self._bare(None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            scorer = scorer_of(reader, pvp).to(self.device.name)
        yield scorer.eval()
        scorer.release()

    def save(self, scorer: LabelScorer, folder: Path) -> None:
        """Write a teacher that was just trained: its adapter, or its model."""
        crash_point("model: before write")
        save_own_state(scorer, folder)
        if self._adapter is None:
            scorer.detach().save_pretrained(folder)
        else:
            self._adapter.save(folder, self.backbone)
        crash_point("model: written")

    def forget(self) -> None:
        """Give the memory of the shared backbone back."""
        if self._reader is not None:
            self._reader = self._adapter = None
            self._states.clear()
            release_memory()

    def _bare(self, attention: str | None) -> MaskReader:
        """Return what reads the shared backbone without an adapter."""
        self._detach()
        if self._reader is None:
            with torch.random.fork_rng(devices=[]):
                model = load_language_model(self.backbone, four_bit=self.device.four_bit(self.spec))
            self._own_attention = model.config._attn_implementation
            # Frozen weights may be held in the format they are multiplied in: autocast would cast them in every step.
            prepare_for_inference(model, self.device)
            self._reader = MaskReader(model)
        self._reader.model.set_attn_implementation(attention or self._own_attention)
        return self._reader

    @contextmanager
    def _with_adapter(self, reader: MaskReader, pvp: PVP, normalised: bool) -> Iterator[LabelScorer]:
        assert self.spec is not None
        own_soft = 0 if _stands_for(self.spec, pvp) else pvp.pattern.soft_tokens
        scorer = scorer_of(reader, pvp, normalised=normalised, soft_tokens=own_soft)
        scorer.adapter = self._adapter
        yield scorer.to(self.device.name)
        scorer.release()

    def _detach(self) -> None:
        if self._adapter is not None:
            self._adapter.detach()
            self._adapter = None


def teacher_scorer(store: RunStore, task: Task, models: TeacherModels, teacher: Teacher) -> AbstractContextManager[LabelScorer]:
    """Lend a teacher of the run, ready to score; without labelled rows it is its pattern untrained."""
    pvp = task.pvps[teacher.pattern]
    return models.trained(store.path(teacher_model(teacher.name)), pvp) if teacher.trained else models.untrained(pvp)


def _free(scorer: LabelScorer) -> None:
    scorer.to("meta")  # the borrower still names it while the next one is loaded
    release_memory()


def _stands_for(spec: AnyAdapter, pvp: PVP) -> int:
    """Return how many soft tokens of the pattern are P-Tuning v1's virtual tokens."""
    return pvp.pattern.soft_tokens if isinstance(spec, PromptEncoderSpec) else 0
