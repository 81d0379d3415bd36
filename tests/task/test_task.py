"""What all stages read: backbones are hashed once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petkit.models import loading
from petkit.task.task import Task
from tests.tiny_task import load


def test_a_model_of_teachers_and_student_is_hashed_once(
    pipeline_file: Path, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, hashed, real = Path(shutil.copytree(model_folder("bert"), here / "other")), list[Path](), loading.sha256
    monkeypatch.setattr(loading, "sha256", lambda path: hashed.append(path) or real(path))
    shared = Task.checked(load(pipeline_file, f"model={other}"))
    assert shared.model_hash == shared.student_model_hash and len(hashed) == len(set(hashed)) > 0

    (other / "added_tokens.json").write_text("{}")
    apart = Task.checked(load(pipeline_file, f"student.model={other}"))
    assert apart.model_hash != apart.student_model_hash == loading.model_fingerprint(str(other))


@pytest.mark.parametrize(
    ("words", "decoding", "reported"),
    [
        ("{Sports: [the game], Science: [science], World: [world news]}", "max_first", True),
        ("{Sports: [the game], Science: [science], World: [world news]}", "parallel", False),
        ("{Sports: [the game], Science: [good team], World: [world news]}", "max_first", False),
    ],
)
def test_words_of_different_lengths_are_reported_where_probabilities_are_multiplied(
    words: str, decoding: str, reported: bool, pipeline_file: Path
) -> None:
    """``validate`` lists the notes of a task as warnings, and ``run`` reports them."""
    task = Task.checked(load(pipeline_file, f"verbalizer={{labels: {words}, multi_token: true, decoding: {decoding}}}"))

    assert [note for note in task.notes if "decoding" in note] == [
        "verbalizer.decoding: max_first multiplies the probabilities of a word's tokens, so that longer words score lower: "
        "'science' has 1 token, 'world news' has 2 tokens (use words of one length, or parallel)"
    ] * reported
