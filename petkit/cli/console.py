"""What appears on the terminal: plans, tables, remarks. All that is printed passes here.

Results go to standard output, progress and errors to standard error. Text from data, files and models is never
interpreted: neither as markup nor, whatever characters are in it, by the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from petkit.errors import InvalidInput, PetkitError, Problem
from petkit.formatting import in_one_line, visible, visible_json

if TYPE_CHECKING:
    from petkit.commands.doctor import Finding
    from petkit.commands.init_project import Scaffold
    from petkit.commands.search_verbalizer import FoundVerbalizer
    from petkit.commands.validate import Check
    from petkit.commands.zero_shot import ZeroShot
    from petkit.config.library import Entry
    from petkit.predict.predictor import Prediction
    from petkit.prompt_search.pattern_ranking import Ranking
    from petkit.runs.verify import Verification
    from petkit.stages.pipeline import Forecast, RunResult


class Results(Console):
    """A console for results: when its reader has gone, so has the reason to go on (rich alone would call it a failure)."""

    def on_broken_pipe(self) -> None:
        """Leave; :func:`petkit.cli.main` sets the exit code."""
        raise BrokenPipeError


class Remarks(Console):
    """A console for remarks: when its reader has gone, the work continues (rich alone would end the process)."""

    def on_broken_pipe(self) -> None:
        """Say nothing further."""
        self.quiet = True


_MAE = "mean absolute error"
_terminal = sys.stdout.isatty()
# Lines and tables are fitted to a terminal; a file or a program gets them as long as they are.
out = Results(highlight=False, soft_wrap=not _terminal, width=None if _terminal else 10_000)
err = Remarks(stderr=True, highlight=False, soft_wrap=True)


def standard_input() -> IO[bytes]:
    """Return the bytes of standard input."""
    if sys.stdin is None:
        raise InvalidInput([Problem.of_option("--input -", "standard input is closed")])
    return sys.stdin.buffer


def show_error(error: Exception) -> None:
    """Print an error's own words, and in one line what the user's input did not cause: the system's refusal, or petkit's fault."""
    if isinstance(error, PetkitError):
        note(str(error), style="red" if err.is_terminal else "")
        return
    message = f"petkit: internal error: {type(error).__name__}: {error} (set PETKIT_DEBUG=1 to see where, and please report it)"
    if isinstance(error, OSError) and error.strerror:
        message = ": ".join(map(str, filter(None, ("petkit", error.filename, error.strerror))))
    note(in_one_line(message))


def say(line: str, style: str = "") -> None:
    """Print a line of result."""
    out.print(text(line, style=style))


def note(remark: str, style: str = "", end: str = "\n") -> None:
    """Print a remark to standard error."""
    err.print(text(remark, style=style), end=end)


def show(found: Any, in_words: Callable[[Any], None], *, as_json: bool) -> None:
    """Print a result as JSON or in words."""
    show_json(found.to_dict() if hasattr(found, "to_dict") else asdict(found)) if as_json else in_words(found)


def show_json(data: Any) -> None:
    """Print data as JSON."""
    sys.stdout.write(visible_json(json.dumps(data, indent=2, ensure_ascii=False)) + "\n")


def show_forecast(forecast: Forecast) -> None:
    """Print what a run would do, and what that would take."""
    _table(["step", "action", "why"], [(entry.step, entry.action, entry.why) for entry in forecast.steps], right=())
    for line in [forecast.unknown] * bool(forecast.unknown) + (forecast.estimate.summary() if forecast.estimate else []):
        say(line)


def show_result(result: RunResult) -> None:
    """Print the table at the end of a run: untrained and trained accuracy, and the path of the model."""
    if not result.ran:
        say("Nothing to do: every step is finished and up to date.")
    if result.metrics is not None:
        _show_comparison(result.metrics)
    if result.has_student:
        say(f"classifier: {result.student}")
        if result.student_base is not None:
            say(f"this one is an adapter: it needs petkit and {result.student_base} to answer")
    elif (result.student / "config.json").is_file():
        say("the classifier in the run folder was made from other soft labels or settings (petkit stage-c renews it)")


def _show_comparison(metrics: dict[str, Any]) -> None:
    """Print teachers, ensemble, student and baselines, one below the other."""
    rows: list[tuple[str, ...]] = []
    teachers, student = metrics.get("teachers", {}), metrics["student"]
    for name, row in teachers.items():
        figures = [row["untrained_accuracy"], row["calibrated_accuracy"], *[row["accuracy"]] * row["trained"]]
        rows.append((f"teacher {name}", *map(_percent, figures)))
    if teachers:
        before, trained = metrics["zero_shot"]["ensemble"], any(row["trained"] for row in teachers.values())
        figures = [before["raw"], before.get("batch"), *[metrics["ensemble"]["accuracy"]] * trained]
        rows.append(("ensemble", *map(_percent, figures)))
    low, high = student["accuracy_interval"]
    rows.append(("student", "", "", f"{_percent(student['accuracy'])}  ({_percent(low)} to {_percent(high)})"))
    for name, row in metrics.get("baselines", {}).items():
        accuracy = _percent(row["metrics"]["accuracy"])
        rows.append((f"baseline {name}", *(("", accuracy, "") if name == "zero_shot" else ("", "", accuracy))))
    title = f"{_right(metrics['label_kind'] == 'multi')} on {metrics['rows']:,} test rows"
    _table([title, "untrained", "calibrated", "trained"], rows)
    judged: dict[str, Any] = {name: metrics[name] for name in ("ensemble", "student") if name in metrics}
    judged |= {f"baseline {name}": row["metrics"] for name, row in metrics.get("baselines", {}).items()}
    if "grouped" in student:
        matches = [
            (name, f"{row['grouped']['groups']:,}", _percent(row["grouped"]["exact_match"])) for name, row in judged.items()
        ]
        _table(["all rows of a group right", "groups", "share"], matches)
    if "mae" in student:
        distances = [(name, *(f"{row[figure]:.3f}" for figure in ("mae", "expected_mae"))) for name, row in judged.items()]
        _table([_MAE, "of the label", "of the expected value"], distances)
    if teachers and metrics["teacher_rows"] < metrics["rows"]:
        say(f"teachers and ensemble: on {metrics['teacher_rows']:,} of them, drawn at random (evaluation.teachers: all)")
    _warn(metrics["warnings"])
    if "verdict" in metrics:
        say(metrics["verdict"]["text"])


def show_metrics(metrics: dict[str, Any]) -> None:
    """Print an evaluation."""
    multi = "micro_f1" in metrics
    shares = {"accuracy": _right(multi), "micro_f1": "micro-F1"}
    shares |= {"macro_f1": "macro-F1"} if metrics["labels"] else {}
    numbers = {"mae": _MAE, "expected_mae": f"{_MAE} of the expected value", "quadratic_kappa": "quadratic κ"}
    numbers |= {"nll": "NLL (nats)", "brier": "Brier score", "ece": "ECE"}
    rows = []
    for name in [name for name in shares if name in metrics]:
        interval = metrics[f"{name}_interval"]
        rows.append((shares[name], _percent(metrics[name]), " to ".join(map(_percent, interval)) if interval else ""))
    if grouped := metrics.get("grouped"):
        interval = " to ".join(map(_percent, grouped["exact_match_interval"]))
        rows.append((f"all right, of {grouped['groups']:,} groups", _percent(grouped["exact_match"]), interval))
    if multi:
        rows.append(("decisions right", _percent(metrics["label_accuracy"]), ""))
    if "answer_f1" in metrics:
        rows.append(("F1 of the answers' words", _percent(metrics["answer_f1"]), ""))
    rows += [(title, f"{metrics[name]:.4f}", "") for name, title in numbers.items() if name in metrics]
    _table(["figure", "value", "95 % interval"], [*rows, ("rows", f"{metrics['rows']:,}", "")])
    if not metrics["labels"]:  # but candidates, in every row others
        return
    each = [
        (label, _percent(row["precision"]), _percent(row["recall"]), _percent(row["f1"]), f"{row['rows']:,}")
        for label, row in metrics["labels"].items()
    ]
    _table(["label", "precision", "recall", "F1", "rows"], each)
    if not multi:
        confusion = [(label, *map(str, counts)) for label, counts in zip(metrics["labels"], metrics["confusion"], strict=True)]
        _table(["gold \\ predicted", *metrics["labels"]], confusion)


def show_predictions(texts: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Print predictions for texts given on the command line."""
    ordinal = any(prediction.expected is not None for prediction in predictions)
    rows: list[tuple[str | Text, ...]] = []
    for row, prediction in zip(texts, predictions, strict=True):
        figures = [prediction.probability] if prediction.expected is None else [prediction.probability, prediction.expected]
        shown = text(row, overflow="ellipsis", no_wrap=True)
        rows.append((shown, ", ".join(prediction.labels) or "(none)", *(f"{figure:.3f}" for figure in figures)))
    _table(["text", "label", "probability", *["expected"] * ordinal], rows, right=(2, 3))


