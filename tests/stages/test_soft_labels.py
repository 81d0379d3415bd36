"""Stage B: how the teachers are put together, option by option, from the run folder's side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.ensemble import Ensemble, batch_prior, confidence_weights, contextual_prior, fit_temperature
from petkit.errors import IncompleteRun
from petkit.runs.layout import teacher_folds, teacher_logits
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix, write_shard
from tests.teachers.made_up_teachers import GOLD, LABELS, NAMES, label, made_up, publish, publish_folds, right, soft
from tests.tiny_task import planned

ALL = (
    "soft_labels.weighting=out_of_fold",
    "soft_labels.teacher_temperature=out_of_fold",
    "soft_labels.calibration=batch",
    "soft_labels.combine=probs",
    "soft_labels.prior={Sports: 1, Science: 1, World: 2}",
    "soft_labels.top_share=0.5",
)


# -- as it is unless asked otherwise -----------------------------------------------------------------


def test_plain_soft_labels(pipeline_file: Path, copy: Path) -> None:
    logits = publish(copy, made_up(), cuts=(7, 20))
    ensemble, columns, reported = label(pipeline_file, copy)
    np.testing.assert_allclose(columns["logits"], logits.mean(0), rtol=1e-5, atol=1e-6)
    assert columns["weight"].dtype == np.float64 and columns["id"].tolist() == [f"30-{index}" for index in range(30)]
    np.testing.assert_allclose(columns["weight"], confidence_weights(logits.mean(0)), atol=1e-6)
    assert ensemble["weights"] == dict.fromkeys(NAMES, 0.25) and ensemble["label_bias"] == dict.fromkeys(LABELS, 0.0)
    for name, member in ensemble["teachers"].items():
        assert (member["weight"], member["temperature"], member["dropped"]) == (0.25, 1.0, False)
        assert member["log_prior"] == dict.fromkeys(LABELS, 0.0)
        kappa = json.loads((copy / "stage_b" / "agreement.json").read_text())["kappa"][name]
        assert kappa.pop(name) == 1 and member["kappa"] == pytest.approx(np.mean(list(kappa.values())))
        assert 0 <= member["without"]["changed"] <= 1 and member["without"]["kl"] > 0
    counts = ensemble["label_counts"]
    assert ensemble["kept"] == {name: {"rows": counts[name], "kept": counts[name], "share": 1.0} for name in LABELS}
    assert reported == []


def test_rows_may_count_alike(pipeline_file: Path, copy: Path) -> None:
    _, columns, _ = label(pipeline_file, copy, "soft_labels.confidence_weights=false")
    assert columns["weight"].tolist() == [1.0] * 30


@pytest.mark.parametrize(
    ("combine", "calibration"), [("logits", "batch"), ("log_probs", "contextual"), ("probs", "contextual"), ("probs", "batch")]
)
def test_what_is_written_is_what_labelled(combine: str, calibration: str, pipeline_file: Path, copy: Path) -> None:
    """A predictor that has the teachers' logits and ``ensemble.json`` gives new rows the same labels."""
    logits = publish(copy, made_up(), cuts=(11,))
    publish_folds(copy, pipeline_file, right(9, 6, 3, 5))
    options = (*ALL, f"soft_labels.combine={combine}", f"soft_labels.calibration={calibration}")
    ensemble, columns, _ = label(pipeline_file, copy, *options)
    np.testing.assert_array_equal(
        columns["logits"], np.concatenate([Ensemble.from_json(ensemble).combine(part) for part in np.split(logits, [11], 1)])
    )
    assert len({member["temperature"] for member in ensemble["teachers"].values()}) == 4


# -- out of fold -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "weights"), [((9, 6, 3, 0), (1 / 2, 1 / 3, 1 / 6, 0)), ((0, 0, 0, 0), (0.25,) * 4)], ids=["some", "none right"]
)
def test_weights_from_rows_left_out_of_training(
    counts: Sequence[int], weights: Sequence[float], pipeline_file: Path, copy: Path
) -> None:
    publish_folds(copy, pipeline_file, right(*counts))
    ensemble, columns, _ = label(pipeline_file, copy, "soft_labels.weighting=out_of_fold")
    assert list(ensemble["weights"].values()) == pytest.approx(weights, abs=1e-6)
    logits = np.stack([read_matrix(copy / teacher_logits(name), "logits") for name in NAMES])
    np.testing.assert_allclose(columns["logits"], np.tensordot(weights, logits, 1), rtol=1e-4, atol=1e-5)


