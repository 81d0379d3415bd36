"""Teachers at work: loading one and scoring a part of the data with it, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from petkit.lm.arithmetic import Arithmetic, prepare_for_inference
from petkit.lm.backbone import load_masked_lm
from petkit.lm.heads import LabelScorer
from petkit.lm.inference import FloatArray, label_logits
from petkit.runs.shards import SHARD_ROWS
from petkit.stages.workload import Workload
from petkit.task.pvp import PVP


def load_scorer(model: str, pvp: PVP, arithmetic: Arithmetic) -> LabelScorer:
    """Load a masked LM (a teacher's folder, or a backbone's name for an untrained one) ready to score."""
    scorer = LabelScorer(load_masked_lm(model), pvp.words.token_ids)
    prepare_for_inference(scorer, arithmetic)
    return scorer


def shard_logits(
    scorer: LabelScorer, pvp: PVP, work: Workload, part: str, arithmetic: Arithmetic, on_rows: Callable[[int], None]
) -> Iterator[FloatArray]:
    """Yield label logits of a part of the data, shape ``(rows of the shard, labels)``, in row order.

    Args:
        on_rows: called with the number of rows scored so far, after every batch.
    """
    store = work.tokens(part)
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        on_rows(done)

    for start in range(0, store.rows, SHARD_ROWS):
        rows = [pvp.pattern.encode(store.row(index)) for index in range(start, min(start + SHARD_ROWS, store.rows))]
        yield label_logits(scorer, rows, work.tokenizer, arithmetic, work.spec.compute.tokens_per_batch, count)
