"""Baselines on the tiny task: every number against one found another way, and the verdict on hand-made predictions."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from petkit.baselines import supervised
from petkit.config.loader import load_pipeline
from petkit.engine.device import Device
from petkit.engine.sampling import training_batches
from petkit.errors import InvalidInput
from petkit.events import Event, Progress, ignore
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.stages import baselines
from petkit.storage.parquet_shards import read_shards
from petkit.task.task import Task
from tests.tiny_task import ONE_FIELD, TOPICS, rows, run_task, write_rows, write_task

DEVICE = Device("cpu", "float32", 1)
LABELS = tuple(TOPICS)
TRAIN, TEST = rows(9, 9), rows(15, 15)
GOLD = [LABELS.index(row["label"]) for row in TEST]


def task_of(pipeline_file: Path, *overrides: str) -> Task:
    return Task.checked(load_pipeline(pipeline_file, overrides))


def do(
    pipeline_file: Path, folder: Path, name: str, *overrides: str, reported: list[Event] | None = None
) -> tuple[dict[str, Any], Any]:
    """Run one baseline into a run folder; return its record and its predictions, the logits as an array."""
    store = RunStore(folder)
    (step,) = baselines.steps(task_of(pipeline_file, f"baselines=[{name}]", *overrides), DEVICE)
    with store.locked():
        facts: dict[str, Any] = {"seconds": 0.5}
        with store.publishing(step.name, step.all_inputs(store), facts) as made:
            on_event = ignore if reported is None else reported.append
            step.work(Job(step.name, made, store, on_event, step.inputs, math.inf, facts))
        store.write_manifest({})
    (predictions,) = read_shards(folder / "baselines" / name / "predictions", ["id", "gold", "label", "logits"])
    return json.loads((folder / "baselines" / name / "baseline.json").read_text()), predictions


def accuracy(logits: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == GOLD).mean())


# -- the numbers -------------------------------------------------------------------------------------


def test_majority_gives_every_row_the_most_frequent_label(pipeline_file: Path, here: Path) -> None:
    few = here / "few.jsonl"
    write_rows(few, [*TRAIN, {"text": "market news", "label": "World"}])
    record, predictions = do(pipeline_file, here / "run", "majority", f"data.train={few}")

    assert predictions["id"] == [row["id"] for row in TEST] and predictions["gold"] == [row["label"] for row in TEST]
    assert set(predictions["label"]) == {"World"}
    np.testing.assert_allclose(predictions["logits"], np.log([[4 / 13, 4 / 13, 5 / 13]] * 15), rtol=1e-6)
    assert record["metrics"]["accuracy"] == pytest.approx(5 / 15) and record["metrics"]["rows"] == 15


def test_majority_of_equally_many_rows_is_the_first_label(pipeline_file: Path, here: Path) -> None:
    assert set(do(pipeline_file, here / "run", "majority")[1]["label"]) == {LABELS[0]}


def test_tfidf_counts_the_words_of_all_fields(model_folder: Callable[[str], Path], here: Path) -> None:
    fields = ("head", "text")
    pipeline_file = write_task(here / "two", model_folder("bert"), fields, {"both": "{mask}: {head} {text}"})
    record, predictions = do(pipeline_file, here / "run", "tfidf")
    few, unseen = ([f"{row['head']} {row['text']}" for row in rows(count, count, fields)] for count in (9, 15))
    settings = ({"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (1, 5)})
    counted = [TfidfVectorizer(sublinear_tf=True, **entry).fit(few) for entry in settings]
    known, new = (np.hstack([one.transform(texts).toarray() for one in counted]) for texts in (few, unseen))
    model = LogisticRegression(C=record["settings"]["C"], max_iter=1000).fit(known, [index % 3 for index in range(9)])

    np.testing.assert_allclose(predictions["logits"], log_softmax(model.decision_function(new), axis=1), atol=1e-3)
    assert record["metrics"]["accuracy"] == accuracy(model.decision_function(new)) > 0.8


def test_zero_shot_is_the_calibrated_mean_of_the_patterns(pipeline_file: Path, here: Path) -> None:
    """Read with transformers, one row at a time; the prior makes the mean prediction on unlabelled rows uniform."""
    from scipy.optimize import root
    from scipy.special import softmax
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    source = task_of(pipeline_file).spec.model
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(source).eval(), AutoTokenizer.from_pretrained(source)
    words = [["sports", "football"], ["science"], ["world"]]

    def ask(pattern: str, text: str) -> list[float]:
        filled = tokenizer(pattern.format(mask=tokenizer.mask_token, text=text), return_tensors="pt")
        with torch.no_grad():
            logits = model(**filled).logits[0, filled["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
        return [float(np.mean([logits[tokenizer.convert_tokens_to_ids(word)] for word in of_label])) for of_label in words]

    answers = []
    for pattern in ONE_FIELD.values():
        unlabeled, test = (np.array([ask(pattern, row["text"]) for row in part]) for part in (rows(30, 30), TEST))
        prior = root(lambda bias, seen=unlabeled: softmax(seen - bias, axis=1).mean(axis=0) - 1 / 3, np.zeros(3)).x
        answers.append(test - prior)
    expected = log_softmax(np.mean(answers, axis=0), axis=1)
    record, predictions = do(pipeline_file, here / "run", "zero_shot")

    np.testing.assert_allclose(log_softmax(predictions["logits"], axis=1), expected, atol=1e-3)
    assert record["metrics"]["accuracy"] == accuracy(expected)
    assert record["settings"] == {"calibration": "batch", "combine": "logits", "patterns": list(ONE_FIELD)}


def test_zero_shot_needs_no_labelled_rows(pipeline_file: Path, here: Path) -> None:
    without = do(pipeline_file, here / "without", "zero_shot", "data.train=null")

    assert without[0] == do(pipeline_file, here / "with", "zero_shot")[0]


def test_supervised_is_plain_fine_tuning_on_the_few_rows(pipeline_file: Path, here: Path) -> None:
    """A training loop written out: AdamW, a linear schedule, cross-entropy, and no other rows."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers import get_linear_schedule_with_warmup as schedule_of

    reported: list[Event] = []
    record, predictions = do(pipeline_file, here / "run", "supervised", "student.steps=12", reported=reported)
    source = task_of(pipeline_file).spec.model
    tokenizer = AutoTokenizer.from_pretrained(source)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3, attn_implementation="eager")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    groups = [
        {"params": [value for value in model.parameters() if value.ndim >= 2], "weight_decay": 0.01},
        {"params": [value for value in model.parameters() if value.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.005, eps=1e-8)
    schedule = schedule_of(optimizer, 0, 12)
    texts, labels = [row["text"] for row in TRAIN], torch.tensor([LABELS.index(row["label"]) for row in TRAIN])
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    for batch in training_batches(lengths, 6, 12, 1):
        logits = model(**tokenizer([texts[index] for index in batch], padding=True, return_tensors="pt")).logits
        torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model(**tokenizer([row["text"] for row in TEST], padding=True, return_tensors="pt")).logits.numpy()

    np.testing.assert_allclose(predictions["logits"], expected, atol=2e-2)
    assert record["metrics"]["accuracy"] == accuracy(expected)
    assert [event.done for event in reported if isinstance(event, Progress) and event.unit == "steps"] == list(range(1, 13))
    assert record["settings"]["steps"] == 12 and "hard_weight" not in record["settings"]


def test_supervised_trains_what_the_student_trains(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[str], float]] = []
    real = supervised.fit

    def watch(model: Any, batches: Any, loss: Any, settings: Any, *more: Any, **named: Any) -> Any:
        trained = {name.rpartition(".")[2] for name, value in model.named_parameters() if value.requires_grad}
        seen.append((trained, settings.learning_rate))
        return real(model, batches, loss, settings, *more, **named)

    monkeypatch.setattr(supervised, "fit", watch)
    adapter = "student.adapter={kind: prompt_tuning, tokens: 3, learning_rate: 0.03}"
    record, _ = do(pipeline_file, here / "run", "supervised", "student.steps=2", adapter)
    assert seen == [({"vectors", "weight", "bias"}, 0.03)]  # of the virtual tokens and of the new head
    assert record["settings"]["adapter"] == {"kind": "prompt_tuning", "tokens": 3, "learning_rate": 0.03}
    assert "learning_rate" not in record["settings"]

    def inputs(*overrides: str) -> dict[str, Any]:
        return dict(baselines.steps(task_of(pipeline_file, "baselines=[supervised]", *overrides), DEVICE)[0].inputs)

    assert not [name for name in inputs() if "adapter" in name]
    assert inputs(adapter)["student.adapter.tokens"] == 3
    assert inputs(adapter) == inputs(adapter, "student.learning_rate=0.5")


# -- several labels per row --------------------------------------------------------------------------


@pytest.fixture
def several(model_folder: Callable[[str], Path], here: Path) -> Path:
    """A task whose rows have none, one or several labels: those whose words they hold."""
    pipeline_file = write_task(here / "several", model_folder("bert"))
    texts = [
        "game team",
        "game question",
        "team answer",
        "market game",
        "the good",
        "question team news",
        "game the",
        "team market",
    ]
    both = [
        {
            "text": f"{text} {filler}",
            "label": "|".join(label for label, words in TOPICS.items() if set(words.split()) & set(text.split())),
        }
        for filler in ("it", "is", "this")
        for text in texts
    ]
    write_rows(pipeline_file.parent / "train.jsonl", both[:16])
    write_rows(pipeline_file.parent / "test.jsonl", both[8:])
    return pipeline_file


MULTI = ("label_kind=multi", "student.steps=60")


@pytest.mark.parametrize("name", ["majority", "tfidf", "zero_shot", "probe", "supervised"])
def test_several_labels_per_row(name: str, several: Path, here: Path) -> None:
    record, predictions = do(several, here / "run", name, *MULTI)
    given = [[label for label, logit in zip(LABELS, row, strict=True) if logit >= 0] for row in predictions["logits"]]

    assert predictions["label"] == given
    right = [gold == labels for gold, labels in zip(predictions["gold"], given, strict=True)]
    assert record["metrics"]["accuracy"] == pytest.approx(np.mean(right)) and "micro_f1" in record["metrics"]
    assert [] in predictions["gold"] and ["Sports", "Science", "World"] in predictions["gold"]
    if name == "majority":
        assert set(map(tuple, given)) == {("Sports",)}  # seven of eight rows; the others three of eight
    if name in ("tfidf", "probe", "supervised"):
        assert np.mean(right) > 0.6


# -- setfit ------------------------------------------------------------------------------------------


class FakeBody:
    """Stands for a sentence-transformers model: a text becomes the count of each topic's words."""

    made: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 (one list on purpose)

    def __init__(self, model: str, **options: Any) -> None:
        self.made.append((model, options))
        self.max_seq_length = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[sum(word in text.split() for word in words.split()) for words in TOPICS.values()] for text in texts])


