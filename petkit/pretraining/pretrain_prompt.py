"""``petkit pretrain-prompt``: virtual tokens trained on the unlabelled set, for few-shot prompt tuning to start from.

Prompt tuning on a handful of labels depends on where it starts. PPT (Gu et al. 2022) trains the prompt first, on
self-supervised cloze questions, with the model frozen. What is the paper's here, and what is not:

- ``next_sentence`` is the paper's task for sentence pairs (section 3.2): "first <slot>. second", where *yes*, *maybe* and
  *no* say that the second sentence is the next one, of the same text, or of another. Where texts have two sentences
  at most, the question is *yes* or *no*. Unlike the paper's, sentences "of the same text" do not touch.
- ``masked_lm`` stands in for the paper's task for single texts, whose labels come from a model tuned on a large labelled
  set: it predicts masked words of the rows. It is not in the paper, and neither is training on both.
- The paper pre-trains 100 tokens of an 11-billion-parameter model on 10 GB of open text; this is one task's unlabelled set.
  Its task of choosing the next sentence of several, and its unified form of all tasks, are left out.

Part of the texts is held out to measure whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/prompt/           the prompt, in PEFT's format, petkit.json, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.loader import Pipeline
from petkit.config.schema.adapter import PromptTuningSpec
from petkit.engine.device import Device, prepare_for_inference
from petkit.engine.training_loop import fit, seed_everything
from petkit.errors import Problem
from petkit.events import Notice, OnEvent, ignore
from petkit.models.adapters.attach import attach
from petkit.models.adapters.base import Adapter
from petkit.models.batch import Batch, IndexArray
from petkit.models.label_scorers import LabelScorer, WordScorer
from petkit.models.loading import load_masked_lm, shown_name
from petkit.models.mask_reader import MaskReader
from petkit.models.safety.probe import check_reading
from petkit.pretraining.masked_lm import MaskedTexts, diverged, perplexity
from petkit.pretraining.next_sentence import SentenceQuestions, question
from petkit.pretraining.sentences import Numbers, SentenceIndex
from petkit.pretraining.single_step_run import SingleStepResult, run_single_step
from petkit.pretraining.unlabeled_texts import UnlabeledTexts, hold_out
from petkit.runs.fingerprint import flat
from petkit.runs.step import Job
from petkit.runs.store import PRETRAINED_PROMPT
from petkit.storage.row_array import HELD_ROWS
from petkit.task.start_prompt import PROMPT, save_prompt

_SECTION = "pretrain_prompt"
# Rows to check on, and rows that sentences of another text can come from.
_LEAST_ROWS = 3

# The batches of a step: pairs of sentences, rows with hidden words, or both.
Batches: TypeAlias = tuple[tuple[int, Numbers] | None, tuple[int, IndexArray] | None]


@dataclass(frozen=True)
class PretrainedPrompt(SingleStepResult):
    """A pretrained prompt: its folder, whether there was work to do, and the figures of its making."""

    STEP = PROMPT

    def summary(self, pipeline: Path) -> str:
        """Return whether it helped, and the command that uses it."""
        facts, lines = self.facts, []
        aside = f"{facts['held_out_rows']:,} held-out rows"
        if "accuracy_before" in facts:
            before, after = (100 * facts[f"accuracy_{when}"] for when in ("before", "after"))
            lines.append(f"next-sentence accuracy in pairs from {aside}: {before:.1f} % → {after:.1f} %")
        if "perplexity_before" in facts:
            lines.append(f"perplexity on {aside}: {facts['perplexity_before']:.1f} → {facts['perplexity_after']:.1f}")
        path = str(self.folder)
        plain = re.fullmatch(r"[\w./-]+", path)  # other marks could mean something in YAML
        start = f"teachers.adapter={{kind: prompt_tuning, start: {path if plain else json.dumps(path, ensure_ascii=False)}}}"
        command = shlex.join(["petkit", "run", str(pipeline), "--set", start])
        return "\n".join([*lines, f"prompt: {self.folder}", f"use it: {command}"])


def pretrain_prompt(
    pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore
) -> PretrainedPrompt:
    """Train a prompt for a pipeline's model, in a run folder of its own; resumes after a kill.

    Args:
        folder: the run folder; the prompt is in ``prompt`` there.
        resume: see :func:`petkit.runs.resume.refuse_resume`.
        on_event: called with every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, contains something else, or a prompt made with other settings.
        TrainingDiverged: the loss is no longer finite.
    """
    texts = _Texts(pipeline)
    settings = flat(_SECTION, pipeline.spec.pretrain_prompt.fingerprint_settings())

    def work(job: Job, device: Device) -> None:
        _Pretraining(texts, device, job).train()

    return run_single_step(PretrainedPrompt, PRETRAINED_PROMPT, texts, settings, work, folder, on_event, resume)


class _Texts(UnlabeledTexts):
    """The unlabelled set, its sentences where they are needed, and the model that reads them.

    Raises:
        InvalidInput: all mistakes, at once.
    """

    sentences: SentenceIndex | None = None

    def __init__(self, pipeline: Pipeline) -> None:
        self.settings = pipeline.spec.pretrain_prompt
        super().__init__(pipeline, "pre-training", self.settings.tokens, (_SECTION, "tokens"))

    def _try_out(self, model: Any) -> None:
        check_reading(model, shown_name(self.spec.model))
        attach(model, PromptTuningSpec(kind="prompt_tuning", tokens=1))  # whether there is room for all is seen elsewhere

    def _check_further(self, *, readable: bool) -> list[Problem]:
        if not self.settings.asks_next_sentence:
            return []
        three, problems = True, []
        if readable:
            self.sentences = SentenceIndex.build(self.source.unchanged(self.scan))
            three = self.sentences.asks_three
            found = len(self.sentences.rows_with_pairs())
            if found < _LEAST_ROWS:
                count = "no row" if found == 0 else f"{found} row{'s' if found > 1 else ''} only"
                message = f"next_sentence needs texts of two sentences or more, and {self.source.shown} has {count} of that kind"
                problems.append(self.pipeline.problem((_SECTION, "objective"), message, "use masked_lm"))
        for wrong in question(self, self.settings, three=three)[1]:
            hint = "use a common word that is one token of the model"
            problems.append(self.pipeline.problem((_SECTION, "words", wrong.label), wrong.message, hint))
        return problems


class _PromptedModel(nn.Module):
    """A frozen masked LM behind virtual tokens: classifies pairs of sentences, or predicts hidden words."""

    def __init__(self, reader: MaskReader, prompt: Adapter, scorer: LabelScorer | None) -> None:
        super().__init__()
        self.reader, self.prompt, self.scorer = reader, prompt, scorer

    def forward(self, batch: Batch, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
        """Return label logits ``(batch, labels)``, or the vocabulary's logits at the given places ``(places, vocabulary)``."""
        if rows is None or columns is None:
            assert self.scorer is not None
            logits: Tensor = self.scorer(batch)
            return logits
        return self.reader.read(batch, rows, columns)


