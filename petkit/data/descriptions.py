"""Label descriptions: rows made up for a label, on which teachers train as on labelled ones (Gao et al. 2023)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from petkit.config.schema.pipeline import Described
from petkit.data.examples import Example, Scan
from petkit.data.repeats import text_key
from petkit.errors import did_you_mean, listed

# Where the problem is, below ``verbalizer.descriptions``; what is wrong; a hint.
Wrong: TypeAlias = tuple[tuple[str | int, ...], str, str]


def described_rows(
    descriptions: Mapping[str, Sequence[Described]], fields: Sequence[str], labels: Sequence[str], *, multi: bool
) -> tuple[Scan, list[Wrong]]:
    """Return the descriptions as rows, in class order, and what is wrong with the others.

    Args:
        fields: those that the patterns use; with several, a description names the text of each.
        multi: whether a row may have several labels; a description has one.
    """
    rows: list[Example] = []
    wrong: list[Wrong] = [
        ((label,), f"label {label!r} is none of the task's labels", did_you_mean(label, labels))
        for label in descriptions
        if label not in labels
    ]
    if len(fields) > 1 and all(isinstance(written, str) for texts in descriptions.values() for written in texts):
        hint = f"write each as {_row_of(fields)}, or descriptions: {{}} to do without"
        wrong.append(((), f"are texts, and the patterns use the fields {listed(fields)}", hint))
        descriptions = {}
    digest = hashlib.sha256()
    owner: dict[int, tuple[str, int]] = {}
    for index, label in enumerate(labels):
        for number, written in enumerate(descriptions.get(label, ())):
            texts = dict.fromkeys(fields[:1], written) if isinstance(written, str) else written
            if problem := _problem(texts, fields):
                wrong.append(((label, number), *problem))
                continue
            of_row = {"label": None, "several": (index,)} if multi else {"label": index}
            row = Example(f"description-{len(rows) + 1}", {field: texts[field] for field in fields}, line=0, **of_row)
            if (first := owner.setdefault(text_key(row), (label, number))) != (label, number):
                also = f"the same text as description {first[1] + 1} of label {first[0]!r}"
                wrong.append(((label, number), also, "take one of them out"))
                continue
            rows.append(row)
            digest.update(json.dumps([sorted(row.fields.items()), index], ensure_ascii=False).encode())
    return Scan(len(rows), digest.hexdigest(), (), tuple(fields), tuple(rows)), wrong


def _problem(texts: Mapping[str, str], fields: Sequence[str]) -> tuple[str, str] | None:
    """Return why these texts are not a row of the fields, and a hint; None if they are."""
    wanted = f"write {_row_of(fields)}"
    if missing := [field for field in fields if field not in texts]:
        quote = "; a text with a colon needs quotes" if len(fields) == 1 else ""
        return f"lacks the text of {listed(missing)}", wanted + quote
    if unknown := [field for field in texts if field not in fields]:
        return f"no pattern uses {listed(unknown)}", wanted
    return None


def _row_of(fields: Sequence[str]) -> str:
    return f"{{{', '.join(f'{field}: …' for field in fields)}}}"
