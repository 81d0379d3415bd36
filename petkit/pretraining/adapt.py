"""``petkit adapt``: more masked-LM training of a backbone on the unlabelled set (Gururangan et al. 2020, section 4).

Task-adaptive pretraining needs texts only: no labels, no patterns' label words. It makes a plain model folder
that pipelines name as their ``model``. Part of the texts is held out to measure whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/model/            the adapted model, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from petkit.config.loader import Pipeline
from petkit.engine.device import Device
from petkit.events import Notice, OnEvent, ignore
from petkit.models.loading import load_masked_lm
from petkit.models.mask_reader import MaskReader
from petkit.pretraining.masked_lm import MaskedTexts
from petkit.pretraining.single_step_run import SingleStepResult, open_run, run_single_step
from petkit.pretraining.training import Training
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.runs.step import Job
from petkit.runs.store import ADAPTED_MODEL
from petkit.task.model_checks import at_commits


@dataclass(frozen=True)
class Adapted(SingleStepResult):
    """An adapted model."""

    STEP, KIND, SETTING = "model", ADAPTED_MODEL, "model={path}"


def adapt(pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore) -> Adapted:
    """Adapt a pipeline's model to its unlabelled set, in a run folder of its own; resumes after a kill."""
    store, device = open_run(Adapted.KIND, pipeline, folder, resume)
    texts = UnlabeledTexts(at_commits(pipeline, store), "adapt", "adapting")
    return run_single_step(Adapted, texts, lambda job, device: _train(texts, job, device), store, device, on_event)


def _train(texts: UnlabeledTexts, job: Job, device: Device) -> None:
    """Train the model, and write it and its tokenizer to the job's folder."""
    training = Training(texts, job, device)
    objective = MaskedTexts(training)
    reader = MaskReader(load_masked_lm(texts.spec.model, device.training_attention)).to(device.name)
    fell = training.run(reader, [objective])
    if not fell:
        message = "the model guesses the hidden words of held-out texts no better than before (lower adapt.learning_rate)"
        job.on_event(Notice(job.step, message))
    reader.detach().save_pretrained(job.folder)
    texts.tokenizer.hf.save_pretrained(job.folder)
