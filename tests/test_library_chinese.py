"""The Chinese pipelines: words of several characters, from the pattern to the classifier, on a tiny model."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import PatternSpec
from petkit.predict.predictor import Predictor
from petkit.prompts.pvp import PVP, compile_pvps
from petkit.stages.pipeline import RunResult, prepare, run
from petkit.storage.parquet_shards import read_matrix
from tests.chinese import CHINESE_MODELS, Rows, chinese_model_folder, chinese_pieces, headlines, reviews
from tests.library import CHINESE, ROOT, shown

SPECS = {path.stem: load_pipeline(path).spec for path in CHINESE}
PATTERNS = [pytest.param(pattern, id=pattern.id) for spec in SPECS.values() for pattern in spec.patterns]
SMALL = (
    "max_length=64", "teachers.seeds=[1]", "teachers.steps=100", "teachers.batch_size=30", "teachers.learning_rate=0.003",
    "student.steps=120", "student.batch_size=30", "student.learning_rate=0.005",
    "compute.device=cpu", "compute.precision=float32", "compute.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Chinese model; nobody changes it."""
    return chinese_model_folder(tmp_path_factory.mktemp("models") / "chinese")


def pvps(name: str) -> Mapping[str, PVP]:
    """Return the PVPs of a pipeline for the tiny tokenizer, which knows every character of the library."""
    found, problems = compile_pvps(load_pipeline(ROOT / "pipelines" / f"{name}.yaml"), chinese_pieces(), 64)
    assert problems == []
    return {pvp.id: pvp for pvp in found}


def said(pvp: PVP, text: str) -> str:
    """Return a row as the model reads it."""
    keys = {key: np.array(chinese_pieces().encode([key.text({"text": text})], key.glue)[0], np.int32) for key in pvp.pattern.keys}
    row = pvp.encode(keys)
    assert row.ids[row.mask : row.mask + row.masks].tolist() == [chinese_pieces().mask_id] * 2
    return "".join(chinese_pieces().hf.convert_ids_to_tokens(row.ids.tolist()))


def run_small(name: str, pattern: str, model: Path, folder: Path, rows: Mapping[str, Rows], *more: str) -> RunResult:
    """Run a pipeline of the library with one of its patterns, few steps and made-up rows."""
    path = ROOT / "pipelines" / f"{name}.yaml"
    for part, records in rows.items():
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    own = [{"id": spec.id, "text": spec.text} for spec in SPECS[name].patterns if spec.id == pattern]
    data = [f"data.{part}={folder / part}.jsonl" for part in rows]
    one = f"patterns={json.dumps(own, ensure_ascii=False)}"
    return run(prepare(load_pipeline(path, [*SMALL, *more, *data, one, f"model={model}"]), folder / "run"))


# -- what a Chinese reader sees ----------------------------------------------------------------------


@pytest.mark.parametrize("path", CHINESE, ids=shown)
def test_pipeline_names_a_chinese_model_and_says_why(path: Path) -> None:
    comment = path.read_text(encoding="utf-8").partition("\ntask:")[0]

    assert SPECS[path.stem].model in CHINESE_MODELS and all(name in comment for name in CHINESE_MODELS)
    assert "The embedded model knows English only" in comment


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_is_written_as_chinese_is(pattern: PatternSpec) -> None:
    """No space, no half-width mark, no Latin letter; the slot stands among Chinese characters or full-width marks."""
    for segment in pattern.segments:
        literal = segment.replace("{mask}", "").replace("{text}", "")
        assert all(unicodedata.east_asian_width(mark) in "WF" for mark in literal), segment
    (around,) = (segment for segment in pattern.segments if "{mask}" in segment)
    before, after = around.split("{mask}")
    assert "{text}" not in (before[-6:], after[:6])


@pytest.mark.parametrize("name", SPECS)
def test_label_words_are_chinese_and_balanced(name: str) -> None:
    words = SPECS[name].verbalizer.labels

    assert SPECS[name].verbalizer.multi_token
    assert all("CJK UNIFIED" in unicodedata.name(mark) for own in words.values() for word in own for mark in word)
    assert len({tuple(sorted(map(len, own))) for own in words.values()}) == 1  # no label is said at greater length than another


def test_reviews_read_as_sentences() -> None:
    found = pvps("eprstmt_zh")

    assert {name: said(pvp, "物流太慢") for name, pvp in found.items()} == {
        "really": "[CLS]真[MASK][MASK]！物流太慢[SEP]",
        "bought": "[CLS]这次买的东西很[MASK][MASK]。物流太慢[SEP]",
        "overall": "[CLS]物流太慢[SEP]总的来说，很[MASK][MASK]。[SEP]",
        "aside": "[CLS]物流太慢（总之，挺[MASK][MASK]的）[SEP]",
    }
    for pvp in found.values():
        assert [[word.tokens for word in words] for words in pvp.words.words] == [
            [("差",), ("糟", "糕")],
            [("好",), ("不", "错")],
        ]


def test_headlines_read_as_sentences() -> None:
    found = pvps("tnews_zh")

    assert {name: said(pvp, "大家都在谈足球") for name, pvp in found.items()} == {
        "brackets": "[CLS]【[MASK][MASK]】大家都在谈足球[SEP]",
        "channel": "[CLS][MASK][MASK]频道：大家都在谈足球[SEP]",
        "article": "[CLS]这是一篇[MASK][MASK]类文章：大家都在谈足球[SEP]",
        "column": "[CLS]大家都在谈足球[SEP]以上内容选自[MASK][MASK]栏目。[SEP]",
    }
    for pvp in found.values():
        assert all(len(word.tokens) == 2 for words in pvp.words.words for word in words)


# -- from end to end ---------------------------------------------------------------------------------


def test_reviews_from_end_to_end(model: Path, tmp_path: Path) -> None:
    """Words of one and of two tokens in one slot. Chance is one in two."""
    rows = {"train": reviews(0, 4), "unlabeled": reviews(0, 12), "test": reviews(6, 12)}
    result = run_small("eprstmt_zh", "aside", model, tmp_path, rows, "teachers.steps=40", "student.steps=60")

    assert result.metrics is not None
    assert result.metrics["ensemble"]["accuracy"] > 0.8 and result.metrics["student"]["accuracy"] > 0.8
    predictor = Predictor.load(result.folder)
    assert [found.label for found in predictor(["物流太慢，音质刺耳。", "音质清楚，物流飞快。"])] == ["negative", "positive"]


def test_headlines_from_end_to_end(model: Path, tmp_path: Path) -> None:
    """Fifteen words of two tokens, four labelled rows each. Chance is one in fifteen."""
    rows = {"train": headlines(0), "unlabeled": headlines(0, 1), "test": headlines(1)}
    result = run_small("tnews_zh", "column", model, tmp_path, rows)

    logits = read_matrix(result.folder / "stage_a" / "column-1" / "logits", "logits")
    assert logits.shape == (120, 15) and np.isfinite(logits).all()
    assert result.metrics is not None
    untrained, trained, student = (result.metrics[name]["accuracy"] for name in ("untrained_ensemble", "ensemble", "student"))
    assert untrained < 0.15 < 0.25 < student and trained > 0.6
    config = json.loads((result.student / "config.json").read_text(encoding="utf-8"))
    assert tuple(config["id2label"].values()) == SPECS["tnews_zh"].labels
