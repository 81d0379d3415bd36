"""``petkit adapt``: more masked-LM training of a backbone on the unlabelled set (Gururangan et al. 2020, section 4).

Task-adaptive pretraining needs texts only: no labels, no patterns' label words. It makes a plain model folder
that pipelines name as their ``model``. Part of the texts is kept aside to tell whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/model/            the adapted model, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from petkit.config.loader import Pipeline
from petkit.engine.device import Device
from petkit.engine.training_loop import fit
from petkit.events import Notice, OnEvent, ignore
from petkit.models.batch import Batch
from petkit.models.loading import load_masked_lm
from petkit.models.mask_reader import MaskReader
from petkit.pretraining.masked_lm import MaskedTexts, perplexity
from petkit.pretraining.single_step_run import LoneStep, Made, make
from petkit.pretraining.unlabeled_texts import UnlabeledTexts, hold_out
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.step import Job
from petkit.runs.store import ADAPTED_MODEL
from petkit.storage.row_array import HELD_ROWS

MODEL = "model"


@dataclass(frozen=True)
class Adapted(Made):
    """An adapted model: its folder, whether there was work to do, and the figures of its making."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"model": str(self.folder), "ran": self.ran, **self.facts}

    def summary(self, pipeline: Path) -> str:
        """Say whether it helped, and how a pipeline file uses it."""
        facts, command = self.facts, ["petkit", "run", str(pipeline), "--set", f"model={self.folder}"]
        return (
            f"perplexity on {facts['held_out_rows']:,} rows kept aside: "
            f"{facts['perplexity_before']:.1f} → {facts['perplexity_after']:.1f}\n"
            f"model: {self.folder}\nuse it: {shlex.join(command)}"
        )


def adapt(pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore) -> Adapted:
    """Adapt a pipeline's model to its unlabelled set, in a run folder of its own; goes on where a killed one stopped.

    Args:
        folder: the run folder; the model lies in ``model`` there.
        resume: see :func:`petkit.runs.resume.refuse_resume`.
        on_event: hears every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, holds something else, or a model made with other settings.
        TrainingDiverged: the loss is no longer finite.
    """
    texts = UnlabeledTexts(pipeline, "adapting")
    settings = pipeline.spec.adapt

    def inputs(device: Device) -> Inputs:
        return {**texts.inputs(device), **flat("adapt", settings.model_dump())}

    step = LoneStep(MODEL, ADAPTED_MODEL, inputs, lambda job, device: _train(texts, job, device))
    made = make(step, pipeline, folder, texts.max_length, on_event, resume)
    return Adapted(made.folder, made.ran, made.facts)


class _MaskedLM(MaskReader):
    """A masked LM that answers at the hidden tokens only."""

    def forward(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the logits at the given places, shape ``(hidden, vocabulary)``."""
        return self.read(batch, rows, columns)


def _train(texts: UnlabeledTexts, job: Job, device: Device) -> None:
    """Train the model into the job's folder, beside its tokenizer."""
    settings = texts.spec.adapt
    kept, held_out = hold_out(np.arange(texts.scan.rows), settings.seed)
    scratch = job.store.scratch("tokens") if texts.scan.rows > HELD_ROWS else None
    task = MaskedTexts(texts, device, settings, kept, held_out, scratch)
    model = _MaskedLM(load_masked_lm(texts.spec.model, device.training_attention)).to(device.name)
    before = task.held_out_loss(model)
    fit(
        model,
        task.batches(),
        task.loss,
        settings,
        device,
        lambda step, loss: job.trained(step, settings.steps, loss),
        seed=settings.seed,
        checkpoints=job.checkpoints(),
    )
    after = task.held_out_loss(model)
    job.facts.update(
        rows=len(kept), held_out_rows=len(held_out), loss_before=before, loss_after=after,
        perplexity_before=perplexity(before, "adapt"), perplexity_after=perplexity(after, "adapt"),
    )  # fmt: skip
    if after >= before:
        message = "the model guesses the hidden words of held-out texts no better than before (lower adapt.learning_rate)"
        job.on_event(Notice(job.step, message))
    model.detach().save_pretrained(job.folder)
    texts.tokenizer.hf.save_pretrained(job.folder)
