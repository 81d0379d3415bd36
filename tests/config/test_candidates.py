"""Candidates in place of a verbalizer: how they are written, and which settings do not go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.config.loader import dump_spec, load_pipeline
from tests.config.pipelines import PATTERNS, PIPELINE, loaded, mistakes, write

NAMED = "verbalizer: ../verbalizers/news.yaml"
ANSWERS = "and with candidates each row has answers of its own"


def with_candidates(folder: Path, written: str = "candidates: [first, second]", more: str = "", patterns: str = PATTERNS) -> Path:
    return write(folder, PIPELINE.replace(NAMED, written) + more, patterns)


@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [
        ("candidates: [first, second]", "verbalizer: {candidates: [first, second]}", ("first", "second")),
        ("candidates: options", "verbalizer: {candidates: options}", "options"),
    ],
)
def test_written_short_and_long(short: str, long: str, expected: object, here: Path) -> None:
    spec = loaded(with_candidates(here, short))
    assert spec.verbalizer.candidates == expected and spec.labels == ()
    assert spec == loaded(with_candidates(here, long))


def test_the_written_out_pipeline_is_read_again(here: Path) -> None:
    spec = loaded(with_candidates(here))
    (here / "pipelines/again.yaml").write_text(dump_spec(spec))
    assert load_pipeline(here / "pipelines/again.yaml").spec == spec


def test_options_replace_each_other(here: Path) -> None:
    path = with_candidates(here)
    assert loaded(path, "candidates=options").verbalizer.candidates == "options"
    assert mistakes(path, "verbalizer=verbalizers/news.yaml") == [
        "pipelines/news.yaml:6: candidates: verbalizer is given too, and its labels would be the answers (add --set candidates=null)"
    ]


def test_what_stands_in_the_file_gives_way(here: Path) -> None:
    """The hint can be followed, whichever of the two is written with --set."""
    (here / "other").mkdir()
    for name, path, given in (
        ("candidates", with_candidates(here), "verbalizer=verbalizers/news.yaml"),
        ("verbalizer", write(here / "other", PIPELINE), "candidates=[first, second]"),
    ):
        (message,) = mistakes(path, given)
        assert message.endswith(f"(add --set {name}=null)")
        loaded(path, given, f"{name}=null")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("candidates: [first]", "names 1 column, and a choice needs two (one column of lists is written candidates: name)"),
        ("candidates: [first, first]", "verbalizer.candidates: names a column twice"),
        ("candidates: 3", "verbalizer.candidates: must be text or a list, not 3"),
        ("verbalizer: {candidates: options, multi_token: true}", "is for label words; candidates may have any number of tokens"),
        ("verbalizer: {candidates: options, kind: soft}", "soft trains a vector per label, and the answers are the rows' own"),
        ("verbalizer: {candidates: options, labels: {a: [b], c: [d]}}", f"is for fixed labels, {ANSWERS} (remove one)"),
        ("verbalizer: {candidates: options, auto: {}}", f"is for fixed labels, {ANSWERS} (remove one)"),
    ],
)
def test_what_is_wrong_with_candidates(written: str, message: str, here: Path) -> None:
    found = mistakes(with_candidates(here, written))
    assert len(found) == 1 and message in found[0], found


@pytest.mark.parametrize(
    ("more", "key", "why"),
    [
        ("label_kind: multi", "label_kind", "multi is about fixed labels"),
        ("demonstrations: {per_label: 1}", "demonstrations.per_label", "takes examples of each label"),
        ("generations: {count: auto}", "generations.count", "draws rows by label"),
        ("keep_patterns: 1", "keep_patterns", "ranks patterns by how they tell labels apart"),
        ("baselines: [majority]", "baselines", "answer with fixed labels"),
        ("soft_labels: {calibration: batch}", "soft_labels.calibration", "subtracts a prior of fixed labels"),
        ("soft_labels: {drop_collapsed: true}", "soft_labels.drop_collapsed", "looks for one label in all rows"),
        ("soft_labels: {prior: uniform}", "soft_labels.prior", "shifts fixed labels to their shares"),
        ("student: {feature_weight: 1}", "student.feature_weight", "compares one vector per row"),
        ("student: {hard_weight: 0.5, label_smoothing: 0.1}", "student.label_smoothing", "gives every label a share"),
        ("student: {contrastive: {weight: 1}}", "student.contrastive.weight", "compares one vector per row"),
    ],
)
def test_settings_that_need_fixed_labels(more: str, key: str, why: str, here: Path) -> None:
    found = mistakes(with_candidates(here, more=f"{more}\n"))
    assert found == [f"pipelines/news.yaml:10: {key}: {why}, {ANSWERS}"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("loss=decoupled_label", "decoupled_label is about words of fixed labels"),
        ("loss=next_token", "next_token is about words of fixed labels"),
        ("auxiliary_mlm_weight=0.1", "reads rows with one mask"),
        ("label_conditioning_weight=0.1", "fills in fixed labels"),
        ("class_weights=balanced", "weighs fixed labels"),
        ("class_weights={a: 2}", "weighs fixed labels"),
        ("label_smoothing=0.1", "gives every label a share"),
        ("contrastive.weight=0.1", "compares one vector per row"),
    ],
)
def test_settings_of_teachers_that_need_fixed_labels(setting: str, why: str, here: Path) -> None:
    (found,) = mistakes(with_candidates(here), f"teachers.{setting}")
    assert f"{why}, {ANSWERS}" in found


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning_v2"])
def test_students_with_virtual_tokens(kind: str, here: Path) -> None:
    (found,) = mistakes(with_candidates(here), f"student.adapter={kind}")
    assert f"{kind} is not available for a multiple-choice model, which candidates need (use lora or ia3)" in found


def test_a_pattern_has_no_words_of_its_own(here: Path) -> None:
    own = PATTERNS + '  - {id: own, text: "{mask}: {text}", verbalizer: {labels: {a: [b], c: [d]}}}\n'
    assert mistakes(with_candidates(here, patterns=own)) == [
        f"patterns/topic.yaml:6: verbalizer: names words of fixed labels, {ANSWERS}"
    ]


def test_candidates_belong_to_the_pipeline(here: Path) -> None:
    own = PATTERNS + '  - {id: own, text: "{mask}: {text}", verbalizer: {candidates: options}}\n'
    (found,) = mistakes(write(here, PIPELINE, own))
    assert "are the pipeline's, and every pattern answers with them (leave it out here)" in found