def test_temperatures_from_rows_left_out_of_training(pipeline_file: Path, copy: Path) -> None:
    logits = publish(copy, made_up())
    folds = publish_folds(copy, pipeline_file, right(9, 8, 7, 0))
    ensemble, columns, _ = label(pipeline_file, copy, "soft_labels.teacher_temperature=out_of_fold")
    found = [member["temperature"] for member in ensemble["teachers"].values()]
    assert found == pytest.approx([fit_temperature(own, GOLD[:, None]) for own in folds], abs=1e-6)
    # Nine rows: 1 + 9/50 · (T - 1) for T of 0.5 (all right) and 5 (all wrong).
    assert found[0] == pytest.approx(0.91, abs=1e-3) and found[3] == pytest.approx(1.72, abs=1e-3)
    assert found[0] < found[1] < found[2] < found[3]
    np.testing.assert_allclose(columns["logits"], (logits / np.reshape(found, (4, 1, 1))).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", [{"data.train": "0" * 64}, {"labels": ["World", "Science", "Sports"]}])
def test_other_rows_left_out_of_training_are_refused(other: Mapping[str, Any], pipeline_file: Path, copy: Path) -> None:
    publish_folds(copy, pipeline_file, right(9, 6, 3, 0), **other)
    with pytest.raises(
        IncompleteRun, match=r"the out-of-fold logits of teacher colon-1 are out of date: (data\.train changed|labels)"
    ):
        label(pipeline_file, copy, "soft_labels.weighting=out_of_fold")


@pytest.mark.parametrize("option", ["weighting", "teacher_temperature"])
def test_folds_are_needed_only_where_they_are_read(option: str, pipeline_file: Path, copy: Path) -> None:
    asked = f"soft_labels.{option}=out_of_fold"
    with pytest.raises(IncompleteRun, match=f"stage_b needs {teacher_folds('colon-1')}, which is not finished"):
        label(pipeline_file, copy, asked)
    assert "data.train added" in planned(pipeline_file, copy, asked)["stage_b"].why


# -- calibration -------------------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", ["contextual", "batch"])
def test_each_teacher_loses_its_preference(calibration: str, pipeline_file: Path, copy: Path) -> None:
    logits, empty = made_up(), made_up(9, 3)
    publish(copy, logits, cuts=(5, 6), empty=empty)
    ensemble, columns, _ = label(pipeline_file, copy, f"soft_labels.calibration={calibration}")
    made_of, prior = (empty, contextual_prior) if calibration == "contextual" else (logits, batch_prior)
    found = np.array([list(member["log_prior"].values()) for member in ensemble["teachers"].values()])
    np.testing.assert_allclose(found, [prior(own) for own in made_of], atol=2e-3)
    np.testing.assert_allclose(columns["logits"], (logits - found[:, None]).mean(0), rtol=1e-4, atol=1e-5)
    if calibration == "batch":
        assert np.abs(soft(logits - found[:, None]).mean(1) - 1 / 3).max() < 2e-4


@pytest.mark.parametrize("calibration", ["contextual", "batch"])
def test_calibration_follows_the_temperature(calibration: str, pipeline_file: Path, copy: Path) -> None:
    logits, empty = made_up(), made_up(9, 3)
    publish(copy, logits, empty=empty)
    made_of, prior = (empty, contextual_prior) if calibration == "contextual" else (logits, batch_prior)
    publish_folds(copy, pipeline_file, right(9, 9, 0, 0))
    options = (f"soft_labels.calibration={calibration}", "soft_labels.teacher_temperature=out_of_fold")
    ensemble, _, _ = label(pipeline_file, copy, *options)
    for own, member in zip(made_of, ensemble["teachers"].values(), strict=True):
        expected = prior(own / np.float32(member["temperature"]))
        assert list(member["log_prior"].values()) == pytest.approx(expected.tolist(), abs=2e-3)


def test_teachers_that_were_not_asked_about_empty_texts(pipeline_file: Path, copy: Path) -> None:
    store, step = RunStore(copy), teacher_logits("colon-2")
    with store.locked(), store.publishing(step, store.inputs(step), {}) as folder:
        write_shard(folder, 0, {"logits": made_up()[0]})
    with pytest.raises(IncompleteRun, match="teacher colon-2 has no content-free scores"):
        label(pipeline_file, copy, "soft_labels.calibration=contextual")


# -- collapsed teachers ------------------------------------------------------------------------------


def collapsed(*which: int) -> np.ndarray:
    logits = made_up(1) / 4 + 2 * np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    for teacher in which:
        logits[teacher, :, 2] += 30
    return logits.astype(np.float32)


def test_a_collapsed_teacher_is_reported_and_kept(pipeline_file: Path, copy: Path) -> None:
    publish(copy, collapsed(1) / np.array([1, 100, 1, 1], np.float32).reshape(4, 1, 1))  # collapsed, but not loud
    ensemble, _, reported = label(pipeline_file, copy)
    assert reported == [
        "teacher colon-2 predicts the same label for 100% of the rows, the others together do not "
        "(soft_labels.drop_collapsed: true drops it)"
    ]
    assert not any(member["dropped"] for member in ensemble["teachers"].values())


def test_a_collapsed_teacher_is_left_out_where_that_is_asked(pipeline_file: Path, copy: Path) -> None:
    logits = publish(copy, collapsed(1))
    ensemble, columns, reported = label(pipeline_file, copy, "soft_labels.drop_collapsed=true")
    assert reported == ["teacher colon-2 was dropped: it predicts the same label for 100% of the rows"]
    assert [member["dropped"] for member in ensemble["teachers"].values()] == [False, True, False, False]
    assert ensemble["weights"]["colon-2"] == 0 and ensemble["teachers"]["colon-2"]["without"] == {"changed": 0, "kl": 0}
    left = logits[[0, 2, 3]]
    np.testing.assert_allclose(columns["logits"], left.mean(0), rtol=1e-4, atol=1e-5)
    said = (left.argmax(-1) == columns["logits"].argmax(-1)).mean(0)
    np.testing.assert_allclose(columns["agreement"], said, rtol=1e-6)  # of those that vote


def test_never_all(pipeline_file: Path, copy: Path) -> None:
    """Each teacher gives all rows its own label; what any three of them say together depends on the row."""
    logits = np.repeat(np.eye(3)[[0, 1, 2, 2]][:, None], 30, axis=1)  # (teachers, rows, labels)
    logits[0, ::2] *= 3
    logits[1, 1::2] *= 3
    publish(copy, logits.astype(np.float32))
    ensemble, _, reported = label(pipeline_file, copy, "soft_labels.drop_collapsed=true")
    assert reported[0] == "every teacher predicts (nearly) a single label; none was dropped"
    assert not any(member["dropped"] for member in ensemble["teachers"].values())


# -- what is known of the labels' shares -------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "shares", "cuts"),
    [
        ("uniform", (1 / 3, 1 / 3, 1 / 3), (7, 21)),
        ("train", (1 / 3, 1 / 3, 1 / 3), ()),
        ("{World: 2, Sports: 1, Science: 1}", (0.25, 0.25, 0.5), ()),
        ("{World: 60, Sports: 30, Science: 10}", (0.3, 0.1, 0.6), (1,)),
    ],
)
def test_the_mean_soft_label_is_the_prior(
    prior: str, shares: Sequence[float], cuts: Sequence[int], pipeline_file: Path, copy: Path
) -> None:
    logits = publish(copy, made_up(2), cuts=cuts)
    assert np.abs(soft(logits.mean(0)).mean(0) - shares).max() > 0.05
    ensemble, columns, _ = label(pipeline_file, copy, f"soft_labels.prior={prior}")
    assert soft(columns["logits"]).mean(0) == pytest.approx(shares, abs=1.1e-4)
    bias = [ensemble["label_bias"][name] for name in LABELS]
    np.testing.assert_allclose(columns["logits"], logits.mean(0) + bias, rtol=1e-4, atol=1e-5)
    assert sum(bias) == pytest.approx(0, abs=1e-5)
