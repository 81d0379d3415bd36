"""Candidates of every row's own, beside a slow reader: one row, one candidate, one full forward of a plain model at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.losses import cross_entropy, hinge
from petkit.models import candidate_scorer
from petkit.models.batch import collate
from petkit.models.candidate_scorer import CandidateScorer
from petkit.models.loading import load_language_model, load_masked_lm, load_tokenizer
from petkit.prompts.choices import EncodedChoices
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.storage.ragged import ABSENT
from tests.models.candidate_rows import COUNTS, MASKED, OPEN, ROWS, encoded
from tests.models.masked_rows import EVERY, learned

Folder = Callable[[str], Path]
GOLD = torch.tensor([1, 2, 0])
SHARPER = 20.0  # random weights are nearly indifferent
DECODINGS = ("parallel", "max_first")


def model_of(folder: Path) -> Any:
    """Load a model whose answers differ."""
    model = load_language_model(str(folder))
    with torch.no_grad():
        model.get_input_embeddings().weight *= SHARPER
    return model


def in_slot(model: Any, tokenizer: PieceTokenizer, front: list[int], slot: list[int], back: list[int]) -> Tensor:
    """Return the log-probabilities of the whole vocabulary in the slot of one row, read by a plain model, ``(slot, vocabulary)``."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*front, *slot, *back]])).logits[0]  # (length, vocabulary)
    return logits.log_softmax(-1)[len(front) : len(front) + len(slot)]


def parallel(model: Any, tokenizer: PieceTokenizer, front: list[int], back: list[int], candidate: list[int]) -> float:
    log_probs = in_slot(model, tokenizer, front, [tokenizer.mask_id] * len(candidate), back)
    return float(np.mean([log_probs[place, token].item() for place, token in enumerate(candidate)]))


def max_first(model: Any, tokenizer: PieceTokenizer, front: list[int], back: list[int], candidate: list[int]) -> float:
    slot, total, left = [tokenizer.mask_id] * len(candidate), 0.0, set(range(len(candidate)))
    while left:
        log_probs = in_slot(model, tokenizer, front, slot, back)
        best = max(sorted(left), key=lambda place: log_probs[place, candidate[place]].item())
        total += log_probs[best, candidate[best]].item()
        slot[best] = candidate[best]
        left.remove(best)
    return total


def slowly(model: Any, tokenizer: PieceTokenizer, score: Callable[..., float]) -> Tensor:
    """Return the logits of every row's candidates, shape ``(rows, 3)``, absent behind the last."""
    found = torch.full((3, 3), ABSENT)
    for number, row in enumerate(encoded(tokenizer)):
        assert isinstance(row, EncodedChoices)
        longest = row.sequences[0]
        front, back = longest.ids[: longest.mask].tolist(), longest.ids[longest.mask + longest.masks :].tolist()
        for place, candidate in enumerate(row.tokens):
            found[number, place] = score(model, tokenizer, front, back, candidate.tolist())
    return found


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("arch", EVERY)
def test_logits_equal_the_slow_reader(arch: str, decoding: Any, masked_lm: Folder) -> None:
    folder = masked_lm(arch)
    tokenizer = load_tokenizer(str(folder))
    expected = slowly(model_of(folder), tokenizer, {"parallel": parallel, "max_first": max_first}[decoding])
    with torch.no_grad():
        found = CandidateScorer(model_of(folder), decoding).eval()(collate(encoded(tokenizer), tokenizer))
    assert found.shape == (3, 3) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [int((row > ABSENT / 2).sum()) for row in found] == [*COUNTS]


