"""``petkit adapt``: more masked-LM training of a backbone on the unlabelled set (Gururangan et al. 2020, section 4).

Task-adaptive pretraining needs texts only: no labels, no patterns' label words. It makes a plain model folder
that pipelines name as their ``model``. Part of the texts is kept aside to tell whether it helped.

    RUN/manifest.json, config.resolved.yaml, events.jsonl
    RUN/model/            the adapted model, step.json
    RUN/checkpoints/      while it is made
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from petkit.errors import InvalidInput, ModelRefused, Problem, RunConflict
from petkit.events import Event, Listen, Notice, Progress, RunStarted, StepFinished, StepSkipped, StepStarted, ignore
from petkit.lm.arithmetic import Arithmetic, choose_arithmetic, inference
from petkit.lm.backbone import (
    EMBEDDED,
    check_masked_lm,
    load_config,
    load_masked_lm,
    load_tokenizer,
    longest_input,
    model_fingerprint,
)
from petkit.lm.batching import Batch, IndexArray, collate, training_batches
from petkit.lm.heads import MaskReader
from petkit.lm.losses import masked_lm
from petkit.lm.masking import MaskedBatch, TokenMasking
from petkit.lm.training import TrainingDiverged, fit
from petkit.runs.checkpoint import StepCheckpoints
from petkit.runs.fingerprint import Inputs
from petkit.runs.provenance import machine, now, package_versions
from petkit.runs.store import ADAPTED_MODEL, RunStore
from petkit.spec.loader import Pipeline, dump_spec
from petkit.stages.step import Job
from petkit.task.examples import ExampleSource
from petkit.task.pattern import CompiledPattern, Pattern
from petkit.task.pvp import task_fields
from petkit.task.token_store import TokenStore

MODEL = "model"
_HELD_OUT_SHARE, _HELD_OUT_MOST = 0.05, 512
# The natural logarithm of the greatest number a float holds.
_MOST_NATS = 709.0
# What else is drawn from the seed, beside a step's own [seed, step] (numpy takes [seed, 0] for the seed alone).
_ROWS_ASIDE, _HIDDEN_ASIDE = (0, 1), (0, 2)


@dataclass(frozen=True)
class Adapted:
    """An adapted model: its folder, whether there was work to do, and the figures of its making."""

    folder: Path
    ran: bool
    facts: dict[str, Any]

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


def adapt(pipeline: Pipeline, folder: str | Path, *, listen: Listen = ignore) -> Adapted:
    """Adapt a pipeline's model to its unlabelled set, in a run folder of its own; goes on where a killed one stopped.

    Args:
        folder: the run folder; the model lies in ``model`` there.
        listen: hears every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, holds something else, or a model made by other settings.
        TrainingDiverged: the loss is no longer finite.
    """
    texts = Texts(pipeline)
    store = RunStore(folder, ADAPTED_MODEL)
    store.refuse_foreign()
    arithmetic = _arithmetic(pipeline, store.manifest())
    inputs = texts.inputs(arithmetic)

    def tell(event: Event) -> None:
        if not isinstance(event, Progress):
            store.log(event)
        listen(event)

    with store.locked():
        status = store.status(MODEL, inputs)
        if status.state == "stale":
            raise RunConflict(
                f"{store.shown}: made by other settings: {status.why} (choose another --out, or delete the folder to replace it)"
            )
        if status.state == "finished":
            listen(StepSkipped(MODEL))
        else:
            _describe(store, pipeline, arithmetic, texts.max_length)
            tell(RunStarted(1))
            tell(StepStarted(MODEL, status.why))
            started = time.monotonic()
            checkpoints = StepCheckpoints(store, MODEL, inputs, pipeline.spec.adapt.checkpoint_every, tell)
            facts: dict[str, float | int | str] = {}
            with store.publishing(MODEL, inputs, facts) as work:
                _Adaptation(texts, arithmetic, store).train(Job(MODEL, work, store, tell, facts), checkpoints)
                facts["seconds"] = round(time.monotonic() - started, 3)
            checkpoints.clear()
            tell(StepFinished(MODEL, time.monotonic() - started, facts))
        return Adapted(store.path(MODEL), status.state != "finished", store.facts(MODEL))


class Texts:
    """The unlabelled set and the model that is to read it. Building it checks both and writes nothing.

    Labelled rows and label words do not matter here and may be missing or wrong.

    Raises:
        InvalidInput: all mistakes, at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.spec = spec = pipeline.spec
        self.fields = task_fields(spec.patterns)
        problems: list[Problem] = []
        try:
            config = load_config(spec.model)
            check_masked_lm(config, spec.model)
            self.tokenizer = load_tokenizer(spec.model)
            if spec.model != EMBEDDED:  # a missing head and damaged weights show only when weights meet architecture
                load_masked_lm(spec.model)
            limit = longest_input(config, self.tokenizer)
            self.max_length = min(spec.max_length, limit)
            if spec.max_length > limit and "max_length" in spec.model_fields_set:
                message = f"{spec.max_length} tokens are more than {self.tokenizer.name} can read ({limit})"
                problems.append(pipeline.problem(("max_length",), message))
        except ModelRefused as error:
            problems.append(pipeline.problem(("model",), str(error)))
        self.source = ExampleSource(spec.data.unlabeled, spec.data, self.fields, None)
        self.scan = self.source.scan()
        for found in self.scan.problems:
            # A file that is not there is a mistake in the pipeline: say where it is named.
            named = found.line is None and found.message == "no such file"
            problems.append(pipeline.problem(("data", "unlabeled"), f"{found.file}: no such file") if named else found)
        if self.scan.rows == 1 and not self.scan.problems:
            problems.append(Problem(self.source.shown, None, "", "holds one row; adapting needs one more to check itself on"))
        if problems:
            raise InvalidInput(problems)

    def inputs(self, arithmetic: Arithmetic) -> Inputs:
        """Return what the adapted model depends on; how often its state is kept does not change it."""
        settings = self.spec.adapt.model_dump(exclude={"checkpoint_every"})
        return {
            "step.version": 1,
            "fields": list(self.fields),
            "model": model_fingerprint(self.spec.model),
            "max_length": self.max_length,
            "truncate": self.spec.truncate,
            "precision": arithmetic.precision,
            "data.unlabeled": self.scan.sha256,
            **{f"adapt.{name}": value for name, value in settings.items()},
        }