def show_check(check: Check) -> None:
    """Print what ``petkit validate`` found."""
    rows = ", ".join(f"{count:,} {part}" for part, count in check.rows.items())
    say(f"{check.task}: {rows}; {check.teachers} teachers; {check.max_length} tokens per row")
    labels, first = [], check.patterns[0].words
    for label, count in check.label_counts.items():
        words = ", ".join(f"{word.written} → {word.token} ({'+'.join(map(str, word.token_ids))})" for word in first[label])
        labels.append((label, str(count), words or "found in stage A"))
    if check.candidates is None:
        _table(["label", "examples", "label words as tokens"], labels, right=(1,))
    else:
        say(check.candidates.summary)
    for view in check.patterns:
        say(f"pattern {view.id}: {view.cut_share:.1%} of the unlabelled rows are shortened")
        say("  " + " | ".join(view.rendered))
        say("  " + view.tokens)
        if view.words != first:
            forms = "; ".join(f"{label}: {', '.join(word.token for word in words)}" for label, words in view.words.items())
            say(f"  label words here: {forms}")
    for remark in check.remarks:
        say(remark)
    _warn(check.warnings)
    say("No mistakes found.")


def show_zero_shot(found: ZeroShot) -> None:
    """Print the untrained accuracies, or the label shares where no row has a label."""
    everyone = {**{f"pattern {name}": answers for name, answers in found.patterns.items()}, "ensemble": found.ensemble}
    fixed = bool(found.ensemble.label_shares)  # candidates are not calibrated
    ways = ("raw", "contextual", "batch") if fixed else ("raw",)
    for part in found.ensemble.accuracy:
        title = f"{_right(found.label_kind == 'multi')} on {found.rows[part]:,} {part} rows"
        _table([title, *ways], [(name, *(_percent(by.accuracy[part][way]) for way in ways)) for name, by in everyone.items()])
    if not found.ensemble.accuracy and fixed:
        title = f"labels of {found.rows['unlabeled']:,} rows (batch)"
        shares = [(name, *map(_percent, by.label_shares["batch"].values())) for name, by in everyone.items()]
        _table([title, *found.ensemble.label_shares["batch"]], shares)
    for remark in found.notes:
        say(f"note: {remark}")


