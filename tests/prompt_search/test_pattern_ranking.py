"""Ranking patterns end to end: which order comes out, what it rests on, and that test data has no part in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from petkit.cli.console import show_ranking
from petkit.engine.device import Device
from petkit.ensemble import batch_prior
from petkit.prompt_search.pattern_ranking import Ranking, mutual_information, rank_patterns
from petkit.task.task import Task
from petkit.teachers.models import load_scorer
from petkit.teachers.scoring import shard_logits
from tests.cli.project import snapshot
from tests.tiny_task import load, rows, write_rows, write_task

DEVICE = Device("cpu", "float32", 1)
PATTERNS = {
    "colon": "{mask} news: {text}",
    "brackets": "( {mask} ) {text}",
    "after": "{text} ; it is {mask}.",
    "question": "{text} ? {mask} .",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    return write_task(tmp_path_factory.mktemp("ranked"), model_folder("bert"), patterns=PATTERNS)


@pytest.fixture(scope="module")
def found(task: Path) -> Ranking:
    return rank_patterns(load(task))


def test_every_pattern_is_ranked_best_first(found: Ranking) -> None:
    assert sorted(pattern.id for pattern in found.patterns) == sorted(PATTERNS)
    mean_ranks = [pattern.rank for pattern in found.patterns]
    assert mean_ranks == sorted(mean_ranks)
    assert sum(mean_ranks) == pytest.approx(1 + 2 + 3 + 4)
    assert (found.kept, found.sampled, found.left_out) == (4, 30, "")


def test_the_rank_is_the_mean_of_three(found: Ranking) -> None:
    by_measure = [
        sorted(found.patterns, key=lambda pattern: -pattern.information),
        sorted(found.patterns, key=lambda pattern: pattern.cross_entropy or math.inf),
    ]
    agreements = [pattern.agreement for pattern in found.patterns]
    agreement_ranks = rankdata([-(share or 0) for share in agreements])
    for index, pattern in enumerate(found.patterns):
        expected = [1 + order.index(pattern) for order in by_measure]
        assert pattern.rank == pytest.approx((sum(expected) + agreement_ranks[index]) / 3)


def test_information_is_that_of_the_calibrated_answers_and_the_other_is_shown(
    task: Path, found: Ranking, capsys: pytest.CaptureFixture[str]
) -> None:
    show_ranking(found)
    header, *lines = capsys.readouterr().out.splitlines()
    assert "information (nats)  uncalibrated" in header
    assert any("after batch calibration on 30 unlabelled rows" in line for line in lines)
    task = Task.checked(load(task))
    for pvp in task.pvps:
        scorer = load_scorer(task.spec.model, pvp, DEVICE)
        logits = np.concatenate(list(shard_logits(scorer, pvp, task, "unlabeled", DEVICE, lambda done: None)))
        (ranked,) = (pattern for pattern in found.patterns if pattern.id == pvp.id)

        assert ranked.information == pytest.approx(mutual_information(logits - batch_prior(logits)), rel=1e-3)
        assert ranked.raw_information == pytest.approx(mutual_information(logits), rel=1e-3)
        (line,) = [line.split() for line in lines if line.startswith(f"{pvp.id} ")]
        assert line[2:4] == [f"{ranked.information:.4f}", f"{ranked.raw_information:.4f}"]


def test_equals_stay_in_the_order_of_the_file(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.prompt_search.pattern_ranking.mutual_information", lambda logits, multi: 0.5)
    monkeypatch.setattr("petkit.prompt_search.pattern_ranking.agreement_with_others", lambda logits, multi: [0.5] * 4)
    monkeypatch.setattr("petkit.prompt_search.pattern_ranking.cross_validated", lambda logits, gold, folds, multi: 1.0)

    found = rank_patterns(load(task))

    assert [(pattern.id, pattern.rank) for pattern in found.patterns] == [(name, 2.5) for name in PATTERNS]


def test_test_data_has_no_part_in_it(task: Path, found: Ranking, tmp_path: Path) -> None:
    write_rows(tmp_path / "other.jsonl", rows(30, 99))

    assert rank_patterns(load(task, f"data.test={tmp_path / 'other.jsonl'}")) == found
    assert rank_patterns(load(task, "data.test=null")) == found


def test_without_labelled_rows_the_other_two_decide(task: Path, found: Ranking) -> None:
    blind = rank_patterns(load(task, "data.train=null"))

    assert blind.left_out == "there are no labelled rows"
    assert {pattern.cross_entropy for pattern in blind.patterns} == {None}
    assert {pattern.id: pattern.information for pattern in blind.patterns} == {
        pattern.id: pattern.information for pattern in found.patterns
    }
    assert sum(pattern.rank for pattern in blind.patterns) == pytest.approx(10)


def test_a_label_with_one_row_cannot_be_held_out(task: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "few.jsonl", rows(5, 1))

    found = rank_patterns(load(task, f"data.train={tmp_path / 'few.jsonl'}"))

    assert found.left_out == "label 'World' has one row"
    assert {pattern.cross_entropy for pattern in found.patterns} == {None}


def test_a_pattern_alone_agrees_with_nobody(task: Path, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    (only,) = rank_patterns(
        load(write_task(tmp_path / "one", model_folder("bert"), patterns={"colon": PATTERNS["colon"]}))
    ).patterns

    assert (only.id, only.rank, only.agreement) == ("colon", 1, None)
    assert only.cross_entropy is not None


def test_rows_of_several_labels(task: Path, tmp_path: Path) -> None:
    given = [{"text": row["text"], "label": sorted({row["label"], "World"})} for row in rows(9, 3)]
    write_rows(tmp_path / "several.jsonl", given)  # type: ignore[arg-type]

    found = rank_patterns(
        load(task, "label_kind=multi", *(f"data.{part}={tmp_path / 'several.jsonl'}" for part in ("train", "test")))
    )

    assert found.left_out == ""
    for pattern in found.patterns:
        assert 0 <= pattern.information <= math.log(2)
        assert 0 <= (pattern.agreement or 0) <= 1
        assert 0 < (pattern.cross_entropy or 0) < 2 * math.log(2)


def test_it_is_reported_how_many_are_kept_and_nothing_is_written(task: Path, here: Path) -> None:
    before = snapshot(task.parent)

    assert rank_patterns(load(task, "keep_patterns=2")).kept == 2

    assert snapshot(task.parent) == before
    assert list(here.iterdir()) == []
