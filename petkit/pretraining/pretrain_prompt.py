"""``petkit pretrain-prompt``: virtual tokens trained on the unlabelled set, for few-shot prompt tuning to start from.

Prompt tuning on a handful of labels depends on where it starts. PPT (Gu et al. 2022) trains the prompt first, on
self-supervised cloze questions, with the model frozen. Part of the texts is held out to measure whether it helped.

- ``next_sentence`` is the paper's task for sentence pairs (section 3.2): "first <slot>. second", where *yes*, *maybe* and
  *no* say that the second sentence is the next one, of the same text, or of another. Where texts have two sentences
  at most, the question is *yes* or *no*. Unlike the paper's, sentences "of the same text" do not touch.
- ``masked_lm`` predicts masked words, in place of the paper's task for single texts, whose labels come from a model tuned on a
  large labelled set. It is not in the paper, and neither are training on both and so small a set of texts; the paper's choice
  of the next sentence among several, and its unified form of all tasks, are left out.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/prompt/           the prompt, in PEFT's format, petkit.json, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from petkit.config.loader import Pipeline
from petkit.config.schema.adapter import PromptTuningSpec
from petkit.config.schema.training import PretrainPromptSpec
from petkit.engine.device import Device, prepare_for_inference
from petkit.engine.training_loop import seed_everything
from petkit.errors import Problem
from petkit.events import Notice, OnEvent, ignore
from petkit.models.adapters.attach import attach
from petkit.models.adapters.base import Adapter
from petkit.models.batch import Batch
from petkit.models.label_scorer import LabelScorer
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import load_masked_lm, shown_name
from petkit.models.mask_reader import MaskReader
from petkit.models.safety.probe import check_reading
from petkit.pretraining.masked_lm import MaskedTexts
from petkit.pretraining.next_sentence import SentenceQuestions, question
from petkit.pretraining.sentences import SentenceIndex
from petkit.pretraining.single_step_run import SingleStepResult, open_run, run_single_step
from petkit.pretraining.training import Objective, Training
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.runs.step import Job
from petkit.runs.store import PRETRAINED_PROMPT
from petkit.task.model_checks import at_commits
from petkit.task.start_prompt import PROMPT, save_prompt

# Rows to check on, and rows that sentences of another text can come from.
_LEAST_ROWS = 3


@dataclass(frozen=True)
class PretrainedPrompt(SingleStepResult):
    """A pretrained prompt."""

    STEP, KIND = PROMPT, PRETRAINED_PROMPT
    SETTING = "teachers.adapter={{kind: prompt_tuning, start: {quoted}}}"


def pretrain_prompt(
    pipeline: Pipeline, folder: str | Path, *, resume: str = "auto", on_event: OnEvent = ignore
) -> PretrainedPrompt:
    """Train a prompt for a pipeline's model, in a run folder of its own; resumes after a kill."""
    store, device = open_run(PretrainedPrompt.KIND, pipeline, folder, resume)
    texts = _Texts(at_commits(pipeline, store), "pretrain_prompt", "pre-training")
    return run_single_step(PretrainedPrompt, texts, lambda job, device: _train(texts, job, device), store, device, on_event)


class _Texts(UnlabeledTexts):
    """The unlabelled set, the model that reads it and, where they are needed, the sentences."""

    settings: PretrainPromptSpec
    sentences: SentenceIndex | None = None

    def _try_out(self, model: Any) -> None:
        check_reading(model, shown_name(self.spec.model))
        attach(model, PromptTuningSpec(kind="prompt_tuning", tokens=1))  # whether there is room for all is checked elsewhere

    def _further_problems(self, *, readable: bool) -> list[Problem]:
        if self.settings.objective == "masked_lm":
            return []
        three, problems = True, []
        if readable:
            self.sentences = SentenceIndex.build(self.rows())
            three, found = self.sentences.has_three, len(self.sentences.rows_with_pairs())
            if found < _LEAST_ROWS:
                count = "no row" if found == 0 else f"{found} row{'s' if found > 1 else ''} only"
                message = f"next_sentence needs texts of two sentences or more, and {self.source.shown} has {count} of that kind"
                problems.append(self.pipeline.problem((self.section, "objective"), message, "use masked_lm"))
        for wrong in question(self, self.settings, three=three)[1]:
            hint = "use a common word that is one token of the model"
            problems.append(self.pipeline.problem((self.section, "words", wrong.label), wrong.message, hint))
        return problems


class _PromptedModel(nn.Module):
    """A frozen masked LM behind virtual tokens: classifies pairs of sentences, or predicts hidden words."""

    def __init__(self, reader: MaskReader, prompt: Adapter, scorer: LabelScorer | None) -> None:
        super().__init__()
        self.reader, self.prompt, self.scorer = reader, prompt, scorer

    def forward(self, batch: Batch, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
        """Return label logits ``(batch, labels)``, or the vocabulary's logits at the given places ``(places, vocabulary)``."""
        if rows is not None and columns is not None:
            return self.reader.read(batch, rows, columns)
        assert self.scorer is not None
        logits: Tensor = self.scorer(batch)
        return logits


def _train(texts: _Texts, job: Job, device: Device) -> None:
    """Train the prompt, with the model frozen, and write it to the job's folder."""
    index, settings = texts.sentences, texts.settings
    # Rows without a pair of sentences cannot show whether it helped.
    training = Training(texts, job, device, None if index is None else index.rows_with_pairs())
    questions = None if index is None else SentenceQuestions(training, settings, index)
    objectives: list[Objective] = [] if questions is None else [questions]
    objectives += [MaskedTexts(training)] if settings.objective != "next_sentence" else []
    frozen = load_masked_lm(texts.spec.model, device.training_attention)
    prepare_for_inference(frozen, device)
    seed_everything(settings.seed)
    prompt = attach(frozen, PromptTuningSpec(kind="prompt_tuning", tokens=settings.tokens))
    reader = MaskReader(frozen)
    scorer = None if questions is None else WordScorer(reader, questions.pvp.words.token_ids)
    model = _PromptedModel(reader, prompt, scorer).to(device.name)
    if not training.run(model, objectives, tokens=settings.tokens):
        change = f"{job.facts['loss_before']:.2f} → {job.facts['loss_after']:.2f}"
        hint = "change pretrain_prompt.learning_rate or steps"
        message = f"the loss on held-out rows did not fall: {change}; random words are as good a start ({hint})"
        job.on_event(Notice(job.step, message))
    facts = {"objective": settings.objective, "steps": settings.steps, "tokens": settings.tokens}
    save_prompt(prompt, job.folder, texts.spec.model, facts)
