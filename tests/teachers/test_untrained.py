"""What untrained patterns favour: which texts are asked, and that the priors are those of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from petkit.data.drawing import drawn_numbers
from petkit.engine.device import Device
from petkit.engine.inference import FloatArray, label_logits
from petkit.ensemble import batch_prior, contextual_prior
from petkit.errors import InvalidInput
from petkit.events import Event, RunStarted, StepFinished, StepStarted
from petkit.models.batch import Batch
from petkit.models.label_scorer import LabelScorer
from petkit.prompts.pvp import PVP
from petkit.task.task import Task
from petkit.teachers import models as teacher_models
from petkit.teachers import untrained
from petkit.teachers.models import load_scorer
from petkit.teachers.scoring import shard_logits
from tests.tiny_task import load, write_task

DEVICE = Device("cpu", "float32", 1)


@pytest.fixture(scope="module")
def task(pipeline_file: Path) -> Task:
    return Task.checked(load(pipeline_file))


def first(task: Task) -> tuple[PVP, LabelScorer]:
    """Return the first pattern and its untrained model."""
    return next(untrained.untrained(task, DEVICE))


def all_unlabeled(task: Task, index: int) -> FloatArray:
    scorer = load_scorer(task.spec.model, task.pvps[index], DEVICE)
    return np.concatenate(list(shard_logits(scorer, task.pvps[index], task, "unlabeled", DEVICE, lambda done: None)))


def test_every_pattern_once_in_order_and_reported(task: Task) -> None:
    heard: list[Event] = []

    ids = [pvp.id for pvp, _ in untrained.untrained(task, DEVICE, heard.append)]

    assert ids == ["colon", "brackets"]
    assert [type(event) for event in heard] == [RunStarted, StepStarted, StepFinished, StepStarted, StepFinished]
    assert heard[0] == RunStarted(2) and heard[3] == StepStarted("brackets", "untrained")


def test_the_sample_is_drawn_from_all_unlabelled_rows(task: Task) -> None:
    """A file is often sorted by label or source."""
    pvp, scorer = first(task)
    four, every = drawn_numbers(30, 4), np.arange(30)
    assert four.max() >= 4
    for most, rows in ((4, four), (30, every), (untrained.SAMPLE, every), (4, four)):  # also where all are tokenised already
        found = untrained.sample_logits(task, pvp, scorer, DEVICE, most)
        assert found == pytest.approx(all_unlabeled(task, 0)[rows], abs=1e-5)


def test_the_sample_of_a_sample_is_read_and_taken_alike(pipeline_file: Path) -> None:
    drawn = Task.checked(load(pipeline_file, "soft_labels.rows=12"))
    read = drawn.sampled_tokens("unlabeled", 4)
    drawn.tokens("unlabeled")
    taken = drawn.sampled_tokens("unlabeled", 4)

    assert len(read) == len(taken) == 4
    assert [list(map(list, row.values())) for row in read] == [list(map(list, row.values())) for row in taken]
    assert drawn.scans["unlabeled"].drawn(4).rows_of_source == 30


def test_texts_without_content_fill_every_field(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """``[MASK]`` as text is brackets and letters: each row has the pattern's one mask and no other."""
    pair = Task.checked(
        load(write_task(tmp_path / "pair", model_folder("bert"), ("a", "b"), {"pair": ["{a} ?", "{mask} , {b}"]}))
    )
    asked: list[list[str]] = []

    class Listening:
        def __call__(self, batch: Batch) -> object:
            asked.extend(pair.tokenizer.hf.convert_ids_to_tokens(row) for row in batch.input_ids.tolist())
            return scorer(batch)

    pvp, scorer = first(pair)
    logits = untrained.content_free_logits(pair, pvp, Listening(), DEVICE)  # type: ignore[arg-type]

    rows = sorted((" ".join(token for token in row if token != "[PAD]") for row in asked), key=len)
    assert logits.shape == (3, 3)
    assert rows == [
        "[CLS] ? [SEP] [MASK] , [SEP]",
        "[CLS] n / a ? [SEP] [MASK] , n / a [SEP]",
        "[CLS] [ m ##a ##s ##k ] ? [SEP] [MASK] , [ m ##a ##s ##k ] [SEP]",
    ]


def test_log_priors_are_those_of_the_answers(task: Task) -> None:
    for index, (pvp, scorer) in enumerate(untrained.untrained(task, DEVICE)):
        content_free = untrained.content_free_logits(task, pvp, scorer, DEVICE)
        found = untrained.priors_of(task, content_free, untrained.sample_logits(task, pvp, scorer, DEVICE, untrained.SAMPLE))

        assert list(found) == ["contextual", "batch"]
        assert found["contextual"] == pytest.approx(contextual_prior(content_free), abs=1e-5)
        assert found["batch"] == pytest.approx(batch_prior(all_unlabeled(task, index)), abs=1e-3)


def test_independent_labels_have_mean_logits(pipeline_file: Path) -> None:
    multi = Task.checked(load(pipeline_file, "label_kind=multi"))

    found = untrained.priors_of(multi, np.array([[1, 2, 3], [3, 2, 1]], np.float32), np.array([[0, 0, 9], [0, 6, 0]], np.float32))

    assert found["contextual"].tolist() == [2, 2, 2]
    assert found["batch"].tolist() == [0, 3, 4.5]


def test_soft_tokens_start_the_same_at_every_look(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    soft = Task.checked(load(write_task(tmp_path / "soft", model_folder("bert"), patterns={"soft": "{soft:2} {mask} : {text}"})))

    once, again = (untrained.content_free_logits(soft, *first(soft), DEVICE) for _ in range(2))

    assert np.array_equal(once, again)


def test_no_example_is_its_own_demonstration(pipeline_file: Path) -> None:
    shown = Task.checked(load(pipeline_file, "demonstrations.per_label=1"))
    pvp, scorer = first(shown)
    store = shown.tokens("train")

    def scored(own: bool) -> FloatArray:
        rows = [pvp.encode(store.row(index), index if own else None) for index in range(store.rows)]
        return label_logits(scorer, rows, shown.tokenizer, DEVICE, 512)

    found = untrained.train_logits(shown, pvp, scorer, DEVICE)

    assert found == pytest.approx(scored(own=True), abs=1e-5)
    assert np.abs(found - scored(own=False)).max() > 1e-4


def test_all_patterns_share_one_model_that_ends_with_them(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[bool] = []
    monkeypatch.setattr(teacher_models.TeacherModels, "release", lambda models: gone.append(True))
    models = []
    for _, scorer in untrained.untrained(task, DEVICE):
        models.append(scorer.reader.model)
        assert not gone
    assert len(models) == len(task.pvps) > 1 and all(model is models[0] for model in models)
    assert gone == [True]


def test_words_still_to_be_found_are_refused(pipeline_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    text = pipeline_file.read_text()
    for name in ("train", "unlabeled", "test"):
        text = text.replace(f"{name}: {name}.jsonl", f"{name}: {pipeline_file.parent / name}.jsonl")
    start, rest = text.split("verbalizer:")
    path.write_text(f"{start}verbalizer: {json.dumps({'auto': {}})}\nmodel:{rest.split('model:')[1]}")

    with pytest.raises(InvalidInput, match="untrained patterns have no words to read before they are found"):
        first(Task.checked(load(path)))