class _MaskedLM(MaskReader):
    """A masked LM that answers at the hidden tokens only."""

    def forward(self, batch: Batch, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the logits at the given places, shape ``(hidden, vocabulary)``."""
        return self.read(batch, rows, columns)


class _Adaptation:
    """One adaptation: the rows as the student will read them, and what is hidden in them at every step.

    Args:
        texts: model and rows.
        arithmetic: where and how to train.
        store: has room for the tokens of large sets.
    """

    def __init__(self, texts: Texts, arithmetic: Arithmetic, store: RunStore) -> None:
        spec = texts.spec
        self.texts, self.arithmetic, self.settings = texts, arithmetic, spec.adapt
        self.pattern = CompiledPattern(Pattern.plain(texts.fields), texts.tokenizer, texts.max_length, spec.truncate)
        self.tokens = TokenStore.build(
            texts.source.unchanged(texts.scan),
            texts.tokenizer,
            self.pattern.keys,
            texts.max_length,
            spec.truncate,
            store.scratch("tokens") if texts.scan.rows > 10_000 else None,
        )
        self.lengths: IndexArray = np.sum([self.tokens.lengths(key) for key in self.pattern.keys], axis=0)  # (rows,)
        self.masking = TokenMasking(texts.tokenizer, self.settings.mlm_share)
        order = np.random.default_rng([self.settings.seed, *_ROWS_ASIDE]).permutation(self.tokens.rows)
        held_out = min(_HELD_OUT_MOST, math.ceil(_HELD_OUT_SHARE * len(order)))
        # By length, so that batches of neighbours need little padding.
        self.held_out: IndexArray = order[:held_out][np.argsort(self.lengths[order[:held_out]], kind="stable")]
        self.kept: IndexArray = np.sort(order[held_out:])

    def train(self, job: Job, checkpoints: StepCheckpoints) -> None:
        """Train the model into the job's folder, beside its tokenizer."""
        spec, settings = self.texts.spec, self.settings
        model = _MaskedLM(load_masked_lm(spec.model, self.arithmetic.training_attention)).to(self.arithmetic.device)
        before = self._held_out_loss(model)
        fit(
            model,
            self._batches(),
            self._loss,
            settings,
            self.arithmetic,
            lambda step, loss: job.progress(step, settings.steps, "steps", f"loss {loss:.3f}"),
            seed=settings.seed,
            checkpoints=checkpoints,
        )
        after = self._held_out_loss(model)
        job.facts.update(
            rows=len(self.kept), held_out_rows=len(self.held_out), loss_before=before, loss_after=after,
            perplexity_before=_perplexity(before), perplexity_after=_perplexity(after),
        )  # fmt: skip
        if after >= before:
            message = "the model guesses the hidden words of held-out texts no better than before (lower adapt.learning_rate)"
            job.listen(Notice(job.step, message))
        model.detach().save_pretrained(job.folder)
        self.texts.tokenizer.hf.save_pretrained(job.folder)

    def _batches(self) -> Iterator[tuple[int, IndexArray]]:
        """Yield every step's number, from 1, and its rows."""
        settings = self.settings
        drawn = training_batches(self.lengths[self.kept], settings.batch_size, settings.steps, settings.seed)
        return ((step, self.kept[rows]) for step, rows in enumerate(drawn, 1))

    def _loss(self, model: nn.Module, batch: tuple[int, IndexArray]) -> Tensor:
        """Return the masked-LM loss of a step; what is hidden depends on the step's number, never on earlier steps."""
        step, rows = batch
        masked = self._masked(rows, np.random.default_rng([self.settings.seed, step]))
        return masked_lm(model(masked.batch, masked.rows, masked.columns), masked.targets)

    def _held_out_loss(self, model: nn.Module) -> float:
        """Return the mean masked-LM loss over the hidden tokens of the held-out rows, in nats; the same ones each time."""
        random = np.random.default_rng([self.settings.seed, *_HIDDEN_ASIDE])
        model.eval()
        total, count = 0.0, 0
        with inference(self.arithmetic):
            for start in range(0, len(self.held_out), self.settings.batch_size):
                masked = self._masked(self.held_out[start : start + self.settings.batch_size], random)
                loss = masked_lm(model(masked.batch, masked.rows, masked.columns), masked.targets)
                total += loss.item() * len(masked.targets)
                count += len(masked.targets)
        return total / max(1, count)

    def _masked(self, rows: IndexArray, random: np.random.Generator) -> MaskedBatch:
        encoded = [self.pattern.encode(self.tokens.row(row)) for row in rows]
        return self.masking(collate(encoded, self.texts.tokenizer), random).to(self.arithmetic.device)


def _perplexity(loss: float) -> float:
    """Return ``e^loss``: among how many words the model hesitates.

    Raises:
        TrainingDiverged: there is no such number. The last step can do that, and no step after it finds out.
    """
    if not loss < _MOST_NATS:  # no comparison with NaN is true
        raise TrainingDiverged(f"training diverged: the loss on the rows kept aside is {loss:.3g} (lower adapt.learning_rate)")
    return math.exp(loss)


def _arithmetic(pipeline: Pipeline, begun: dict[str, Any]) -> Arithmetic:
    """Choose device and precision; an adaptation keeps the precision it began with."""
    compute = pipeline.spec.compute
    precision = begun.get("arithmetic", {}).get("precision")
    if compute.precision == "auto" and precision in ("float32", "bfloat16"):
        compute = compute.model_copy(update={"precision": precision})
    return choose_arithmetic(compute)


def _describe(store: RunStore, pipeline: Pipeline, arithmetic: Arithmetic, max_length: int) -> None:
    store.write_manifest(
        {
            "kind": store.kind,
            "task": pipeline.spec.task,
            "created": store.manifest().get("created", now()),
            "arithmetic": arithmetic.record(),
            "versions": package_versions(),
            "machine": machine(),
        }
    )
    store.write_text("config.resolved.yaml", dump_spec(pipeline.spec.model_copy(update={"max_length": max_length})))
