"""Teachers and students at work: loading a teacher, and scoring a part of the data shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from petkit.engine.device import Device, prepare_for_inference
from petkit.engine.inference import ClassifierLogits, FloatArray, label_logits
from petkit.models.label_scorer_registry import LABEL_SCORERS
from petkit.models.label_scorers import LabelScorer
from petkit.models.loading import load_language_model
from petkit.prompts.pattern import Encoded, FieldKey
from petkit.prompts.pvp import PVP
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.runs.layout import OWN_STATE
from petkit.storage.parquet_shards import SHARD_ROWS
from petkit.task.task import Task


def load_scorer(model: str, pvp: PVP, device: Device) -> LabelScorer:
    """Load a language model (a teacher's folder, or a backbone's name for an untrained one) ready to score.

    Untrained soft tokens are the same in every pass.
    """
    backbone = load_language_model(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scorer = scorer_of(backbone, pvp)
    load_own_state(scorer, Path(model))
    prepare_for_inference(scorer, device)
    return scorer


def load_own_state(scorer: LabelScorer, folder: Path) -> None:
    """Take back what :func:`save_own_state` wrote, if anything."""
    if (folder / OWN_STATE).is_file():
        scorer.load_own_state(load_file(folder / OWN_STATE))


def scorer_of(model: Any, pvp: PVP, *, normalised: bool = False, soft_tokens: int | None = None) -> LabelScorer:
    """Return what reads a PVP's answers from a model (or through the ``MaskReader`` of another scorer's).

    Soft tokens are drawn from torch's current random state.

    Args:
        normalised: give log-probabilities under the whole vocabulary where plain logits would do.
        soft_tokens: how many of the pattern's soft tokens it has; default: all of them.
    """
    soft_tokens = pvp.pattern.soft_tokens if soft_tokens is None else soft_tokens
    return LABEL_SCORERS[pvp.verbalizer.kind](model, pvp, soft_tokens, normalised)


def save_own_state(scorer: LabelScorer, folder: Path) -> None:
    """Write the parameters trained in addition to the model, if any."""
    state = {name: value.to("cpu", torch.float32).contiguous() for name, value in scorer.own_state().items()}
    if state:
        save_file(state, folder / OWN_STATE)


def shard_logits(
    scorer: LabelScorer,
    pvp: PVP,
    task: Task,
    part: str,
    device: Device,
    on_rows: Callable[[int], None],
    first: int = 0,
) -> Iterator[FloatArray]:
    """Yield label logits of a part of the data, shape ``(rows of the shard, labels)``, in row order.

    Args:
        on_rows: called with the number of rows scored so far, after every batch.
        first: the shard to begin with.
    """
    return _in_shards(scorer, pvp.encode, task.tokens(part), task.tokenizer, task, device, on_rows, first)


def student_logits(
    student: ClassifierLogits, task: Task, part: str, device: Device, on_rows: Callable[[int], None]
) -> Iterator[FloatArray]:
    """Yield a classifier's label logits of a part of the data, as :func:`shard_logits` does a teacher's."""
    store = task.tokens(part, student=True)
    return _in_shards(student, task.student_pattern.encode, store, task.student_tokenizer, task, device, on_rows)


def _in_shards(
    scorer: LabelScorer | ClassifierLogits,
    encode: Callable[[Mapping[FieldKey, IntArray]], Encoded],
    store: TokenStore,
    tokenizer: PieceTokenizer,
    task: Task,
    device: Device,
    on_rows: Callable[[int], None],
    first: int = 0,
) -> Iterator[FloatArray]:
    done = min(first * SHARD_ROWS, store.rows)

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        on_rows(done)

    for start in range(done, store.rows, SHARD_ROWS):
        rows = [encode(tokens) for tokens in store.take(range(start, min(start + SHARD_ROWS, store.rows)))]
        yield label_logits(scorer, rows, tokenizer, device, task.spec.compute.tokens_per_batch, count)
