"""Finished run folders to damage: how each is made, used and finished again."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from petkit.models.loading import model_fingerprint
from petkit.predict.predictor import Predictor
from petkit.task.start_prompt import read_prompt
from tests.pretraining import prompt_task, test_adaptation
from tests.tiny_task import load, run_task, write_task

TEXTS = ["the game was good", "is it the answer", "market news"]


class Bench(ABC):
    """A run folder of one kind.

    Attributes:
        name: how the matrix calls it.
        skipped: kinds of files that no run of this kind has.
    """

    name: str

    def __init__(self, folder: Path, model: Path) -> None:
        self.home, self.model = folder, model
        self.clean = folder / "clean"

    @abstractmethod
    def again(self, folder: Path) -> Any:
        """Run the command that made the folder."""

    @abstractmethod
    def use(self, folder: Path) -> Any:
        """Do what the folder is made for; return what comes out."""

    def make(self) -> None:
        """Make the folder whose copies are damaged."""
        self.again(self.clean)

    def copy(self, folder: Path) -> Path:
        """Return a new copy of the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.clean, folder, symlinks=True))


class FinishedRun(Bench):
    """A run with every kind of step that there is; its student kept its adapter."""

    name = "run"
    SETTINGS = (
        "verbalizer={auto: {per_label: 1}}", "keep_patterns=1", "soft_labels.weighting=out_of_fold", "soft_labels.folds=2",
        "baselines=[majority]", "student={steps: 2, batch_size: 4, adapter: {kind: lora}, keep_adapter: true}",
        "teachers={seeds: [1], steps: 2, batch_size: 4}",
    )  # fmt: skip

    def make(self) -> None:
        self.task = write_task(self.home / "task", self.model)
        super().make()

    def again(self, folder: Path) -> Any:
        return run_task(self.task, folder, *self.SETTINGS).ran

    def use(self, folder: Path) -> Any:
        both = [Predictor.load(folder, teachers=teachers)(TEXTS) for teachers in (False, True)]
        return [prediction.probabilities for predictions in both for prediction in predictions]


class AdaptedModel(Bench):
    """A model adapted to the unlabelled set."""

    name = "adapted model"

    def make(self) -> None:
        self.task = test_adaptation.write(self.home / "task", self.model)
        super().make()

    def again(self, folder: Path) -> Any:
        return test_adaptation.run(self.task, folder)[0].ran

    def use(self, folder: Path) -> Any:
        return model_fingerprint(str(folder / "model"))


class HalfAdapted(AdaptedModel):
    """An adaptation that was killed: a checkpoint and no model."""

    name = "killed adaptation"

    def make(self) -> None:
        self.task = test_adaptation.write(self.home / "task", self.model)
        test_adaptation.kill(self.task, self.clean, 5)

    def use(self, folder: Path) -> Any:
        """Nothing: what there is, only the same command reads."""


class Prompt(Bench):
    """A pretrained prompt."""

    name = "pretrained prompt"

    def make(self) -> None:
        self.task = prompt_task.write(self.home / "task", self.model)
        super().make()

    def again(self, folder: Path) -> Any:
        return prompt_task.make(self.task, folder)[0].ran

    def use(self, folder: Path) -> Any:
        name = str(load(self.task).spec.model)
        return read_prompt(folder, name, model_fingerprint(name))[1:]  # not its folder


BENCHES: tuple[type[Bench], ...] = (FinishedRun, AdaptedModel, HalfAdapted, Prompt)