def show_ranking(ranking: Ranking) -> None:
    """Print the patterns, best first, and what the pipeline makes of that order."""
    rows = []
    for row in ranking.patterns:
        agreement = "" if row.agreement is None else _percent(row.agreement)
        cross_entropy = "" if row.cross_entropy is None else f"{row.cross_entropy:.3f}"
        information = [f"{nats:.4f}" for nats in (row.information, row.raw_information)]
        rows.append((row.id, f"{row.rank:.2f}", *information, agreement, cross_entropy))
    _table(["pattern", "mean rank", "information (nats)", "uncalibrated", "agreement", "cross-entropy (nats)"], rows)
    say(f"note: after batch calibration on {ranking.sampled:,} unlabelled rows; the uncalibrated information does not count")
    if ranking.left_out:
        say(f"note: no cross-entropy: {ranking.left_out}")
    if ranking.kept == len(ranking.patterns):
        say("all patterns are kept; keep_patterns: N in the pipeline uses the best N")
    else:
        say(f"keep_patterns: {ranking.kept} in the pipeline uses the first {ranking.kept} of these")


def show_verbalizer(found: FoundVerbalizer) -> None:
    """Print found label words, next to those that the pipeline names."""
    rows = []
    for label, words in found.words.items():
        named = found.named.get(label, {})
        for word, score in {**words, **named}.items():
            origin = [*["found"] * (word in words), *["named"] * (word in named)]
            rows.append((label, word, f"{score:.2f}", ", ".join(origin)))
    _table(["label", "word", "log-likelihood ratio", ""], rows, right=(2,))
    patterns = f"pattern {found.patterns[0]}" if len(found.patterns) == 1 else f"sum over {len(found.patterns)} patterns"
    say(f"note: found on {found.rows:,} labelled rows; in nats per row, {patterns}")


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what ``petkit doctor`` found."""
    marks = {True: text("ok"), False: text("BAD", style="red")}
    _table(["", "", ""], [(marks[finding.healthy], finding.name, finding.value) for finding in findings], right=())


def show_verification(found: Verification) -> None:
    """Print what ``petkit verify`` found."""
    _table(["", "", "", "what to do"], [(entry.name, entry.state, entry.why, entry.hint) for entry in found.entries], right=())
    whole = "Nothing is damaged." if found.finished else "Nothing is damaged; not all of it is finished."
    unread = "Not all of it can be read; what was read is not damaged."
    say(whole if found.whole else "Damaged: see above." if found.damaged else unread)


def show_library(entries: Sequence[Entry]) -> None:
    """Print the entries of petkit's library."""
    _table(["", "name", "description"], [(entry.kind, entry.name, entry.description) for entry in entries], right=())


def show_scaffold(scaffold: Scaffold) -> None:
    """Print what ``petkit init`` wrote and what comes next."""
    for name in scaffold.files:
        say(f"{scaffold.folder / name}")
    for remark in scaffold.notes:
        say(f"note: {remark}")
    say(f"Next: petkit validate {scaffold.folder / 'pipeline.yaml'}")


def text(content: str, **looks: Any) -> Text:
    """Return text that shows and does nothing else; everything that is printed passes here."""
    return Text(visible(content), **looks)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Container[int] = range(1, 10_000)) -> None:
    """Print a table; ``right`` are the columns aligned to the right, by default all but the first."""
    table = Table(box=None, pad_edge=False, show_header=any(titles))
    for index, title in enumerate(titles):
        table.add_column(text(title), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(text(cell) if isinstance(cell, str) else cell for cell in row))
    out.print(table)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        say(f"warning: {warning}", style="yellow")


def _right(multi: bool) -> str:
    """Return what the share of rows answered right is called."""
    return "all labels right" if multi else "accuracy"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
