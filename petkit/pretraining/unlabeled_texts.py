"""The unlabelled set and the model that reads it: what is trained on texts alone needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.loader import Pipeline
from petkit.config.schema.training import AdaptSpec, PretrainPromptSpec
from petkit.data.examples import Example, ExampleSource
from petkit.engine.device import Device
from petkit.engine.sampling import StepRows, smaller_batches, step_rows, training_batches
from petkit.engine.training_loop import TrainingDiverged, fit
from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.models.batch import IndexArray
from petkit.models.loading import EMBEDDED, check_language_model, load_config, load_masked_lm, load_tokenizer, model_fingerprint
from petkit.prompts.pattern import FieldKey
from petkit.prompts.pvp import task_fields
from petkit.prompts.token_store import TokenStore
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.step import Job
from petkit.runs.store import Scratch
from petkit.storage.row_array import HELD_ROWS
from petkit.task.checks import scan_problems
from petkit.task.model_checks import length_of_rows


class UnlabeledTexts:
    """The unlabelled set and the model that reads it, both checked. Labelled rows and label words may be missing or wrong.

    Args:
        section: of the pipeline, with the settings of the training; ``doing`` names it in messages.
    """

    settings: AdaptSpec | PretrainPromptSpec

    def __init__(self, pipeline: Pipeline, section: Literal["adapt", "pretrain_prompt"], doing: str) -> None:
        self.pipeline, self.spec, self.section = pipeline, pipeline.spec, section
        self.settings = getattr(pipeline.spec, section)
        self.fields = task_fields(self.spec.patterns)
        self.source = ExampleSource(self.spec.data.unlabeled, self.spec.data, self.fields, None)
        problems = self._model_problems()
        reads_model = not problems
        self.scan = self.source.scan()
        problems += scan_problems(pipeline, "unlabeled", self.scan)
        if self.scan.rows == 1 and not self.scan.problems:
            problems.append(Problem.of_file(self.source.shown, f"contains one row only; {doing} needs another to hold out"))
        if reads_model:
            problems += self._further_problems(readable=not self.scan.problems and self.scan.rows > 1)
        if problems:
            raise InvalidInput(problems)

    def rows(self) -> Iterator[Example]:
        """Yield the rows, which must be those that were checked."""
        return self.source.unchanged(self.scan)

    def inputs(self, device: Device) -> Inputs:
        """Return what anything trained on the texts depends on."""
        return {
            "step.version": 1,
            "fields": list(self.fields),
            "model": model_fingerprint(self.spec.model),
            "max_length": self.max_length,
            "truncate": self.spec.truncate,
            "precision": device.precision,
            "data.unlabeled": self.scan.sha256,
            **flat(self.section, self.settings.fingerprint_settings()),
        }

    def _model_problems(self) -> list[Problem]:
        name = self.spec.model
        try:
            config = load_config(name)
            check_language_model(config, name, masked=True)
            self.tokenizer = load_tokenizer(name)
            if name != EMBEDDED:  # a missing head and damaged weights show only when weights meet architecture
                self._try_out(load_masked_lm(name))
        except ModelRefused as error:
            return [self.pipeline.problem(("model",), str(error))]
        virtual = self.settings.tokens if isinstance(self.settings, PretrainPromptSpec) else 0
        at = (self.section, "tokens")
        self.max_length, problems = length_of_rows(self.pipeline, config, self.tokenizer, virtual, at)
        return problems

    def _try_out(self, model: Any) -> None:
        """Raise :class:`ModelRefused` for a model, not the embedded one, that cannot be trained this way."""

    def _further_problems(self, *, readable: bool) -> list[Problem]:
        """Return what else is wrong where the model is sound; ``readable`` says that the rows are sound as well."""
        return []


_HELD_OUT_SHARE, _HELD_OUT_MOST = 0.05, 512
# What is drawn from the seed in addition to every step's own randomness (see ``Training.random``).
ROWS, HIDDEN_TOKENS, PAIRS = 1, 2, 3


class Objective(Protocol):
    """A loss on the rows (or texts) of a step, and the ``loss`` in nats and a further figure of the held-out rows.

    What a step hides or draws depends on its number, never on earlier steps; on held-out rows it is the same each time.
    """

    def batches(self) -> Iterator[StepRows]: ...
    def loss(self, model: nn.Module, step: StepRows) -> Tensor: ...
    def held_out_figures(self, model: nn.Module) -> dict[str, float]: ...


class Training:
    """One training on unlabelled texts.

    Attributes:
        held_out: a twentieth of ``rows`` (default: all), 512 at most, as drawn; ``kept`` are all other rows, rising.
    """

    def __init__(self, texts: UnlabeledTexts, job: Job, device: Device, rows: IndexArray | None = None) -> None:
        self.texts, self.job, self.device, self.settings = texts, job, device, texts.settings
        every = np.arange(texts.scan.rows)
        rows = every if rows is None else rows
        order = rows[self.random(ROWS).permutation(len(rows))]
        self.held_out: IndexArray = order[: min(_HELD_OUT_MOST, math.ceil(_HELD_OUT_SHARE * len(order)))]
        self.kept: IndexArray = np.setdiff1d(every, self.held_out)

    def random(self, purpose: int) -> np.random.Generator:
        """Return randomness apart from that of the steps, [seed, step] from step 1 (numpy takes [seed, 0] for the seed alone)."""
        return np.random.default_rng([self.settings.seed, 0, purpose])

    def tokens(self, rows: Iterable[Example], keys: Sequence[FieldKey], name: Scratch) -> TokenStore:
        """Return tokenised rows; those of large sets are stored in a scratch folder of this name."""
        texts = self.texts
        scratch = self.job.store.scratch(name) if texts.scan.rows > HELD_ROWS else None
        return TokenStore.build(rows, texts.tokenizer, keys, texts.max_length, texts.spec.truncate, scratch)

    def batches(self, rows: IndexArray, lengths: IndexArray) -> Iterator[StepRows]:
        """Yield every step's rows, drawn from ``rows`` of these lengths."""
        settings = self.settings
        self.job.facts.update(smaller_batches(batch_size=(len(rows), settings.batch_size)))
        drawn = training_batches(lengths, settings.batch_size, settings.steps, settings.seed)
        return step_rows((rows[batch] for batch in drawn), None, settings.seed)

    def run(self, model: nn.Module, objectives: Sequence[Objective], **facts: int) -> bool:
        """Train on the sum of the objectives; return whether the loss on the held-out rows fell.

        Args:
            facts: further figures to record.
        """
        job, settings = self.job, self.settings
        before = self._held_out_figures(model, objectives)
        fit(
            model,
            zip(*(objective.batches() for objective in objectives), strict=True),
            lambda model, steps: torch.stack([own.loss(model, step) for own, step in zip(objectives, steps, strict=True)]).sum(),
            settings,
            self.device,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
        after = self._held_out_figures(model, objectives)
        job.facts.update(rows=len(self.kept), held_out_rows=len(self.held_out), **facts)
        for when, figures in (("before", before), ("after", after)):
            job.facts.update({f"{name}_{when}": value for name, value in figures.items()})
        return after["loss"] < before["loss"]

    def _held_out_figures(self, model: nn.Module, objectives: Sequence[Objective]) -> dict[str, float]:
        """Return the loss of all objectives on the held-out rows, and their figures; refuse NaN, as the last step can make it."""
        found = {"loss": 0.0}
        model.eval()
        for objective in objectives:
            figures = objective.held_out_figures(model)
            if not all(map(math.isfinite, figures.values())):
                message = f"the loss on held-out rows is {figures['loss']:.3g} (lower {self.texts.section}.learning_rate)"
                raise TrainingDiverged(f"training diverged: {message}")
            found = {**found, **figures, "loss": found["loss"] + figures["loss"]}
        return found
