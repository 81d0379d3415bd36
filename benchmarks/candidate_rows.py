"""Rows with candidate answers, from the original files of COPA, WSC and ReCoRD; ``papers.py`` runs their recipes.

Labelled rows for training come from files called ``train.jsonl``, as FewGLUE has them.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from petkit import limits

Row: TypeAlias = dict[str, Any]
MARKS = string.punctuation + "“”‘’"
SPAN = 3  # words of a candidate of WSC, at most
TRAINED_ENTITIES = 10  # candidates of a training row of ReCoRD, the authors' max_train_candidates_per_question
PLACEHOLDER = "@placeholder"


def json_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def alternatives(path: Path) -> Iterator[Row]:
    """Yield the rows of COPA, choices as they go on from the connective; training rows also with the choices exchanged."""
    for row in json_rows(path):
        premise = row["premise"].strip().rstrip(string.punctuation)
        effect = row["question"] == "effect"
        texts = {"premise": premise + "," * effect, "connective": "so" if effect else "because"}
        choices = [_inside_sentence(row["choice1"]), _inside_sentence(row["choice2"])]
        label = {"label": row["label"]} if "label" in row else {}
        yield {**texts, "choice1": choices[0], "choice2": choices[1], **label}
        if path.stem == "train":
            yield {**texts, "choice1": choices[1], "choice2": choices[0], "label": 1 - row["label"]}


def _inside_sentence(choice: str) -> str:
    text = choice.strip().rstrip(string.punctuation)
    return text[:1].lower() + text[1:]


def referents(path: Path) -> Iterator[Row]:
    """Yield the rows of WSC: a text with its pronoun marked, and what it may refer to.

    Training rows are those whose span is the referent; it is their label. Other labelled rows keep the span and whether it is the
    referent, which their candidates do not depend on.
    """
    for row in json_rows(path):
        target, words = row["target"], row["text"].split()
        place = pronoun_place(words, target["span2_text"], target["span2_index"])
        pronoun, span = target["span2_text"], " ".join(target["span1_text"].split())
        options = spans(words, place, pronoun)
        marked = f"*{pronoun}*{words[place].removeprefix(pronoun)}"
        texts = {"text": " ".join([*words[:place], marked, *words[place + 1 :]]), "pronoun": pronoun}
        if path.stem != "train":
            judged = {"span": span, "is_referent": row["label"]} if "label" in row else {}
            yield {**texts, "options": options, **judged}
        elif row["label"]:
            own = {option.lower(): option for option in options}.get(span.lower())
            if own is None:
                own, options = span, [*options[: limits.CANDIDATES - 1], span]
            yield {**texts, "options": options, "label": own}


def pronoun_place(words: Sequence[str], pronoun: str, given: int) -> int:
    """Return the number of the word that is the pronoun; SuperGLUE's own is wrong by one in some rows."""
    near = [place for place in (given, given - 1, given + 1) if 0 <= place < len(words)]
    exact = [place for place in near if words[place] == pronoun]
    begun = [place for place in near if words[place].startswith(pronoun)]  # "him."
    if not exact + begun:
        raise ValueError(f"WSC: {pronoun!r} is not word {given} of {' '.join(words)!r}")
    return (exact + begun)[0]


def spans(words: Sequence[str], place: int, pronoun: str) -> list[str]:
    """Return what a pronoun may refer to: one to three words of the text, without the pronoun, those that begin first first.

    A span of more words is not among them; the authors' comparison accepts a part of it (:func:`is_named`).
    """
    found: dict[str, str] = {}
    for start in range(len(words)):
        for stop in range(start + 1, min(start + SPAN, len(words)) + 1):
            span = " ".join(words[start:stop]).strip(MARKS)
            if not start <= place < stop and span.lower() != pronoun.lower() and _letters(span):
                found.setdefault(span.lower(), span)
    return list(found.values())[: limits.CANDIDATES]


def is_named(answer: str, span: str) -> bool:
    """Return whether all words of an answer are in the span, or the other way round, as the authors compare them.

    >>> is_named("The trophy", "the big trophy"), is_named("suitcase", "the big trophy")
    (True, False)
    """
    given, wanted = _letters(answer), _letters(span)
    return given <= wanted or wanted <= given


def _letters(text: str) -> set[str]:
    return set(re.findall("[a-z]+", text.lower()))


def right_referents(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> float:
    """Return the share of WSC's rows for which the answers say correctly whether the span is the referent."""
    right = [is_named(answer, row["span"]) == row["is_referent"] for row, answer in zip(rows, answers, strict=True)]
    return sum(right) / len(right)


def entities(path: Path) -> Iterator[Row]:
    """Yield the rows of ReCoRD, a query each; training rows: an answer each, and no other right one among its candidates.

    The last word of the passage stands with the query, which would else be empty where it begins with the placeholder. Rows
    without a choice are left out.
    """
    draw = random.Random(42)
    for line in json_rows(path):
        passage = line["passage"]
        mentions = (passage["text"][entity["start"] : entity["end"] + 1] for entity in passage["entities"])
        options = list(dict.fromkeys(_plain(mention) for mention in mentions))
        body, _, last = _plain(passage["text"].replace("@highlight\n", "- ")).rpartition(" ")
        for query in line["qas"]:
            before, _, rest = _plain(query["query"]).partition(PLACEHOLDER)
            texts = {"passage": body, "before": f"{last} {before}".strip(), "rest": rest.strip() or "."}
            right = dict.fromkeys(_plain(answer["text"]) for answer in query.get("answers", ()))
            if path.stem == "train":
                rows = [{**texts, **_one_answer(answer, options, right, draw)} for answer in right]
            else:
                label = {"label": [option for option in options if option in right]} if right else {}
                rows = [{**texts, "options": options, **label}]
            yield from (row for row in rows if len(row["options"]) > 1)


def _one_answer(answer: str, options: Sequence[str], right: Mapping[str, None], draw: random.Random) -> Row:
    """Return the candidates and label of a training row, as many as the authors give it."""
    wrong = [option for option in options if option not in right]
    kept = {answer, *draw.sample(wrong, min(len(wrong), TRAINED_ENTITIES - 1))}
    return {"options": [option for option in dict.fromkeys([*options, answer]) if option in kept], "label": answer}


def _plain(text: str) -> str:
    return " ".join(text.split())
