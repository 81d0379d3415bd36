"""Shared fixtures. Nothing here reaches the network, and every run draws the same numbers."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Several test processes share the cores: threads that wait for work must not spin.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.processor import processor_seconds, slowness
from tests.tiny import tiny_model_folder
from tests.tiny_run import copy, every_third_step, finished, first_run, pipeline_file

__all__ = ["copy", "every_third_step", "finished", "first_run", "pipeline_file"]

torch.set_num_threads(1)
if sys.version_info < (3, 12):
    # A thread that begins while coverage sets its trace function in another one dies of it: only the main thread is traced.
    threading.settrace(None)  # coverage is at work already
    threading.settrace = lambda func: None  # and begins again after modules that it leaves out
settings.register_profile(
    "petkit",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("petkit")
# What these modules run is covered by the others (96 % of all lines and branches), and tracing takes as long as they do.
NOT_TRACED = (
    "fuzz/test_truncation", "limits/test_hostile_input", "limits/test_honest_input", "losses/test_definitions",
    "models/test_adapters", "models/test_deep_prefix", "models/test_multi_token", "engine/test_training_loop",
    "pretraining/test_adaptation", "pretraining/test_prompt_pretraining", "prompts/test_tokenization", "reliability/test_crash_points",
    "runs/test_kill", "runs/test_resume", "stages/test_adapters", "stages/test_causal", "stages/test_label_kinds",
    "stages/test_large_sets", "stages/test_objectives_end_to_end", "stages/test_preparation", "stages/test_variants",
    "task/test_start_prompt", "teachers/test_ipet_runs", "teachers/test_loading", "teachers/test_training", "test_library",
)  # fmt: skip
MOST_SECONDS = 5.0  # of an ordinary processor, for a test that is not marked slow
BUSY = 2.0  # how much longer the same work takes on a processor whose neighbours are busy, or under coverage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave some modules out of the coverage figure."""
    for item in items:
        if item.path.with_suffix("").as_posix().endswith(NOT_TRACED):
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test fail that takes long and is not marked slow; the clock of a busy machine does not count."""
    before = processor_seconds()
    result = yield
    took = processor_seconds() - before
    if took > MOST_SECONDS and not item.get_closest_marker("slow"):
        allowed = MOST_SECONDS * slowness()
        if took > allowed * BUSY:
            hint = "make it smaller, or mark it slow and keep a small sample of it"
            pytest.fail(f"took {took:.1f} seconds of the processor; {allowed:.1f} at most ({hint})", pytrace=False)
    return result


@pytest.fixture(scope="session")
def libraries() -> Iterator[None]:
    """The heavy libraries, imported and kept out of garbage collections: a run collects after every step."""
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    from petkit.engine.device import quick_collections

    with quick_collections():
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, libraries: None) -> Callable[[str], Path]:
    """``model_folder(arch)`` is the folder of a tiny random model, made once; copy it before changing it."""
    made: dict[str, Path] = {}

    def make(arch: str) -> Path:
        if arch not in made:
            made[arch] = tiny_model_folder(arch, tmp_path_factory.mktemp("models") / arch)
        return made[arch]

    return make


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages name files without their folders."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
