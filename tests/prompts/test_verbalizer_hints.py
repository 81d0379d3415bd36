"""How many wrong label words get a suggestion."""

from __future__ import annotations

from tests.prompts.test_verbalizer import OTHER, find


def test_only_the_first_of_many_wrong_words_have_a_suggestion() -> None:
    """Each advice is a search of the vocabulary."""
    words = tuple(f"good{letter}{other}" for letter in "aeiou" for other in "bcdfghkl")

    _, problems = find("wordpiece", "{mask}: {a}", {"A": words, "B": (OTHER,)})

    advised = ["use one token, such as 'good'" in reported.hint for reported in problems]
    assert advised == [True] * 20 + [False] * 20
