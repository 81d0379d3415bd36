"""Teachers of every kind, taken back from the run folder: they answer new rows as they answered the unlabelled set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from petkit.engine.device import Device
from petkit.errors import IncompleteRun, ModelRefused
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix
from petkit.teachers.loading import load_teachers
from tests.tiny_task import TOPICS, rows, run_task, write_task

pytestmark = pytest.mark.usefixtures("finished")  # and its quick garbage collection

DEVICE = Device("cpu", "float32", 1)
TEXTS = [{"text": row["text"]} for row in rows(30, 30)]  # the unlabelled set
QUICK = ("teachers.seeds=[2]", "teachers.steps=5")
SEVERAL = "labels: {Sports: [sports, good game], Science: [science], World: [world news]}, multi_token: true"
SOFT_TOKENS = "patterns=[{id: colon, text: '{soft:3} {mask} {text}'}, {id: brackets, text: '{text} {soft:2} ( {mask} )'}]"
PAIR = "patterns=[{id: colon, text: ['{mask} news :', '{text}']}, {id: brackets, text: ['{text}', '{mask}']}]"
KINDS = {
    "plain": (),
    "soft tokens": (SOFT_TOKENS,),
    "soft": ("verbalizer.kind=soft",),
    "prototype": ("verbalizer.kind=prototype",),
    "words of several tokens": (f"verbalizer={{{SEVERAL}}}",),
    "surest token first": (f"verbalizer={{{SEVERAL}, decoding: max_first}}",),
    "demonstrations": ("demonstrations.per_label=1", "max_length=60"),
    "two segments": (PAIR,),
    "decoupled": ("teachers.loss=decoupled_label",),
    "cut": ("max_length=12", "truncate=middle"),
    "all at once": (SOFT_TOKENS, f"verbalizer={{{SEVERAL}}}", "demonstrations.per_label=1", "max_length=64"),
}


def answers(run: Path, name: str) -> Any:
    return load_teachers(RunStore(run), [name], DEVICE)[0].logits(TEXTS, DEVICE, 4096)


def its_own(run: Path, name: str) -> Any:
    return read_matrix(run / "stage_a" / name / "logits", "logits")


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_teacher(kind: str, pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", *QUICK, *KINDS[kind], stages=("a", "b"))
    for name in ("colon-2", "brackets-2"):
        found, expected = answers(here / "run", name), its_own(here / "run", name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 1e-3  # the rows are not all alike
        assert load_teachers(RunStore(here / "run"), [name], DEVICE)[0].fields == ("text",)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "demonstrations" not in "".join(KINDS[kind])])
def test_an_untrained_teacher(kind: str, pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", "data.train=null", *KINDS[kind], stages=("a", "b"))
    torch.manual_seed(123)  # the caller may have drawn any numbers before
    for name in ("colon-untrained", "brackets-untrained"):
        np.testing.assert_allclose(answers(here / "run", name), its_own(here / "run", name), rtol=0, atol=1e-5)


def test_an_untrained_teacher_is_the_same_in_every_run(pipeline_file: Path, here: Path) -> None:
    for name, seed in (("one", 1), ("other", 2)):
        torch.manual_seed(seed)
        run_task(pipeline_file, here / name, "data.train=null", SOFT_TOKENS, stages=("a",))
    np.testing.assert_array_equal(its_own(here / "one", "colon-untrained"), its_own(here / "other", "colon-untrained"))


def test_demonstrations_are_those_of_the_run(pipeline_file: Path, here: Path) -> None:
    run_task(pipeline_file, here / "run", *QUICK, *KINDS["demonstrations"], stages=("a", "b"))
    teacher = load_teachers(RunStore(here / "run"), ["colon-2"], DEVICE)[0]
    shown = teacher.tokenizer.hf.decode(teacher.pvp.encode_texts(TEXTS[:1], teacher.tokenizer)[0].ids)
    assert shown.count("news :") == 4 and all(topic.lower() in shown for topic in TOPICS)  # one of each label, then the row


# -- what is not there -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("stage_a/colon-1/model", r"run: stage_a/colon-1/model is not finished"),
        ("stage_a/colon-1", r"run: stage_a/colon-1/model is not finished"),
        ("stage_a/colon-1/logits", r"run: teacher colon-1 is newer than its logits or the soft labels \(finish the run first\)"),
        ("stage_b", r"run: teacher colon-1 is newer than its logits or the soft labels \(finish the run first\)"),
    ],
)
def test_a_run_that_is_not_whole(missing: str, expected: str, copy: Path) -> None:
    shutil.rmtree(copy / missing)
    with pytest.raises(IncompleteRun, match=expected):
        load_teachers(RunStore(copy), ["colon-1"], DEVICE)[0]


def test_a_damaged_teacher(copy: Path) -> None:
    weights = copy / "stage_a" / "colon-1" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IncompleteRun, match=r"stage_a/colon-1/model is damaged: model.safetensors has changed"):
        load_teachers(RunStore(copy), ["colon-1"], DEVICE)[0]


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_the_backbone_of_an_untrained_teacher_must_be_the_same(
    change: str, model_folder: Callable[[str], Path], here: Path
) -> None:
    backbone = Path(shutil.copytree(model_folder("bert"), here / "backbone"))
    pipeline_file = write_task(here / "task", backbone)
    run_task(pipeline_file, here / "run", "data.train=null", stages=("a", "b"))
    if change == "gone":
        shutil.rmtree(backbone)
        with pytest.raises(ModelRefused, match="backbone"):
            load_teachers(RunStore(here / "run"), ["colon-untrained"], DEVICE)[0]
        return
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    with pytest.raises(IncompleteRun, match=r"run: backbone has changed since it answered as teacher colon-untrained"):
        load_teachers(RunStore(here / "run"), ["colon-untrained"], DEVICE)[0]