class _Pretraining:
    """One training of a prompt: its questions, and the frozen model that learns to answer them through it."""

    def __init__(self, texts: _Texts, device: Device, job: Job) -> None:
        self.texts, self.device, self.job = texts, device, job
        self.settings = settings = texts.settings
        index, rows = texts.sentences, texts.scan.rows
        # Rows without a pair of sentences cannot tell whether it helped.
        _, self.held_out = hold_out(np.arange(rows) if index is None else index.rows_with_pairs(), settings.seed)
        self.kept = np.setdiff1d(np.arange(rows), self.held_out)

        def scratch(name: str) -> Path | None:
            return job.store.scratch(name) if rows > HELD_ROWS else None

        self.questions: SentenceQuestions | None = None
        if index is not None:
            where = scratch("sentences")
            self.questions = SentenceQuestions(texts, device, settings, index, self.kept, self.held_out, where)
        self.hidden: MaskedTexts | None = None
        if settings.hides_words:
            self.hidden = MaskedTexts(texts, device, settings, self.kept, self.held_out, scratch("tokens"))

    def train(self) -> None:
        """Train the prompt into the job's folder."""
        settings, job = self.settings, self.job
        model = self._model()
        before = self._figures(model)
        fit(
            model,
            self._batches(),
            self._loss,
            settings,
            self.device,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
        after = self._figures(model)
        job.facts.update(rows=len(self.kept), held_out_rows=len(self.held_out), tokens=settings.tokens)
        for when, figures in (("before", before), ("after", after)):
            job.facts.update({f"{name}_{when}": value for name, value in figures.items()})
        if after["loss"] >= before["loss"]:
            fell = f"the loss on held-out rows did not fall: {before['loss']:.2f} → {after['loss']:.2f}"
            message = f"{fell}; random words are as good a start (change {_SECTION}.learning_rate or steps)"
            job.on_event(Notice(job.step, message))
        facts = {"objective": settings.objective, "steps": settings.steps, "tokens": settings.tokens}
        save_prompt(model.prompt, job.folder, self.texts.spec.model, facts)

    def _model(self) -> _PromptedModel:
        frozen = load_masked_lm(self.texts.spec.model, self.device.training_attention)
        prepare_for_inference(frozen, self.device)
        seed_everything(self.settings.seed)
        prompt = attach(frozen, PromptTuningSpec(kind="prompt_tuning", tokens=self.settings.tokens))
        reader = MaskReader(frozen)
        scorer = None if self.questions is None else WordScorer(reader, self.questions.pvp.words.token_ids)
        return _PromptedModel(reader, prompt, scorer).to(self.device.name)

    def _batches(self) -> Iterator[Batches]:
        """Yield the batches of every step."""
        nothing = [None] * self.settings.steps
        pairs = nothing if self.questions is None else self.questions.batches()
        rows = nothing if self.hidden is None else self.hidden.batches()
        return zip(pairs, rows, strict=True)

    def _loss(self, model: nn.Module, batches: Batches) -> Tensor:
        """Return the loss of a step; of both objectives, the sum."""
        pairs, rows = batches
        losses = []
        if self.questions is not None and pairs is not None:
            losses.append(self.questions.loss(model, pairs))
        if self.hidden is not None and rows is not None:
            losses.append(self.hidden.loss(model, rows))
        return torch.stack(losses).sum()

    def _figures(self, model: nn.Module) -> dict[str, float]:
        """Return how well the held-out rows are answered: loss in nats, accuracy and perplexity.

        Raises:
            TrainingDiverged: the prompt contains NaN or Inf after the last step.
        """
        found = {"loss": 0.0}
        if self.questions is not None:
            loss, found["accuracy"] = self.questions.held_out_figures(model)
            found["loss"] += loss
            if not math.isfinite(loss):
                raise diverged(loss, _SECTION)
        if self.hidden is not None:
            loss = self.hidden.held_out_loss(model)
            found["loss"] += loss
            found["perplexity"] = perplexity(loss, _SECTION)
        return found
