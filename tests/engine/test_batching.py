"""Rows into batches: padding, token budgets, and passes over the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from petkit.engine.sampling import drawn_batches, training_batches
from petkit.models.batch import Batch, IndexArray, collate, inference_batches
from petkit.prompts.pattern import Encoded
from tests.tiny import pieces


def row(*ids: int, second: int | None = None, mask: int = -1, masks: int = 1) -> Encoded:
    return Encoded(np.array(ids, np.int32), len(ids) if second is None else second, mask, masks)


def lengths(rows: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, 60, size=rows).tolist()


def padded(values: list[int], width: int = 8, fill: int = 0) -> list[int]:
    return values + [fill] * (width - len(values))


def test_collate_pads_on_the_right_to_a_multiple_of_eight() -> None:
    tokenizer = pieces("wordpiece")
    batch = collate([row(2, 7, 8, 3, mask=1), row(2, 9, 3, second=2), row(2, 3)], tokenizer)
    expected = [padded(ids, fill=tokenizer.pad_id) for ids in ([2, 7, 8, 3], [2, 9, 3], [2, 3])]
    assert batch.input_ids.tolist() == expected
    assert batch.attention_mask.tolist() == [padded([1] * 4), padded([1] * 3), padded([1] * 2)]
    assert batch.mask_positions.tolist() == [1, -1, -1]
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [padded([]), padded([0, 0, 1]), padded([])]
    assert set(batch.model_inputs) == {"input_ids", "attention_mask", "token_type_ids"}


@pytest.mark.parametrize("kind", ["bytebpe", "sentencepiece"])
def test_collate_gives_no_token_types_to_models_without_them(kind: str) -> None:
    tokenizer = pieces(kind)
    batch = collate([row(0, 5, 2, second=1), row(0, 2)], tokenizer)
    assert batch.token_type_ids is None and set(batch.model_inputs) == {"input_ids", "attention_mask"}
    assert tokenizer.pad_id == 1 and batch.input_ids.tolist() == [padded([0, 5, 2], fill=1), padded([0, 2], fill=1)]


@pytest.mark.parametrize(("longest", "width"), [(1, 8), (7, 8), (8, 8), (9, 16), (16, 16), (17, 24)])
def test_collate_rounds_the_width_up_to_eight(longest: int, width: int) -> None:
    """What is added is padding: no attention, type 0, also where the second text goes up to the end of its row."""
    tokenizer = pieces("wordpiece")
    batch = collate([row(*[7] * longest, second=0), row(7)], tokenizer)
    assert batch.token_type_ids is not None
    assert {tuple(value.shape) for value in batch.model_inputs.values()} == {(2, width)}
    assert batch.input_ids[0].tolist() == padded([7] * longest, width, tokenizer.pad_id)
    assert batch.attention_mask[0].tolist() == batch.token_type_ids[0].tolist() == padded([1] * longest, width)


def test_collate_equals_the_tokenizers_own_padding() -> None:
    tokenizer = pieces("wordpiece")
    pairs = [("good news", "bad"), ("the game", "it was great and good")]
    expected = tokenizer.hf([one for one, _ in pairs], [two for _, two in pairs], padding=True, pad_to_multiple_of=8)
    singles = [tokenizer.hf(one, two) for one, two in pairs]
    rows = [row(*entry["input_ids"], second=entry["token_type_ids"].index(1)) for entry in singles]
    assert {name: value.tolist() for name, value in collate(rows, tokenizer).model_inputs.items()} == dict(expected)


@st.composite
def slotted(draw: st.DrawFn, masks: int) -> Encoded:
    """A row with so many masks (id 4) side by side anywhere, and a second text that begins anywhere but inside them."""
    before, after = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    length = before + masks + after
    second = draw(st.sampled_from([*range(before + 1), *range(before + masks, length + 1)]))
    return row(*range(100, 100 + before), *[4] * masks, *range(200, 200 + after), second=second, mask=before, masks=masks)


def fewer(long: Encoded, masks: int) -> Encoded:
    """Encode the row again, token by token, with fewer masks."""
    ids, second = [], len(long.ids) - long.masks + masks
    for place, token in enumerate(long.ids.tolist()):
        if place == long.second:
            second = len(ids)
        if not long.mask + masks <= place < long.mask + long.masks:
            ids.append(token)
    return row(*ids, second=second, mask=long.mask, masks=masks)


def read(batch: Batch, index: int) -> tuple[list[int], list[int] | None, int, int]:
    """Return what a model sees of one row: ids and types of the tokens attended to, and where the masks are."""
    attended = batch.attention_mask[index].bool()
    length = int(attended.sum())
    assert attended[:length].all()  # at the left, without a gap
    types = batch.token_type_ids
    if types is not None:
        assert not types[index, length:].any()
    kept = None if types is None else types[index, :length].tolist()
    return batch.input_ids[index, :length].tolist(), kept, int(batch.mask_positions[index]), batch.masks


@given(st.data(), st.sampled_from(["wordpiece", "bytebpe"]))
def test_fewer_masks_are_as_if_encoded_with_fewer(data: st.DataObject, kind: str) -> None:
    masks = data.draw(st.integers(1, 5))
    rows = data.draw(st.lists(slotted(masks), min_size=1, max_size=4))
    batch = collate(rows, pieces(kind))
    before = [read(batch, index) for index in range(len(rows))]
    for left in range(1, masks + 1):
        found, naive = batch.with_masks(left), collate([fewer(long, left) for long in rows], pieces(kind))
        assert [read(found, index) for index in range(len(rows))] == [read(naive, index) for index in range(len(rows))]
        assert found.input_ids.shape == found.attention_mask.shape == batch.input_ids.shape
        for last in range(1, left):
            again = found.with_masks(last)
            assert [read(again, index) for index in range(len(rows))] == [
                read(batch.with_masks(last), index) for index in range(len(rows))
            ]
    assert [read(batch, index) for index in range(len(rows))] == before  # the batch itself is as it was
    assert batch.with_masks(masks) is batch


@pytest.mark.parametrize("kind", ["wordpiece", "bytebpe"])
def test_stacked_batches_follow_each_other(kind: str) -> None:
    long = collate([row(7, 4, 4, 8, second=3, mask=1, masks=2), row(4, 4, 9, mask=0, masks=2)], pieces(kind))
    both = Batch.stacked([long.with_masks(1), long])
    assert [read(both, index)[0] for index in range(4)] == [[7, 4, 8], [4, 9], [7, 4, 4, 8], [4, 4, 9]]
    assert both.mask_positions.tolist() == [1, 0, 1, 0] and both.masks == 2
    assert (both.token_type_ids is None) == (kind == "bytebpe")
    if both.token_type_ids is not None:
        assert both.token_type_ids[:, :4].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_a_batch_on_its_way_keeps_its_masks() -> None:
    batch = collate([row(4, 4, 7, mask=0, masks=2)], pieces("wordpiece"))
    other = batch.with_ids(torch.ones_like(batch.input_ids))
    assert batch.masks == batch.to("cpu").masks == other.masks == 2
    assert other.input_ids.unique().tolist() == [1] and batch.input_ids[0, :3].tolist() == [4, 4, 7]


@pytest.mark.parametrize("budget", [1, 59, 64, 300, 100_000])
@pytest.mark.parametrize("rows", [1, 2, 97])
def test_inference_batches_keep_the_budget_and_lose_no_row(rows: int, budget: int) -> None:
    sizes = lengths(rows)
    batches = list(inference_batches(sizes, budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    for batch in batches:
        width = -(-max(sizes[index] for index in batch) // 8) * 8  # as collate pads them
        assert width * len(batch) <= budget or len(batch) == 1


@pytest.mark.parametrize(("limit", "width"), [(None, 16), (40, 16), (13, 13), (10, 10), (9, 10)])
def test_padding_minds_the_limit(limit: int | None, width: int) -> None:
    rows = [replace(row(*range(5, 5 + length)), limit=limit) for length in (10, 3)]
    assert collate(rows, pieces("wordpiece")).input_ids.shape == (2, width)


def test_what_stands_before_the_rows_is_in_the_budget() -> None:
    assert [len(batch) for batch in inference_batches([8] * 10, 128, before=24)] == [4, 4, 2]
    assert [len(batch) for batch in inference_batches([8, 1], 8, before=24)] == [1, 1]  # one row always fits


def test_inference_batches_start_with_the_longest_and_pad_little() -> None:
    sizes = lengths(200)
    batches = list(inference_batches(sizes, 256))
    assert max(sizes) == sizes[batches[0][0]]
    padded = sum(max(sizes[index] for index in batch) * len(batch) for batch in batches)
    assert padded < 1.1 * sum(sizes)


def test_inference_batches_of_nothing_and_of_empty_rows() -> None:
    assert list(inference_batches([], 100)) == []
    assert sorted(np.concatenate(list(inference_batches([0, 0, 3], 100))).tolist()) == [0, 1, 2]


CASES = [(1, 16), (3, 16), (16, 16), (17, 16), (32, 16), (40, 16), (10, 4), (7, 5), (9, 1), (500, 16), (1000, 7)]


@pytest.mark.parametrize(("rows", "batch_size"), CASES)
@pytest.mark.parametrize("steps", [1, 5, 130])
def test_training_batches_number_and_size(rows: int, batch_size: int, steps: int) -> None:
    batches = list(training_batches(lengths(rows), batch_size, steps, seed=1))
    assert len(batches) == steps
    assert {len(batch) for batch in batches} == {batch_size if rows > batch_size else (rows + 1) // 2}


@pytest.mark.parametrize(("rows", "batch_size"), [(2, 16), (3, 16), (16, 16), (15, 16)])
def test_seeds_walk_differently_where_one_batch_could_hold_every_row(rows: int, batch_size: int) -> None:
    def draw(seed: int) -> list[frozenset[int]]:
        return [frozenset(batch.tolist()) for batch in training_batches(lengths(rows), batch_size, 20, seed)]

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize(("rows", "batch_size"), CASES)
@pytest.mark.parametrize("seed", range(5))
def test_no_batch_holds_a_row_twice(rows: int, batch_size: int, seed: int) -> None:
    """Grouping by length across passes once put 16 copies of one row into a batch."""
    for batch in training_batches(lengths(rows), batch_size, 120, seed):
        assert len(set(batch.tolist())) == len(batch)


@pytest.mark.parametrize(("rows", "batch_size"), CASES)
def test_rows_come_in_passes_without_replacement(rows: int, batch_size: int) -> None:
    """At no time has any row been seen twice more often than another."""
    seen: Counter[int] = Counter(dict.fromkeys(range(rows), 0))
    for batch in training_batches(lengths(rows), batch_size, 150, seed=3):
        seen.update(batch.tolist())
        assert max(seen.values()) - min(seen.values()) <= 1


def test_training_batches_follow_their_seed() -> None:
    def draw(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in training_batches(lengths(50), 8, 40, seed)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_more_steps_begin_like_fewer() -> None:
    """Within the first pass at least, so that a longer training sees the same rows first."""
    few = np.concatenate(list(training_batches(lengths(64), 8, 8, seed=1)))
    assert sorted(few.tolist()) == list(range(64))


def test_passes_differ() -> None:
    batches = [frozenset(batch.tolist()) for batch in training_batches(lengths(512), 8, 128, seed=1)]
    assert len(set(batches)) > 120


def naive(sizes: IndexArray, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Deal batches as ``training_batches`` says, looking at every row wherever that is simplest."""
    random = np.random.default_rng(seed)
    batch_size = batch_size if len(sizes) > batch_size else -(-len(sizes) // 2)
    window_size = max(1, min(16, len(sizes) // (4 * batch_size))) * batch_size
    left, given = np.zeros(0, np.int64), 0
    while given < steps:
        order = random.permutation(len(sizes))
        if len(left):
            fresh = order[~np.isin(order, left)][: batch_size - len(left)]
            yield [*left.tolist(), *fresh.tolist()]
            given, order = given + 1, order[~np.isin(order, fresh)]
        whole = min(len(order) // batch_size, steps - given) * batch_size
        for start in range(0, whole, window_size):
            window = order[start : min(start + window_size, whole)]
            batches = window[np.argsort(sizes[window], kind="stable")].reshape(-1, batch_size)
            yield from batches[random.permutation(len(batches))].tolist()
        given, left = given + whole // batch_size, order[whole:]


@pytest.mark.parametrize(("rows", "batch_size"), CASES)
def test_lengths_are_asked_only_of_rows_that_come_up(rows: int, batch_size: int) -> None:
    sizes, asked = np.array(lengths(rows)), []

    def lengths_of(some: IndexArray) -> IndexArray:
        asked.extend(some.tolist())
        return sizes[some]

    drawn = [batch.tolist() for batch in drawn_batches(rows, lengths_of, batch_size, 130, seed=5)]
    assert drawn == list(naive(sizes, batch_size, 130, 5))
    assert drawn == [batch.tolist() for batch in training_batches(sizes, batch_size, 130, seed=5)]
    assert len(asked) <= 130 * batch_size and set(asked) <= {row for batch in drawn for row in batch}


def test_training_batches_group_by_length_in_random_order() -> None:
    sizes = lengths(512)
    batches = list(training_batches(sizes, 8, 64, seed=1))
    padded = sum(max(sizes[index] for index in batch) * len(batch) for batch in batches)
    assert padded < 1.2 * sum(sizes)  # without grouping about 1.7
    means = [np.mean([sizes[index] for index in batch]) for batch in batches]
    assert abs(np.corrcoef(means[:16], np.arange(16))[0, 1]) < 0.9  # not sorted from short to long