class FakeModel:
    def __init__(self, model_body: FakeBody, model_head: Any, multi_target_strategy: str | None) -> None:
        self.model_body, self.model_head, self.multi_target_strategy = model_body, model_head, multi_target_strategy

    def predict_proba(self, inputs: list[str], *, as_numpy: bool, show_progress_bar: bool) -> np.ndarray:
        assert as_numpy and not show_progress_bar
        return self.model_head.predict_proba(self.model_body.encode(inputs))


class FakeArguments:
    def __init__(self, **given: Any) -> None:
        assert Path(given["output_dir"]).is_dir() and given["report_to"] == "none" and given["seed"] == 1


class FakeTrainer:
    def __init__(self, model: FakeModel, args: FakeArguments, train_dataset: Any) -> None:
        self.model, self.rows = model, train_dataset

    def train(self) -> None:
        texts, labels = self.rows["text"][:], self.rows["label"][:]
        assert self.model.multi_target_strategy == ("one-vs-rest" if isinstance(labels[0], list) else None)
        self.model.model_head.fit(self.model.model_body.encode(texts), labels)


@pytest.fixture
def setfit(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Small stand-ins for the two optional packages; returns what models were loaded."""
    parts = {
        "setfit": {"SetFitModel": FakeModel, "Trainer": FakeTrainer, "TrainingArguments": FakeArguments},
        "sentence_transformers": {"SentenceTransformer": FakeBody},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FakeBody, "made", [])
    return FakeBody.made


def test_setfit_learns_from_the_few_rows(setfit: list[Any], pipeline_file: Path, here: Path) -> None:
    record, predictions = do(pipeline_file, here / "run", "setfit")
    ((model, options),) = setfit
    head = LogisticRegression().fit(FakeBody.encode(FakeBody, [row["text"] for row in TRAIN]), [index % 3 for index in range(9)])
    expected = head.predict_log_proba(FakeBody.encode(FakeBody, [row["text"] for row in TEST]))

    assert model == task_of(pipeline_file).spec.model
    assert options == {"device": "cpu", "trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    np.testing.assert_allclose(predictions["logits"], expected, atol=1e-5)
    assert record["settings"] == {"batch_size": 16, "num_iterations": 20, "max_length": 32, "seed": 1}


def test_setfit_gives_several_labels(setfit: list[Any], several: Path, here: Path) -> None:
    predictions = do(several, here / "run", "setfit", *MULTI)[1]

    assert np.mean([gold == label for gold, label in zip(predictions["gold"], predictions["label"], strict=True)]) > 0.6


def test_setfit_that_is_not_installed_is_refused_before_anything_is_done(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "setfit", None)
    with pytest.raises(InvalidInput) as refused:
        run_task(pipeline_file, here / "run", "baselines=[tfidf, setfit]")

    assert str(refused.value).endswith(": baselines: setfit is not installed (pip install 'petkit[setfit]')")
    assert len(refused.value.problems) == 1 and not (here / "run").exists()
