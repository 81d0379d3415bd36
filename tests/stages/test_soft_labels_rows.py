"""Stage B: which rows count and how much, rows of several labels, and settings that do not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from petkit.ensemble import Ensemble, confidence_weights
from petkit.errors import InvalidInput
from petkit.runs.layout import teacher_logits
from petkit.storage.parquet_shards import read_matrix, read_shards
from tests.teachers.made_up_teachers import GOLD, LABELS, label, made_up, publish, soft
from tests.tiny_task import load, planned, rows, run_task

# -- which rows count --------------------------------------------------------------------------------


def test_surest_rows_of_each_label(pipeline_file: Path, copy: Path) -> None:
    logits = publish(copy, made_up(), cuts=(12,))
    ensemble, columns, reported = label(pipeline_file, copy, "soft_labels.top_share=0.3")
    sure, winners = soft(logits.mean(0)).max(1), logits.mean(0).argmax(1)
    expected = np.zeros(30, bool)
    for one in range(3):
        own = np.flatnonzero(winners == one)
        expected[own[np.argsort(-sure[own])][: int(np.ceil(0.3 * len(own)))]] = True
    assert (columns["weight"] > 0).tolist() == expected.tolist()
    np.testing.assert_allclose(columns["weight"][expected], confidence_weights(logits.mean(0))[expected], atol=1e-6)
    for index, name in enumerate(LABELS):
        mine = winners == index
        assert ensemble["kept"][name] == {
            "rows": mine.sum(), "kept": expected[mine].sum(), "share": pytest.approx(expected[mine].mean())
        }  # fmt: skip
    (line,) = reported
    assert line.startswith(f"{expected.sum()} of 30 rows are kept ({expected.mean():.1%}): Sports ")


def test_rows_that_are_sure_enough(pipeline_file: Path, copy: Path) -> None:
    logits = publish(copy, made_up())
    best = soft(logits.mean(0)).max(1)
    _, columns, reported = label(pipeline_file, copy, "soft_labels.min_probability=0.6", "soft_labels.confidence_weights=false")
    assert columns["weight"].tolist() == (best >= 0.6).astype(float).tolist()
    assert reported[0].startswith(f"{(best >= 0.6).sum()} of 30 rows are kept")


def test_no_row_left(pipeline_file: Path, copy: Path) -> None:
    publish(copy, made_up() / 10)
    with pytest.raises(
        InvalidInput,
        match=r"soft_labels\.min_probability: no unlabelled row reaches it; the highest probability is 0\.\d{4} \(lower it\)",
    ):
        label(pipeline_file, copy, "soft_labels.min_probability=0.99")


def test_no_row_counts(pipeline_file: Path, copy: Path) -> None:
    publish(copy, np.zeros((4, 30, 3), np.float32))
    with pytest.raises(InvalidInput, match=r"soft_labels\.confidence_weights: every row has confidence weight 0"):
        label(pipeline_file, copy)


def test_labels_that_nobody_gives_or_keeps(pipeline_file: Path, copy: Path) -> None:
    logits = made_up()
    logits[..., 1] -= 50
    logits[:, :3] = [[0.1, 0, 0], [0, 0, 0.1], [0, 0, 0.1]]
    logits[:, 3:, 2] -= 50
    publish(copy, logits)
    _, _, reported = label(pipeline_file, copy)
    assert reported == [
        "the teachers predict label 'Science' for no unlabelled row; check its label words and what its teachers learn it from"
    ]
    _, _, reported = label(pipeline_file, copy, "soft_labels.min_probability=0.5")
    assert reported[0].endswith("rows are kept (90.0%): Sports 96%, Science 0%, World 0%")
    assert reported[2] == "label 'World' has 0 of 27 rows (of 2 before the selection of rows); the student will hardly learn it"


# -- rows of several labels --------------------------------------------------------------------------


def test_several_labels_per_row(here: Path, pipeline_file: Path) -> None:
    overrides = ("label_kind=multi", "teachers.seeds=[1]")
    run = here / "multi"
    run_task(pipeline_file, run, *overrides, stages=("a",))
    options = ("soft_labels.combine=probs", "soft_labels.calibration=contextual")
    run_task(pipeline_file, run, *overrides, *options, stages=("b",))
    ensemble = json.loads((run / "stage_b" / "ensemble.json").read_text())
    (shard,) = read_shards(run / "stage_b" / "soft_labels", ["logits", "labels", "entropy", "agreement", "weight"])
    logits = np.stack([read_matrix(run / teacher_logits(name), "logits") for name in ("colon-1", "brackets-1")])
    combined = Ensemble.from_json(ensemble).combine(logits)
    np.testing.assert_array_equal(shard["logits"], combined)
    assert shard["labels"] == [[name for name, z in zip(LABELS, row, strict=True) if z > 0] for row in combined]
    p = 1 / (1 + np.exp(-combined.astype(np.float64)))
    doubt = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(shard["weight"], 1 - doubt / np.log(2), atol=1e-5)
    cooler = 1 / (1 + np.exp(-combined.astype(np.float64) / 2))
    np.testing.assert_allclose(
        shard["entropy"], -(cooler * np.log(cooler) + (1 - cooler) * np.log(1 - cooler)).mean(1), atol=1e-5
    )
    priors = np.array([list(member["log_prior"].values()) for member in ensemble["teachers"].values()])
    same = ((logits - priors[:, None]) > 0) == (combined > 0)
    np.testing.assert_allclose(shard["agreement"], same.mean((0, 2)), atol=1e-6)
    assert ensemble["label_kind"] == "multi"
    assert ensemble["label_counts"] == {name: int((combined[:, index] > 0).sum()) for index, name in enumerate(LABELS)}


# -- what is refused before anything runs ------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "reported"),
    [
        (
            ("soft_labels.prior={Sport: 1, Science: 1, World: 1}",),
            ["label 'Sport' is not in the verbalizer", "has no share for: Sports"],
        ),
        (("soft_labels.prior={Sports: 0, Science: 0, World: 0}",), ["its shares sum to 0"]),
        (
            ("label_kind=multi", "soft_labels={calibration: batch, prior: uniform, min_probability: 0.5, top_share: 0.5}"),
            ["is about one label per row, and label_kind is multi"] * 4,
        ),
    ],
)
def test_settings_that_do_not_fit(overrides: Sequence[str], reported: Sequence[str], pipeline_file: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(pipeline_file, *overrides)
    assert [problem.message for problem in refused.value.problems] == list(reported)
    assert {problem.key.partition(".")[0] for problem in refused.value.problems} == {"soft_labels"}


@pytest.mark.parametrize(
    "override",
    ["combine=probs", "calibration=batch", "drop_collapsed=true", "prior=uniform", "confidence_weights=false", "min_probability=0.1", "top_share=0.9"],
)  # fmt: skip
def test_every_option_makes_the_step_stale(override: str, pipeline_file: Path, finished: Path) -> None:
    entry = planned(pipeline_file, finished, f"soft_labels.{override}")["stage_b"]
    assert entry.action == "stale" and f"soft_labels.{override.partition('=')[0]} " in entry.why


def test_gold_is_as_the_tests_take_it() -> None:
    assert [LABELS.index(row["label"]) for row in rows(9, 9)] == GOLD.tolist()