@pytest.mark.parametrize("arch", EVERY)
def test_a_candidate_has_the_tokens_that_it_has_in_the_text(arch: str, masked_lm: Folder) -> None:
    tokenizer = load_tokenizer(str(masked_lm(arch)))
    for fields, row in zip(ROWS, encoded(tokenizer), strict=True):
        assert isinstance(row, EncodedChoices)
        candidates = [text for name, text in fields.items() if name != "text"]
        for text, candidate, number in zip(candidates, row.tokens, row.read_in, strict=True):
            sequence = row.sequences[number]
            filled = [*sequence.ids[: sequence.mask], *candidate, *sequence.ids[sequence.mask + sequence.masks :]]
            whole = MASKED.replace("{mask}", text).replace("{text}", fields["text"])
            assert filled == tokenizer.hf.encode(whole)


@pytest.mark.parametrize("arch", ["gpt2", "llama"])
def test_a_causal_model_reads_each_token_after_those_before_it(arch: str, model_folder: Folder) -> None:
    folder = model_folder(arch)
    tokenizer = load_tokenizer(str(folder))
    model = model_of(folder)
    with torch.no_grad():
        found = CandidateScorer(model_of(folder)).eval()(collate(encoded(tokenizer, OPEN), tokenizer))
    rows = encoded(tokenizer, OPEN)
    for row, line in zip(rows, found, strict=True):
        assert isinstance(row, EncodedChoices)
        before = len(row.sequences[0].ids) - (len(row.tokens[0]) - 1)
        for number, candidate in enumerate(row.tokens):
            ids = torch.tensor([[*row.sequences[0].ids[:before], *candidate]])
            with torch.no_grad():
                log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
            each = [log_probs[before - 1 + place, token].item() for place, token in enumerate(candidate)]
            assert line[number].item() == pytest.approx(np.mean(each), rel=1e-4, abs=1e-4)
    assert [int((line > ABSENT / 2).sum()) for line in found] == [*COUNTS]


def test_lengths_that_candidates_share_are_read_once(model_folder: Folder) -> None:
    """Two tokens, one and two are two copies of the row, and not three."""
    tokenizer = load_tokenizer(str(model_folder("bert")))
    rows = encoded(tokenizer)
    assert all(isinstance(row, EncodedChoices) for row in rows)
    assert [len(row.sequences) for row in rows if isinstance(row, EncodedChoices)] == [2, 2, 1]
    batch = collate(rows, tokenizer)
    assert len(batch.input_ids) == 5 and batch.choices is not None and batch.choices.sequences.tolist() == [1, 0, 2, 3, 2, 4, 4]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_pieces_of_the_vocabulary_change_nothing(decoding: Any, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder("bert")
    tokenizer = load_tokenizer(str(folder))
    scorer, batch = CandidateScorer(load_masked_lm(str(folder)), decoding).eval(), collate(encoded(tokenizer), tokenizer)
    with torch.no_grad():
        expected = scorer(batch)
        monkeypatch.setattr(candidate_scorer, "VOCABULARY_LOGITS_AT_ONCE", 1)
        torch.testing.assert_close(scorer(batch), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("loss", [cross_entropy, hinge])
def test_training_prefers_the_right_candidates(loss: Any, decoding: Any, model_folder: Folder) -> None:
    folder = model_folder("bert")
    tokenizer = load_tokenizer(str(folder))
    scorer, batch = CandidateScorer(load_masked_lm(str(folder)), decoding).train(), collate(encoded(tokenizer), tokenizer)
    first = loss(scorer(batch), GOLD)
    first.backward()
    assert torch.isfinite(first) and all(
        torch.isfinite(value.grad).all() for value in scorer.parameters() if value.grad is not None
    )
    assert learned(scorer, batch, GOLD).argmax(1).tolist() == GOLD.tolist()


def test_hinge_does_not_see_absent_candidates() -> None:
    """0.5 and 0.2 are the margins that are missing, by hand; the absent third candidate adds nothing."""
    logits = torch.tensor([[0.0, 0.5, ABSENT], [1.0, 0.2, ABSENT]])
    assert hinge(logits, torch.tensor([1, 0])).item() == pytest.approx((0.5 + 0.2) / 2)
