"""Sentences of texts, and pairs of them drawn as questions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from petkit.data.examples import Example
from petkit.pretraining.sentences import NEXT, OTHER_TEXT, SAME_TEXT, SentenceIndex, sentence_examples, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One thing. Another!  And a third?", ["One thing.", "Another!", "And a third?"]),
        ("No end", ["No end"]),
        ("all small . no capitals anywhere .", ["all small .", "no capitals anywhere ."]),
        ("It cost 3.50 euros in the U.S. market, e.g. here.", ["It cost 3.50 euros in the U.S. market, e.g. here."]),
        ("Dr. Who met J. R. Smith. They won.", ["Dr. Who met J. R. Smith.", "They won."]),
        ("I said no. Then I left.", ["I said no.", "Then I left."]),
        ("It was I. You were not.", ["It was I.", "You were not."]),
        ('He said: "No!" Then he left… or so.', ['He said: "No!"', "Then he left… or so."]),
        ("今天很好。我们去吧！好吗？", ["今天很好。", "我们去吧！", "好吗？"]),
        ("A title\n\nThe text\nover two lines.", ["A title", "The text\nover two lines."]),
        ("What?! ... Really.", ["What?!", "Really."]),
        ("...", []),
        (" ", []),
    ],
)
def test_splitting(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def rows(*counts: tuple[int, ...]) -> list[Example]:
    """Return rows of one text or more with so many sentences; a sentence tells its row, its text and its number."""
    made = []
    for row, texts in enumerate(counts):
        fields = {
            f"f{text}": " ".join(f"r{row} t{text} s{number}." for number in range(count)) or "…"
            for text, count in enumerate(texts)
        }
        made.append(Example(str(row), fields, None, row + 1))
    return made


def place(sentence: str) -> tuple[int, int, int]:
    row, text, number = (int(part[1:]) for part in sentence.rstrip(".").split())
    return row, text, number


def drawn(
    examples: list[Example], kept: list[int], pairs: int = 3000
) -> list[tuple[tuple[int, int, int], tuple[int, int, int], int]]:
    index = SentenceIndex.build(examples)
    said = [place(example.fields["a"]) for example in sentence_examples(examples, ("a", "b"))]
    texts = np.resize(index.texts_with_pairs(np.array(kept)), pairs)
    found = index.draw(texts, index.in_rows(np.array(kept)), np.random.default_rng(5))
    return [(said[one], said[two], int(answer)) for one, two, answer in zip(*found, strict=True)]


def test_index_counts_texts_and_rows() -> None:
    index = SentenceIndex.build(rows((1,), (2, 0), (1, 3)))

    assert index.counts.tolist() == [1, 2, 0, 1, 3] and index.rows.tolist() == [0, 1, 1, 2, 2]
    assert index.texts_with_pairs(np.arange(3)).tolist() == [1, 4] and index.rows_with_pairs().tolist() == [1, 2]
    assert index.texts_with_pairs(np.array([0, 2])).tolist() == [4]
    assert index.in_rows(np.array([0, 2])).tolist() == [0, 3, 4, 5, 6]
    assert index.has_three and not SentenceIndex.build(rows((2,), (1, 2))).has_three


def test_pairs_are_what_their_answers_say() -> None:
    pairs = drawn(rows((4, 1), (2,), (3, 5), (1,), (9,)), kept=[0, 1, 2, 3])

    for (row, text, first), (other_row, other_text, second), answer in pairs:
        together = (row, text) == (other_row, other_text)
        assert answer != NEXT or (together and second == first + 1)
        assert answer != SAME_TEXT or (together and abs(second - first) >= 2)
        assert answer != OTHER_TEXT or row != other_row
    assert {row for one, two, _ in pairs for row in (one[0], two[0])} == {0, 1, 2, 3}  # 4 is not to be seen


def test_every_pair_comes_up_as_often() -> None:
    pairs = drawn(rows((4,), (2,)), kept=[0, 1], pairs=12_000)
    of_first = [(one[2], two[2], answer) for one, two, answer in pairs if one[0] == 0]
    of_second = [(one[2], two[2], answer) for one, two, answer in pairs if one[0] == 1]
    shares = {key: count / len(of_first) for key, count in Counter(of_first).items()}

    # A third each: three neighbours, six pairs that do not touch, four sentences before two of the other row.
    assert {key for key in shares if key[2] == NEXT} == {(0, 1, NEXT), (1, 2, NEXT), (2, 3, NEXT)}
    apart = {(0, 2), (0, 3), (1, 3), (2, 0), (3, 0), (3, 1)}
    assert {key[:2] for key in shares if key[2] == SAME_TEXT} == apart
    for answer, ways in ((NEXT, 3), (SAME_TEXT, 6), (OTHER_TEXT, 8)):
        assert [shares[key] for key in shares if key[2] == answer] == pytest.approx([1 / 3 / ways] * ways, abs=0.02)
    # Two sentences cannot be of the same text without touching: half and half.
    reported = Counter(answer for _, _, answer in of_second)
    assert reported[SAME_TEXT] == 0 and reported[NEXT] / len(of_second) == pytest.approx(0.5, abs=0.02)


def test_the_same_randomness_draws_the_same_pairs() -> None:
    examples = rows((4,), (2,), (3,))

    assert drawn(examples, [0, 1, 2], 20) == drawn(examples, [0, 1, 2], 20)
