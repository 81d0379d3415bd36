"""Demonstrations: which examples a row is shown, in what order, and that they never cost it a token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import DataSpec, DemonstrationsSpec, PatternSpec, PipelineSpec, VerbalizerSpec
from petkit.prompts.pattern import FieldKey
from petkit.prompts.pvp import PVP, Demonstrations, compile_pvps, with_demonstrations
from petkit.prompts.tokenizer import IntArray
from petkit.prompts.verbalizer import find_label_words
from tests.prompts.rendering import compiled, field_tokens, pattern
from tests.tiny import KINDS, WORDS, pieces

LABELS = {"World": ("world",), "Sports": ("sports", "football"), "Science": ("science",)}
TEXTS = ("the market is bad", "game", "a good question and answer", "team", "the world market", "very good science")
GOLD = [0, 1, 2, 1, 0, 2]
ROWS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


def make(
    text: Sequence[str] = ("{mask} news: {text}",), max_length: int = 200, kind: str = "wordpiece", **labels: tuple[str, ...]
) -> PVP:
    """Return a PVP without demonstrations; ``labels`` are other label words."""
    verbalizer = VerbalizerSpec(labels=labels or LABELS, multi_token=bool(labels))
    made = compiled(kind, pattern(*text), max_length)
    assert made.mask_context is not None
    words, problems = find_label_words(verbalizer, pieces(kind), made.mask_context)
    assert problems == []
    return PVP("p", compiled(kind, pattern(*text), max_length, masks=words.longest), words, verbalizer)


def field(pvp: PVP, text: str, kind: str = "wordpiece") -> dict[FieldKey, IntArray]:
    return field_tokens(kind, pvp.pattern, {"text": text, "other": "it"})


def shown(pvp: PVP, per_label: int = 1, max_tokens: int = 40, kind: str = "wordpiece", gold: Sequence[int] = GOLD) -> PVP:
    """Return the PVP with the few-shot examples as demonstrations."""
    settings = DemonstrationsSpec(per_label=per_label, max_tokens=max_tokens)
    return with_demonstrations(pvp, settings, pieces(kind), [field(pvp, text, kind) for text in TEXTS[: len(gold)]], gold)


def reported(ids: IntArray, kind: str = "wordpiece") -> str:
    return " ".join(pieces(kind).hf.convert_ids_to_tokens(ids.tolist()))


def before(pvp: PVP, text: str, own: int | None = None) -> list[str]:
    """Return the demonstrations of a row, one by one."""
    plain, full = make().pattern.encode(field(pvp, text)), pvp.encode(field(pvp, text), own)
    ids = full.ids[1 : 1 + len(full.ids) - len(plain.ids)]
    assert full.ids.tolist() == [plain.ids[0], *ids.tolist(), *plain.ids[1:].tolist()]
    starts = [match - 1 for match in np.flatnonzero(ids == pieces("wordpiece").hf.convert_tokens_to_ids("news"))]
    return [reported(part) for part in np.split(ids, starts[1:])] if starts else []


FILLED = {
    0: {"world news : the market is bad", "world news : the world market"},
    1: {"sports news : game", "sports news : team"},
    2: {"science news : a good question and answer", "science news : very good science"},
}


def test_every_label_is_shown_with_its_first_word() -> None:
    examples = before(shown(make()), "the movie was not bad")

    assert len(examples) == 3
    assert all(len(FILLED[label].intersection(examples)) == 1 for label in FILLED)


@pytest.mark.parametrize("per_label", [2, 3])
def test_labels_come_in_turn(per_label: int) -> None:
    examples = before(shown(make(), per_label), "the movie was not bad")
    label = {text: label for label, texts in FILLED.items() for text in texts}

    assert {label[text] for text in examples[:3]} == {label[text] for text in examples[3:]} == {0, 1, 2}
    assert len(set(examples)) == len(examples) == 6  # no more than there are, none twice


def test_a_row_is_never_its_own_demonstration() -> None:
    pvp = shown(make(), 2)
    for own, text in enumerate(TEXTS):
        examples = before(pvp, text, own)
        assert len(examples) == 5
        assert not any(example.endswith(f": {text}") for example in examples)
        assert len(before(pvp, text)) == 6  # a row of another file that says the same


def test_the_only_example_of_a_label_is_left_out_for_itself() -> None:
    pvp = shown(make(), gold=[0, 1, 2])

    assert sorted(before(pvp, TEXTS[1], own=1)) == ["science news : a good question and answer", "world news : the market is bad"]


def test_choice_and_order_depend_on_the_row_and_nothing_else() -> None:
    texts = [" ".join(pair) for pair in pairwise(WORDS)]
    pvp, again = shown(make()), shown(make())
    first = [before(pvp, text) for text in texts]

    assert [before(again, text) for text in reversed(texts)] == first[::-1]
    assert len({tuple(sorted(examples)) for examples in first}) == 8  # every choice of one of two per label
    assert len({tuple(example.split()[0] for example in examples) for examples in first}) == 6  # every order


def test_fields_that_the_pattern_does_not_use_change_nothing() -> None:
    """A token store holds the fields of all patterns, a predictor only those of one."""
    pvp = shown(make())
    own = field(pvp, "the movie was not bad")
    more = {
        FieldKey("other", (), ""): np.arange(5, dtype=np.int32),
        **own,
        FieldKey("text", ("lower_first",), ""): own[pvp.pattern.keys[0]],
    }

    assert pvp.encode(more).ids.tolist() == pvp.encode(own).ids.tolist()
    stored = {key: ids.astype(np.int64) for key, ids in own.items()}
    assert pvp.encode(stored).ids.tolist() == pvp.encode(own).ids.tolist()


@pytest.mark.parametrize("segments", [("{mask} news: {text}",), ("{text} {mask} ({text})",), ("{text}", "{mask}, {other}")])
@given(text=ROWS, max_length=st.integers(14, 90), per_label=st.integers(1, 2), own=st.sampled_from([None, 0, 3]))
def test_no_token_of_the_row_is_lost(
    segments: tuple[str, ...], text: str, max_length: int, per_label: int, own: int | None
) -> None:
    plain = make(segments, max_length)
    pvp = shown(plain, per_label)
    tokens = field(plain, text)
    row, full = plain.encode(tokens), pvp.encode(tokens, own)
    added = len(full.ids) - len(row.ids)

    assert len(full.ids) <= max_length
    assert full.ids.tolist() == [row.ids[0], *full.ids[1 : 1 + added].tolist(), *row.ids[1:].tolist()]
    assert (full.mask, full.second) == (row.mask + added, row.second + added)
    smallest = min(len(ids) for label in pvp.demonstrations.filled for ids in label) if pvp.demonstrations else 0
    assert added == 0 or added >= smallest
    if max_length - len(row.ids) < smallest:
        assert added == 0


def test_what_does_not_fit_makes_way_for_what_does() -> None:
    """The row leaves 8 tokens; the examples have 7 and 6 (World), 4 and 4 (Sports), 8 and 6 (Science)."""
    pvp = shown(make(max_length=14), 2)
    chosen = {tuple(before(pvp, text)) for text in WORDS}
    sizes = {tuple(len(example.split()) for example in examples) for examples in chosen}

    assert {len(pvp.pattern.encode(field(pvp, text)).ids) for text in WORDS} == {6}
    assert sizes == {(7,), (6,), (8,), (4, 4)}
    assert {examples for examples in chosen if len(examples) == 2} == {
        ("sports news : game", "sports news : team"),
        ("sports news : team", "sports news : game"),
    }


def test_where_nothing_fits_the_row_stands_alone() -> None:
    pvp = shown(make(max_length=9), 2)
    for text in ("it", "the market is very bad and not good"):
        plain, full = pvp.pattern.encode(field(pvp, text)), pvp.encode(field(pvp, text))
        assert full.ids.tolist() == plain.ids.tolist()
        assert (full.mask, full.second, full.masks) == (plain.mask, plain.second, plain.masks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segments", [("{mask} news: {text}",), ("{text}", "{mask}, {other}")])
def test_examples_are_cut_to_max_tokens(kind: str, segments: tuple[str, ...]) -> None:
    pvp = shown(make(segments, kind=kind), max_tokens=6, kind=kind)
    assert pvp.demonstrations is not None
    lengths = {len(ids) for label in pvp.demonstrations.filled for ids in label}

    assert max(lengths) == 6
    assert not any(
        set(pieces(kind).hf.all_special_ids).intersection(ids.tolist()) for label in pvp.demonstrations.filled for ids in label
    )


def test_two_segments_become_one_text() -> None:
    pvp = shown(make(("{text}?", "{mask}, {other}")), gold=[0, 1, 2])
    row = pvp.encode(field(pvp, "the movie"))
    words = reported(row.ids)

    assert words.endswith("the movie ? [SEP] [MASK] , it [SEP]")
    assert "the market is bad ? world , it" in words
    assert words.count("[SEP]") == 2 and row.ids[row.mask] == pieces("wordpiece").mask_id
    assert reported(row.ids[row.second :]) == "[MASK] , it [SEP]"


def test_words_of_several_tokens_fill_the_slot_of_an_example() -> None:
    pvp = shown(make(World=("world market",), Sports=("sports",), Science=("very good science",)), gold=[0, 1, 2])
    assert pvp.demonstrations is not None
    examples = [reported(ids) for label in pvp.demonstrations.filled for ids in label]

    assert examples == [
        "world market news : the market is bad",
        "sports news : game",
        "very good science news : a good question and answer",
    ]
    assert pvp.encode(field(pvp, "it")).masks == 3


def test_a_label_without_examples_is_passed_over() -> None:
    pvp = shown(make(), gold=[0, 0, 2])
    examples = before(pvp, "it")

    assert {example.split()[0] for example in examples} == {"world", "science"}


def test_numbers_are_those_of_the_few_shot_rows() -> None:
    pvp = shown(make())

    assert pvp.demonstrations is not None
    assert pvp.demonstrations.numbers == ((0, 4), (1, 3), (2, 5))
    assert Demonstrations(1, ((), ()), ((), ())).before([np.arange(3, dtype=np.int32)], 100).tolist() == []


def test_examples_without_room_for_text_are_reported() -> None:
    pipeline = PipelineSpec(
        task="news",
        data=DataSpec(train="a.jsonl", unlabeled="b.jsonl"),
        patterns=(
            PatternSpec(id="long", text="it was a very {mask} game. {text}"),
            PatternSpec(id="short", text="{mask}: {text}"),
        ),
        verbalizer=VerbalizerSpec(labels=LABELS),
        demonstrations=DemonstrationsSpec(per_label=1, max_tokens=7),
    )
    _, problems = compile_pvps(Pipeline.from_spec(pipeline), pieces("wordpiece"), 64)

    expected = "specification: demonstrations.max_tokens: pattern 'long' alone takes 7 tokens, so its examples would have no text (raise it)"
    assert [str(problem) for problem in problems] == [expected]
