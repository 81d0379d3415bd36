"""``petkit adapt``: more masked-LM training of a backbone on the unlabelled set (Gururangan et al. 2020, section 4).

Task-adaptive pretraining needs texts only: no labels, no patterns' label words. It makes a plain model folder
that pipelines name as their ``model``. Part of the texts is held out to measure whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/model/            the adapted model, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

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
from petkit.pretraining.single_step_run import SingleStepResult, run_single_step
from petkit.pretraining.unlabeled_texts import UnlabeledTexts, hold_out
from petkit.runs.fingerprint import flat
from petkit.runs.step import Job
from petkit.runs.store import ADAPTED_MODEL
from petkit.storage.row_array import HELD_ROWS


@dataclass(frozen=True)
class Adapted(SingleStepResult):
    """An adapted model: its folder, whether there was work to do, and the figures of its making."""

    STEP = "model"

    def summary(self, pipeline: Path) -> str:
        """Return whether it helped, and the command that uses it."""
        facts, command = self.facts, ["petkit", "run", str(pipeline), "--set", f"model={self.folder}"]
        return (
            f"perplexity on {facts['held_out_rows']:,} held-out rows: "
            f"{facts['perplexity_before']:.1f} → {facts['perplexity_after']:.1f}\n"
            f"model: {self.folder}\nuse it: {shlex.join(command)}"
        )


def adapt(pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore) -> Adapted:
    """Adapt a pipeline's model to its unlabelled set, in a run folder of its own; resumes after a kill.

    Args:
        folder: the run folder; the model is in ``model`` there.
        resume: see :func:`petkit.runs.resume.refuse_resume`.
        on_event: called with every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, contains something else, or a model made with other settings.
        TrainingDiverged: the loss is no longer finite.
    """
    texts = UnlabeledTexts(pipeline, "adapting")
    settings = flat("adapt", pipeline.spec.adapt.model_dump())
    return run_single_step(
        Adapted, ADAPTED_MODEL, texts, settings, lambda job, device: _train(texts, job, device), folder, on_event, resume
    )


class _MaskedLM(MaskReader):
    """A masked LM that predicts the hidden tokens only."""

    def forward(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the logits at the given places, shape ``(hidden, vocabulary)``."""
        return self.read(batch, rows, columns)


def _train(texts: UnlabeledTexts, job: Job, device: Device) -> None:
    """Train the model, and write it and its tokenizer to the job's folder."""
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
