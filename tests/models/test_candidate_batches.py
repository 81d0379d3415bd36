"""Rows with candidates in batches: how much is padded, which candidates a row has, and what is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.data.examples import Example
from petkit.models.batch import inference_batches
from petkit.models.loading import load_tokenizer
from petkit.prompts.choices import ChoicePattern, EncodedChoices
from petkit.prompts.pvp import compile_pvp
from petkit.prompts.token_store import TokenStore
from tests.models.candidate_rows import FIELDS, pvp

Folder = Callable[[str], Path]


def test_no_padded_batch_exceeds_its_tokens() -> None:
    """Rows of two sequences of 200 tokens and of 40 of 10: padded together they are of 200 each."""
    lengths, sequences = [200, 10] * 5, [2, 40] * 5
    batches = list(inference_batches(lengths, 4096, 0, sequences))

    assert sorted(np.concatenate(batches).tolist()) == list(range(10))
    for rows in batches:
        padded = max(-(-lengths[row] // 8) * 8 for row in rows) * sum(sequences[row] for row in rows)
        assert padded <= 4096


def test_a_candidate_without_tokens_keeps_its_number(model_folder: Folder) -> None:
    """BERT's tokenizer leaves nothing of a soft hyphen; the third candidate is none, and has no tokens either."""
    tokenizer = load_tokenizer(str(model_folder("bert")))
    row, student = pvp(tokenizer), ChoicePattern(("text",), FIELDS, tokenizer, 64, "tail")
    fields = {"text": "it is", FIELDS[0]: "\u00ad", FIELDS[1]: "good team"}
    store = TokenStore.build([Example("1", fields, None, 1)], tokenizer, (*row.keys, *student.keys), 64, "tail")

    for made in (row.encode_texts([fields], tokenizer)[0], row.encode(store.row(0)), student.encode(store.row(0))):
        assert isinstance(made, EncodedChoices) and len(made.read_in) == 2
    teacher = row.encode(store.row(0))
    assert isinstance(teacher, EncodedChoices)
    assert [ids.tolist() for ids in teacher.tokens] == [[tokenizer.unknown_id], tokenizer.encode(["good team"])[0]]


@pytest.mark.parametrize("truncate", ["tail", "head", "middle"])
def test_a_long_candidate_is_cut_alike_in_a_run_and_in_a_prediction(truncate: Any, model_folder: Folder) -> None:
    tokenizer = load_tokenizer(str(model_folder("bert")))
    words = [
        "game",
        "team",
        "question",
        "answer",
        "market",
        "news",
        "world",
        "sports",
        "football",
        "science",
        "good",
        "bad",
        "great",
    ]
    fields = {"text": "it is", FIELDS[0]: " ".join(words * 4), FIELDS[1]: "good"}
    pattern, verbalizer = PatternSpec(id="p", text="{mask} : {text}"), VerbalizerSpec(candidates="options")
    row = compile_pvp(pattern, verbalizer, tokenizer, 16, truncate)[0].for_candidates(FIELDS[:2], tokenizer)
    (predicted,) = row.encode_texts([fields], tokenizer)
    in_run = row.encode(TokenStore.build([Example("1", fields, None, 1)], tokenizer, row.keys, 16, truncate).row(0))

    assert isinstance(predicted, EncodedChoices) and isinstance(in_run, EncodedChoices) and row.slot is not None
    assert [ids.tolist() for ids in predicted.tokens] == [ids.tolist() for ids in in_run.tokens]
    cut = predicted.tokens[0].tolist()
    ends = tokenizer.encode([words[0]])[0][0], tokenizer.encode([words[-1]])[0][0]
    assert len(cut) == row.slot.most
    assert (cut[0] == ends[0], cut[-1] == ends[1]) == (truncate != "head", truncate != "tail")
