"""``petkit search-verbalizer``: words the model itself would use for the labels, as an ordinary verbalizer file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from petkit.config.loader import Pipeline
from petkit.config.rules import in_pipeline
from petkit.config.schema.pipeline import AutoVerbalizerSpec, Described, PatternSpec, PipelineSpec, VerbalizerSpec
from petkit.engine.device import choose_device
from petkit.errors import InvalidInput, Problem, did_you_mean, shown_path
from petkit.events import OnEvent, Progress, RunStarted, StepFinished, StepStarted, ignore, report_notes
from petkit.prompt_search.label_words import search_label_words
from petkit.storage.atomic import write_text
from petkit.storage.destination import destination, identities
from petkit.task.checks import refuse_candidates
from petkit.task.task import Task

_STEP = "label words"
_LINE_BREAKS = frozenset("\n\r\x85\u2028\u2029")

HEADER = """\
# Label words found by petkit search-verbalizer: words that the model would rather say in the rows of their label than in others.
#
#   petkit run PIPELINE --set {override}
#
# The figures are in nats per row, on {rows} labelled rows {patterns}.
# Change first: take out words that owe their place to chance.
"""


@dataclass(frozen=True)
class FoundVerbalizer:
    """Label words for one pattern, or for several together."""

    patterns: tuple[str, ...]
    rows: int  # labelled ones, on which they were found
    words: dict[str, dict[str, float]]  # label → word → log-likelihood ratio in nats per row, over the patterns; best first
    named: dict[str, dict[str, float]]  # the same for words that the pipeline names, where they are one token in every pattern
    kind: str  # of the pipeline's verbalizer
    descriptions: dict[str, tuple[Described, ...]] = field(default_factory=dict)  # of the pipeline's verbalizer

    def yaml(self, file: str) -> str:
        """Return the verbalizer file's text; ``file`` is how it is called."""
        several = f"(sums over {len(self.patterns)} patterns)"
        patterns = f"in pattern {self.patterns[0]}" if len(self.patterns) == 1 else several
        # A name can contain a space or a line break that would end the comment.
        quoted = shlex.quote(f"verbalizer={' '.join(file.splitlines())}")
        kind = "" if self.kind == "words" else f"kind: {self.kind}\n"
        lines = [HEADER.format(override=quoted, rows=self.rows, patterns=patterns), kind, "labels:\n"]
        for label, words in self.words.items():
            scores = ", ".join(f"{score:.2f}" for score in words.values())
            lines.append(f"  {_flow([label])[1:-1]}: {_flow(list(words))}  # log-likelihood ratio {scores}\n")
        lines += ["descriptions:\n"] if self.descriptions else []
        for label, texts in self.descriptions.items():
            lines.append(f"  {_flow([label])[1:-1]}:\n")
            lines += [f"    - {_flow([text])[1:-1]}\n" for text in texts]
        return "".join(lines)

    def write(self, path: Path, pipeline: Pipeline, *, force: bool) -> None:
        """Write the verbalizer file, whole or not at all."""
        target = verbalizer_file(path, pipeline, force=force)
        try:
            write_text(target, self.yaml(shown_path(path)))
        except OSError as error:
            raise InvalidInput([Problem.of_file(path, f"cannot be written: {error.strerror}")]) from None


def verbalizer_file(path: Path, pipeline: Pipeline, *, force: bool) -> Path:
    """Return where a verbalizer file is written; refuse a place that is taken, before the work of finding one.

    The pipeline's own verbalizer file may be replaced, but neither its data nor its other files.
    """
    data = pipeline.spec.data
    files = {file for location, (file, _) in pipeline.document.places.items() if location[:1] != ("verbalizer",)}
    return destination(path, force=force, inputs=identities(*files, data.train, data.unlabeled, data.test))


def search_verbalizer(pipeline: Pipeline, pattern: str | None = None, on_event: OnEvent = ignore) -> FoundVerbalizer:
    """Find words for the labels of a pipeline, for all its patterns together or for one of them; writes nothing."""
    known = [entry.id for entry in pipeline.spec.patterns]
    if pattern is not None and pattern not in known:
        raise InvalidInput([Problem.of_option("--pattern", f"unknown pattern {pattern!r}", did_you_mean(pattern, known))])
    refuse_candidates(pipeline, "finds words for fixed labels")
    written = pipeline.spec.verbalizer
    task = Task.checked(_with_words_to_find(pipeline, pattern))
    report_notes(task.notes, on_event)
    if pattern is not None:
        task = task.narrowed([pattern], None)
    patterns = tuple(pvp.id for pvp in task.pvps)
    started = time.monotonic()
    on_event(RunStarted(1))
    on_event(StepStarted(_STEP, f"{len(task.train)} labelled rows in {len(patterns)} pattern{'s' * (len(patterns) > 1)}"))
    device, named = choose_device(task.spec.compute), _all_words(pipeline.spec)
    with device.in_use():
        found = search_label_words(task, device, lambda done, total: on_event(Progress(_STEP, done, total, "rows")), named=named)
    on_event(StepFinished(_STEP, time.monotonic() - started, {}))
    return FoundVerbalizer(
        patterns=patterns,
        rows=len(task.train),
        words={label: dict(words) for label, words in found.words[patterns[0]].items()},
        named={label: dict(words) for label, words in found.named.items()},
        kind=written.kind,
        descriptions=written.descriptions,
    )


def _all_words(spec: PipelineSpec) -> VerbalizerSpec | None:
    """Return the words that the pipeline names, in all its verbalizers; None where it names none."""
    if not any(spec.verbalizer.labels.values()):
        return None
    verbalizers = [spec.verbalizer_of(pattern) for pattern in spec.patterns]
    labels = {
        label: tuple(dict.fromkeys(word for verbalizer in verbalizers for word in verbalizer.labels[label]))
        for label in spec.labels
    }
    return spec.verbalizer.model_copy(update={"labels": labels})


def _with_words_to_find(pipeline: Pipeline, pattern: str | None) -> Pipeline:
    """Return the pipeline with words for all patterns to be found in the place of those it names.

    A pattern that several verbalizers go with counts once, under the name of ``pattern`` if that is one of them.
    """
    by_text: dict[object, PatternSpec] = {}
    for entry in sorted(pipeline.spec.patterns, key=lambda entry: entry.id != pattern):
        by_text.setdefault(entry.text, entry.model_copy(update={"verbalizer": None}))
    auto = (pipeline.spec.verbalizer.auto or AutoVerbalizerSpec()).model_copy(update={"scope": "joint"})
    described = pipeline.spec.verbalizer.descriptions
    verbalizer = VerbalizerSpec(labels=dict.fromkeys(pipeline.spec.labels, ()), auto=auto, descriptions=described)
    spec = pipeline.spec.model_copy(
        update={"verbalizer": verbalizer, "patterns": tuple(by_text.values()), "keep_patterns": "all"}
    )
    if wrong := in_pipeline(spec.model_dump()):
        raise InvalidInput([pipeline.problem(place, message) for place, message in wrong])
    return replace(pipeline, spec=spec)


def _flow(values: Sequence[Described]) -> str:
    """Return a list as YAML on one line."""
    texts = [text for value in values for text in ([value] if isinstance(value, str) else value.values())]
    style = None if _LINE_BREAKS.isdisjoint("".join(texts)) else '"'
    text: str = yaml.safe_dump(list(values), default_flow_style=True, default_style=style, allow_unicode=True, width=float("inf"))
    return text.strip()
