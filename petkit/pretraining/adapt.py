"""``petkit adapt``: more masked-LM training of a backbone on the unlabelled set (Gururangan et al. 2020, section 4).

Task-adaptive pretraining needs texts only: no labels, no patterns' label words. It makes a plain model folder
that pipelines name as their ``model``. Part of the texts is held out to measure whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/model/            the adapted model, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from petkit.config.loader import Pipeline
from petkit.engine.device import Device, inference
from petkit.engine.sampling import StepRows
from petkit.engine.token_masking import MaskedBatch, TokenMasking
from petkit.events import Notice, OnEvent, ignore
from petkit.losses import masked_lm
from petkit.models.batch import IndexArray, collate
from petkit.models.loading import load_masked_lm
from petkit.models.mask_reader import MaskReader
from petkit.pretraining.single_step_run import SingleStepResult, run_single_step
from petkit.pretraining.unlabeled_texts import HIDDEN_TOKENS, Training, UnlabeledTexts
from petkit.prompts.pattern import CompiledPattern, Pattern
from petkit.runs.step import Job
from petkit.runs.store import ADAPTED_MODEL, RunStore
from petkit.task.model_checks import at_commits

# The natural logarithm of the greatest number a float can be.
_MOST_NATS = 709.0


class MaskedTexts:
    """Predict the hidden tokens of rows (Devlin et al. 2019, BERT, section 3.1).

    The model takes a batch with rows and columns and gives the logits there, shape ``(places, vocabulary)``.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.texts = training, training.texts
        plain = Pattern.plain(self.texts.fields)
        self.pattern = CompiledPattern(plain, self.texts.tokenizer, self.texts.max_length, self.texts.spec.truncate)
        self.tokens = training.tokens(self.texts.rows(), self.pattern.keys, "tokens")
        self.masking = TokenMasking(self.texts.tokenizer, training.settings.mlm_share)
        # By length, so that batches of neighbours need little padding.
        self.held_out: IndexArray = training.held_out[np.argsort(self._lengths(training.held_out), kind="stable")]

    def batches(self) -> Iterator[StepRows]:
        return self.training.batches(self.training.kept, self._lengths(self.training.kept))

    def loss(self, model: nn.Module, step: StepRows) -> Tensor:
        return self._loss(model, self._masked(step.rows, step.random))

    def held_out_figures(self, model: nn.Module) -> dict[str, float]:
        random, at_once = self.training.random(HIDDEN_TOKENS), self.training.settings.batch_size
        total, count = 0.0, 0
        with inference(self.training.device):
            for start in range(0, len(self.held_out), at_once):
                masked = self._masked(self.held_out[start : start + at_once], random)
                total += self._loss(model, masked).item() * len(masked.targets)
                count += len(masked.targets)
        loss = total / max(1, count)
        return {"loss": loss, "perplexity": math.exp(loss) if loss < _MOST_NATS else math.inf}

    def _lengths(self, rows: IndexArray) -> IndexArray:
        return self.tokens.row_lengths(self.pattern.keys, rows)

    def _loss(self, model: nn.Module, masked: MaskedBatch) -> Tensor:
        return masked_lm(model(masked.batch, masked.rows, masked.columns), masked.targets)

    def _masked(self, rows: IndexArray, random: np.random.Generator) -> MaskedBatch:
        encoded = [self.pattern.encode(tokens) for tokens in self.tokens.take(rows)]
        return self.masking(collate(encoded, self.texts.tokenizer), random).to(self.training.device.name)


@dataclass(frozen=True)
class Adapted(SingleStepResult):
    """An adapted model."""

    STEP, KIND, SETTING = "model", ADAPTED_MODEL, "model={path}"


def adapt(pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore) -> Adapted:
    """Adapt a pipeline's model to its unlabelled set, in a run folder of its own; resumes after a kill."""
    texts = UnlabeledTexts(at_commits(pipeline, RunStore(folder, ADAPTED_MODEL)), "adapt", "adapting")
    return run_single_step(Adapted, texts, lambda job, device: _train(texts, job, device), folder, resume, on_event)


def _train(texts: UnlabeledTexts, job: Job, device: Device) -> None:
    """Train the model, and write it and its tokenizer to the job's folder."""
    training = Training(texts, job, device)
    objective = MaskedTexts(training)
    reader = MaskReader(load_masked_lm(texts.spec.model, device.training_attention)).to(device.name)
    fell = training.run(reader, [objective])
    for figure in ("perplexity_before", "perplexity_after"):  # after both losses
        job.facts[figure] = job.facts.pop(figure)
    if not fell:
        message = "the model guesses the hidden words of held-out texts no better than before (lower adapt.learning_rate)"
        job.on_event(Notice(job.step, message))
    reader.detach().save_pretrained(job.folder)
    texts.tokenizer.hf.save_pretrained(job.folder)
