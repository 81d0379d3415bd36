"""``petkit validate``: checks a pipeline before training and shows its patterns on a real row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from petkit.config.loader import Pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.data.examples import Example, ExampleSource
from petkit.data.repeats import by_text, seen_in_training, text_key
from petkit.prompts.legibility import Legibility
from petkit.prompts.pattern import FieldKey, Pattern
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.prompts.verbalizer import LabelWord
from petkit.stages.baselines import refuse_impossible
from petkit.task.checks import DESCRIPTIONS, sample_notes
from petkit.task.task import Task

_SHOWN = 5
SAMPLE = 5000
# With 77 intents, teachers were right on half of their own training rows; the largest task of the library has 15 labels.
MANY_LABELS = 30


@dataclass(frozen=True)
class PatternView:
    """One pattern on a real row."""

    id: str
    rendered: tuple[str, ...]  # its segments
    tokens: str
    cut_share: float  # share of unlabelled rows (of the first 5,000) that it must shorten
    words: dict[str, tuple[LabelWord, ...]]


@dataclass(frozen=True)
class CandidateView:
    """The candidates of a task's rows."""

    columns: tuple[str, ...]
    most: int  # of a row
    longest: int  # tokens of one, in the first 5,000 rows of each part of the data, of at most as many as a row can have
    cut: int  # how many of those a pattern cuts

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        where = f"column {self.columns[0]}" if len(self.columns) == 1 else f"columns {', '.join(self.columns)}"
        return f"answers: candidates of each row, in {where}; at most {self.most} a row, the longest of {self.longest} tokens"


@dataclass(frozen=True)
class Check:
    """Description of a valid pipeline, with warnings."""

    task: str
    rows: dict[str, int]
    label_counts: dict[str, int]
    teachers: int
    max_length: int
    patterns: tuple[PatternView, ...]
    warnings: tuple[str, ...] = ()
    # Part of the data → what the tokenizer made of its first 5,000 rows; of the student's own one as "train (student)".
    legibility: dict[str, Legibility] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    candidates: CandidateView | None = None  # where each row has candidates of its own


def check_pipeline(pipeline: Pipeline) -> Check:
    """Check a pipeline and describe it."""
    task = Task.checked(pipeline)
    refuse_impossible(pipeline)
    counts = Counter(label for example in task.train for label in example.labels)
    rows: dict[str, Sequence[Example]] = {"train": task.train} if task.train else {}
    rows |= {DESCRIPTIONS: task.described} if task.described else {}
    rows["unlabeled"] = list(islice(task.source("unlabeled"), SAMPLE))
    rows |= {"test": list(task.source("test"))} if "test" in task.scans else {}
    tokens = dict(_tokenised(task, rows))
    legibility = {name: store.legibility for name, store in tokens.items() if store.legibility is not None}
    remarks = dict(_remarks(task, legibility))
    candidates = _candidates(task, tokens)
    return Check(
        task=task.spec.task,
        rows={part: scan.rows_of_source for part, scan in task.scans.items()},
        label_counts={label: counts[index] for index, label in enumerate(task.fixed_labels)},
        teachers=sum(map(len, task.generations)),
        max_length=task.max_length,
        patterns=tuple(_views(task, rows, tokens)),
        candidates=candidates,
        warnings=(
            *_warnings(task, rows.get("test", ())),
            *_cut_candidates(candidates),
            *(remark for remark, doubtful in remarks.items() if doubtful),
        ),
        legibility=legibility,
        remarks=(
            *sample_notes(task.spec, task.scans["unlabeled"]),
            *(remark for remark, doubtful in remarks.items() if not doubtful),
        ),
    )


def _tokenised(task: Task, rows: Mapping[str, Sequence[Example]]) -> Iterator[tuple[str, TokenStore]]:
    """Yield the first rows of each part of the data, tokenised for the teachers, and for a student of another model."""
    keys = list(dict.fromkeys(key for pvp in task.pvps for key in pvp.keys))
    readers: dict[str, tuple[PieceTokenizer, Sequence[FieldKey], int]] = {"": (task.tokenizer, keys, task.max_length)}
    if task.student_tokenizer is not task.tokenizer:
        readers[" (student)"] = (task.student_tokenizer, task.student_pattern.keys, task.student_max_length)
    for part, examples in rows.items():
        for reader, (tokenizer, used, longest) in readers.items():
            yield part + reader, TokenStore.build(examples[:SAMPLE], tokenizer, used, longest + 1, task.spec.truncate)


def _remarks(task: Task, legibility: Mapping[str, Legibility]) -> Iterator[tuple[str, bool]]:
    """Yield what a tokenizer does not know of the data, and whether that is doubtful."""
    for name, read in legibility.items():
        part, _, student = name.partition(" ")
        tokenizer = task.student_tokenizer if student else task.tokenizer
        if remark := read.remark(task.shown(part), tokenizer.name):
            yield remark, read.doubtful


