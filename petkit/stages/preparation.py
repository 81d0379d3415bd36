"""Steps before stage A: finding label words, and choosing among the patterns.

Both are steps like any other, finished once and then read; :func:`prepared` returns the task that results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import count
from typing import Any

from petkit.engine.device import Device
from petkit.errors import IncompleteRun
from petkit.events import Event, StepFinished
from petkit.prompt_search.label_words import search_label_words
from petkit.prompt_search.pattern_ranking import rank
from petkit.runs.fingerprint import Inputs, demonstration_inputs, label_words, model_inputs, untrained_inputs
from petkit.runs.layout import LABEL_WORDS, LABEL_WORDS_FILE, RANKING, RANKING_FILE
from petkit.runs.step import Job, Step
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.task.task import Task
from petkit.teachers.untrained import SAMPLE


def steps(task: Task, device: Device) -> list[Step]:
    """Return the steps before stage A; most pipelines have none."""
    spec = task.spec
    shared: Inputs = {
        "step.version": 1,
        **task.common_inputs(device),
        **task.unlabeled_inputs(),
        **model_inputs(task.model_hash, task.max_length),
        "patterns": {pattern.id: list(pattern.segments) for pattern in spec.patterns},
        "data.train": task.scans["train"].sha256 if task.train else None,
    }
    found: list[Step] = []
    if spec.verbalizer.auto is not None:
        inputs = {**shared, **{f"verbalizer.auto.{key}": value for key, value in spec.verbalizer.auto.model_dump().items()}}
        found.append(Step(LABEL_WORDS, "a", inputs, lambda job: _find_words(job, task, device)))
    if spec.keep_patterns != "all":
        needs = tuple(step.name for step in found)
        inputs = {  # how many are kept is read from the ranking, not written in it
            **shared,
            **({"sampled rows": SAMPLE} if task.scans["unlabeled"].rows > SAMPLE else {}),
            "verbalizer": label_words(spec.verbalizer.labels),
            **untrained_inputs(spec),
            **demonstration_inputs(spec.demonstrations),
        }
        found.append(Step(RANKING, "a", inputs, lambda job: _rank(job, task, device), needs))
    return found


def prepared(task: Task, store: RunStore) -> Task:
    """Return the task with found label words and kept patterns; refuse steps unfinished or made for other patterns."""
    searches, keep = task.spec.verbalizer.auto is not None, task.spec.keep_patterns
    for step in (LABEL_WORDS,) * searches + (RANKING,) * (keep != "all"):
        if store.content(step) is None:
            raise IncompleteRun(f"{store.shown}: {step} is not finished (run petkit stage-a first)")
    if searches:
        task = _with_words(task, store)
    if keep == "all":
        return task
    ranked = [entry["id"] for entry in store.read(RANKING, RANKING_FILE)["patterns"]]
    _refuse_other_patterns(task, store, RANKING, ranked)
    kept = ranked[:keep]
    return task.narrowed(kept, {pvp.id: pvp.verbalizer for pvp in task.pvps if pvp.id in kept})


def _with_words(task: Task, store: RunStore) -> Task:
    found = store.read(LABEL_WORDS, LABEL_WORDS_FILE)
    _refuse_other_patterns(task, store, LABEL_WORDS, found)
    verbalizers = {}
    for pattern, scored in found.items():
        labels = {label: tuple(entry["word"] for entry in entries) for label, entries in scored.items()}
        verbalizers[pattern] = task.spec.verbalizer.model_copy(update={"auto": None, "labels": labels})
    return task.narrowed(list(verbalizers), verbalizers)


def _refuse_other_patterns(task: Task, store: RunStore, step: str, patterns: Iterable[str]) -> None:
    if set(patterns) != {pattern.id for pattern in task.spec.patterns}:
        raise IncompleteRun(f"{store.shown}: {step} was made for other patterns (run petkit stage-a --force)")


def _find_words(job: Job, task: Task, device: Device) -> None:
    found = search_label_words(task, device, lambda done, total: job.progress(done, total, "rows"))
    words: dict[str, Any] = {
        pattern: {label: [{"word": word, "score": score} for word, score in scored] for label, scored in labels.items()}
        for pattern, labels in found.words.items()
    }
    write_json(job.folder / LABEL_WORDS_FILE, words)


def _rank(job: Job, task: Task, device: Device) -> None:
    if task.spec.verbalizer.auto is not None:
        task = _with_words(task, job.store)
    done = count(1)

    def report(event: Event) -> None:
        if isinstance(event, StepFinished):  # of a pattern: the ranking has steps of its own
            job.progress(next(done), len(task.pvps), "patterns")

    ranked = rank(task, device, report)
    write_json(job.folder / RANKING_FILE, {name: value for name, value in asdict(ranked).items() if name != "kept"})
    job.facts["best"] = ranked.patterns[0].id