def _views(task: Task, rows: Mapping[str, Sequence[Example]], tokens: Mapping[str, TokenStore]) -> Iterable[PatternView]:
    mask: str = task.tokenizer.hf.mask_token or "___"  # causal models have none
    store, part = tokens["unlabeled"], "train" if task.train else "unlabeled"
    example, read = rows[part][0], tokens[part].row(0)
    no_words = ((),) * len(task.fixed_labels)  # not searched yet
    for index, pvp in enumerate(task.pvps):
        cut = int(np.sum(store.row_lengths(pvp.pattern.gaps) > pvp.pattern.room))
        yield PatternView(
            id=pvp.id,
            rendered=Pattern.from_spec(task.spec.patterns[index]).render(example.fields, mask),
            tokens=task.tokenizer.shown(pvp.encode(read, own=0 if task.train else None).sequences[0].ids.tolist()),
            cut_share=cut / max(1, store.rows),
            words=dict(zip(task.fixed_labels, pvp.words.words or no_words, strict=True)),
        )


def _candidates(task: Task, tokens: Mapping[str, TokenStore]) -> CandidateView | None:
    """Return what the candidates of the rows are like; of a task with fixed labels nothing."""
    if task.candidates is None:
        return None
    longest = cut = 0
    for slot in [pvp.slot for pvp in task.pvps if pvp.slot is not None]:
        for store in (store for part, store in tokens.items() if " " not in part):
            lengths = np.stack([store.row_lengths([key]) for key in slot.keys])
            longest, cut = max(longest, int(lengths.max())), cut + int((lengths > slot.most).sum())
    return CandidateView(task.candidates.columns, len(task.labels), longest, cut)


def _cut_candidates(found: CandidateView | None) -> Iterable[str]:
    if found is not None and found.cut:
        yield f"candidates: {found.cut:,} are cut: one takes at most half of the tokens that a pattern leaves (raise max_length)"


def repeated_settings(spec: PipelineSpec) -> Iterable[str]:
    """Yield a warning for every list of a pipeline that names one thing twice."""
    texts: dict[object, list[str]] = defaultdict(list)
    for pattern in spec.patterns:
        texts[pattern.text, repr(spec.verbalizer_of(pattern))].append(pattern.id)
    for names in [names for names in texts.values() if len(names) > 1]:
        yield f"patterns {' and '.join(map(repr, names))} have the same text; their teachers differ by nothing"
    lists = (("baselines", spec.baselines), ("data.label_names", spec.data.label_names or ()))
    for key, names_of in lists:
        for name in [name for name, times in Counter(map(str, names_of)).items() if times > 1]:
            yield f"{key}: {name!r} is listed more than once"


def _warnings(task: Task, test: Sequence[Example]) -> Iterable[str]:
    yield from task.notes
    yield from repeated_settings(task.spec)
    if len(task.fixed_labels) > MANY_LABELS:
        described = {label for example in task.described for label in example.labels}
        hints = ["describe them (verbalizer.descriptions)"] if len(described) < len(task.labels) else []
        hints += ["compare with baselines: [probe, supervised]"] if task.train else []
        hint = f" ({', '.join(hints)})" if hints else ""
        yield f"{len(task.labels)} labels: cloze questions do not separate so many well from few rows per label{hint}"
    train = by_text(task.train)
    if task.train:
        source, counts = task.source("train"), Counter(label for example in task.train for label in example.labels)
        yield from _repeats(train, source)
        if task.label_kind.fixed and not task.label_kind.multi and max(counts.values()) > 3 * min(counts.values()):
            yield f"{source.shown}: the largest label has more than three times the rows of the smallest; the classifier will lean to it"
        if task.spec.label_kind == "multi" and all(len(example.labels) == 1 for example in task.train):
            yield f"{source.shown}: every row has exactly one label; label_kind: single would separate the labels better"
    if task.spec.label_kind == "multi" and task.described and not task.train:
        yield "verbalizer.descriptions: each has one label, and teachers learn from nothing else: they will rarely give a row several"
    for description in task.described:
        if same := [row for row in train.get(text_key(description), ()) if row.labels != description.labels]:
            label = task.labels[description.labels[0]]
            yield f"{task.source('train').shown}: line {same[0].line} has the text of a description of label {label!r} under another label"
    unlabeled = task.source("unlabeled")
    texts = Counter(text_key(example) for example in unlabeled)
    if repeated := sum(count - 1 for count in texts.values()):
        yield f"{unlabeled.shown}: {repeated:,} of {sum(texts.values()):,} rows repeat an earlier row"
    if task.spec.data.test is None:
        return
    source = task.source("test")
    yield from seen_in_training(source.shown, test, task.train, "line", task.described)
    if shared := sum(text_key(example) in texts for example in test):
        yield f"{source.shown}: {shared:,} of {len(test):,} rows are also in the unlabelled set; use such figures with care"
    yield from _repeats(by_text(test), source)


def _repeats(grouped: dict[int, list[Example]], source: ExampleSource) -> Iterable[str]:
    for rows in [rows for rows in grouped.values() if len(rows) > 1][:_SHOWN]:
        labels = " under different labels" if len({example.labels for example in rows}) > 1 else ""
        yield f"{source.shown}: lines {', '.join(str(example.line) for example in rows)} have the same text{labels}"
