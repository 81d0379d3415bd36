"""What appears on the terminal: progress, plans, tables. The only module that prints, with :mod:`petkit.cli.progress`.

Results go to standard output, progress and errors to standard error. Text from data, files and models is never
interpreted: neither as markup nor, whatever characters are in it, by the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from petkit.errors import PetkitError
from petkit.formatting import in_one_line, visible, visible_json

if TYPE_CHECKING:
    from petkit.commands.doctor import Finding
    from petkit.commands.init_project import Scaffold
    from petkit.commands.search_verbalizer import FoundVerbalizer
    from petkit.commands.validate import Check
    from petkit.commands.zero_shot import ZeroShot
    from petkit.predict.predictor import Prediction
    from petkit.prompt_search.pattern_ranking import Ranking
    from petkit.runs.verify import Verification
    from petkit.stages.pipeline import Forecast, RunResult


class Remarks(Console):
    """A console for remarks: when its reader has gone, the work continues (rich alone would end the process)."""

    def on_broken_pipe(self) -> None:
        """Say nothing further."""
        self.quiet = True


_terminal = sys.stdout.isatty()
# Lines and tables are fitted to a terminal; a file or a program gets them as long as they are.
out = Console(highlight=False, soft_wrap=not _terminal, width=None if _terminal else 10_000)
err = Remarks(stderr=True, highlight=False, soft_wrap=True)


def show_error(error: PetkitError) -> None:
    """Print an error's own words."""
    err.print(text(str(error), style="red" if err.is_terminal else ""))


def show_failure(error: Exception) -> None:
    """Print in one line what the user's input did not cause: the system's refusal, or petkit's own fault."""
    if isinstance(error, OSError) and error.strerror:
        note(in_one_line(": ".join(map(str, filter(None, ("petkit", error.filename, error.strerror))))))
        return
    message = f"petkit: internal error: {type(error).__name__}: {error} (set PETKIT_DEBUG=1 to see where, and please report it)"
    note(in_one_line(message))


def say(line: str) -> None:
    """Print a line of result."""
    out.print(text(line))


def note(remark: str) -> None:
    """Print a remark to standard error."""
    err.print(text(remark))


def show_json(data: Any) -> None:
    """Print data as JSON."""
    sys.stdout.write(visible_json(json.dumps(data, indent=2, ensure_ascii=False)) + "\n")


def show_forecast(forecast: Forecast) -> None:
    """Print what a run would do, and what that would take."""
    table = _table("step", "action", "why")
    for entry in forecast.steps:
        table.add_row(text(entry.step), text(entry.action), text(entry.why))
    out.print(table)
    for line in [forecast.unknown] * bool(forecast.unknown) + (forecast.estimate.summary() if forecast.estimate else []):
        say(line)


def show_result(result: RunResult) -> None:
    """Print the table at the end of a run: untrained and trained accuracy, and the path of the model."""
    if not result.ran:
        say("Nothing to do: every step is finished and up to date.")
    if result.metrics is not None:
        metrics = result.metrics
        title = f"{_right(metrics['label_kind'] == 'multi')} on {metrics['rows']:,} test rows"
        table = _table(title, "untrained", "calibrated", "trained", right=(1, 2, 3))
        for name, row in metrics["teachers"].items():
            figures = [row["untrained_accuracy"], row["calibrated_accuracy"], *[row["accuracy"]] * row["trained"]]
            table.add_row(text(f"teacher {name}"), *map(_percent, figures))
        before = metrics["zero_shot"]["ensemble"]
        table.add_row("ensemble", *map(_percent, (before["raw"], before["batch"], metrics["ensemble"]["accuracy"])))
        low, high = metrics["student"]["accuracy_interval"]
        table.add_row("student", "", "", f"{_percent(metrics['student']['accuracy'])}  ({_percent(low)} to {_percent(high)})")
        for name, row in metrics.get("baselines", {}).items():
            accuracy = _percent(row["metrics"]["accuracy"])
            table.add_row(text(f"baseline {name}"), *(("", accuracy, "") if name == "zero_shot" else ("", "", accuracy)))
        out.print(table)
        for warning in metrics["warnings"]:
            out.print(text(f"warning: {warning}", style="yellow"))
        if "verdict" in metrics:
            say(metrics["verdict"]["text"])
    if result.has_student:
        say(f"classifier: {result.student}")
        if result.student_base is not None:
            say(f"this one is an adapter: it needs petkit and {result.student_base} to answer")
    elif (result.student / "config.json").is_file():
        say("the classifier in the run folder was made from other soft labels or settings (petkit stage-c renews it)")


def show_metrics(metrics: dict[str, Any]) -> None:
    """Print an evaluation."""
    table = _table("figure", "value", "95 % interval", right=(1, 2))
    multi = "micro_f1" in metrics
    titles = {"accuracy": _right(multi), "micro_f1": "micro-F1", "macro_f1": "macro-F1"}
    for name in [name for name in titles if name in metrics]:
        low, high = metrics[f"{name}_interval"]
        table.add_row(titles[name], _percent(metrics[name]), f"{_percent(low)} to {_percent(high)}")
    if multi:
        table.add_row("decisions right", _percent(metrics["label_accuracy"]), "")
    titles = {"mae": "MAE (places)", "expected_mae": "MAE of the expected place", "quadratic_kappa": "quadratic κ"}
    titles |= {"nll": "NLL (nats)", "brier": "Brier score", "ece": "ECE"}
    for name in [name for name in titles if name in metrics]:
        table.add_row(titles[name], f"{metrics[name]:.4f}", "")
    table.add_row("rows", f"{metrics['rows']:,}", "")
    out.print(table)
    labels = _table("label", "precision", "recall", "F1", "rows", right=(1, 2, 3, 4))
    for label, row in metrics["labels"].items():
        labels.add_row(text(label), _percent(row["precision"]), _percent(row["recall"]), _percent(row["f1"]), f"{row['rows']:,}")
    out.print(labels)
    if multi:
        return
    confusion = _table("gold \\ predicted", *metrics["labels"], right=tuple(range(1, len(metrics["labels"]) + 1)))
    for label, counts in zip(metrics["labels"], metrics["confusion"], strict=True):
        confusion.add_row(text(label), *map(str, counts))
    out.print(confusion)


def show_predictions(texts: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Print predictions for texts given on the command line."""
    ordinal = any(prediction.expected is not None for prediction in predictions)
    table = _table("text", "label", "probability", *(["expected place"] if ordinal else []), right=(2, 3))
    for asked, prediction in zip(texts, predictions, strict=True):
        figures = [prediction.probability] if prediction.expected is None else [prediction.probability, prediction.expected]
        label = ", ".join(prediction.labels) or "(none)"
        table.add_row(text(asked, overflow="ellipsis", no_wrap=True), text(label), *(f"{figure:.3f}" for figure in figures))
    out.print(table)


def show_check(check: Check) -> None:
    """Print what ``petkit validate`` found."""
    rows = ", ".join(f"{count:,} {part}" for part, count in check.rows.items())
    say(f"{check.task}: {rows}; {check.teachers} teachers; {check.max_length} tokens per row")
    counts = _table("label", "examples", "label words as tokens", right=(1,))
    first = check.patterns[0].words
    for label, count in check.label_counts.items():
        words = ", ".join(f"{word.written} → {word.token} ({'+'.join(map(str, word.token_ids))})" for word in first[label])
        counts.add_row(text(label), str(count), text(words or "found in stage A"))
    out.print(counts)
    for view in check.patterns:
        say(f"pattern {view.id}: {view.cut_share:.1%} of the unlabelled rows are shortened")
        say("  " + " | ".join(view.rendered))
        say("  " + view.tokens)
        if view.words != first:
            forms = "; ".join(f"{label}: {', '.join(word.token for word in words)}" for label, words in view.words.items())
            say(f"  label words here: {forms}")
    for warning in check.warnings:
        out.print(text(f"warning: {warning}", style="yellow"))
    say("No mistakes found.")


def show_zero_shot(found: ZeroShot) -> None:
    """Print the untrained accuracies, or the label shares where no row has a label."""
    everyone = {**{f"pattern {name}": answers for name, answers in found.patterns.items()}, "ensemble": found.ensemble}
    for part in found.ensemble.accuracy:
        title = f"{_right(found.label_kind == 'multi')} on {found.rows[part]:,} {part} rows"
        table = _table(title, "raw", "contextual", "batch", right=(1, 2, 3))
        for name, answers in everyone.items():
            table.add_row(text(name), *(_percent(answers.accuracy[part][way]) for way in ("raw", "contextual", "batch")))
        out.print(table)
    if not found.ensemble.accuracy:
        labels = found.ensemble.label_shares["batch"]
        shares = _table(f"labels of {found.rows['unlabeled']:,} rows (batch)", *labels, right=tuple(range(1, len(labels) + 1)))
        for name, answers in everyone.items():
            shares.add_row(text(name), *map(_percent, answers.label_shares["batch"].values()))
        out.print(shares)
    for remark in found.notes:
        say(f"note: {remark}")


def show_ranking(ranking: Ranking) -> None:
    """Print the patterns, best first, and what the pipeline makes of that order."""
    table = _table("pattern", "mean rank", "information (nats)", "agreement", "cross-entropy (nats)", right=(1, 2, 3, 4))
    for row in ranking.patterns:
        agreement = "" if row.agreement is None else _percent(row.agreement)
        cross_entropy = "" if row.cross_entropy is None else f"{row.cross_entropy:.3f}"
        table.add_row(text(row.id), f"{row.rank:.2f}", f"{row.information:.4f}", agreement, cross_entropy)
    out.print(table)
    if ranking.left_out:
        say(f"note: no cross-entropy: {ranking.left_out}")
    if ranking.kept == len(ranking.patterns):
        say("all patterns are kept; keep_patterns: N in the pipeline uses the best N")
    else:
        say(f"keep_patterns: {ranking.kept} in the pipeline uses the first {ranking.kept} of these")


def show_verbalizer(found: FoundVerbalizer) -> None:
    """Print found label words, next to those that the pipeline names."""
    table = _table("label", "word", "log-likelihood ratio", "", right=(2,))
    for label, words in found.words.items():
        named = found.named.get(label, {})
        for word, score in {**words, **named}.items():
            origin = [*["found"] * (word in words), *["named"] * (word in named)]
            table.add_row(text(label), text(word), f"{score:.2f}", ", ".join(origin))
    out.print(table)
    patterns = f"pattern {found.patterns[0]}" if len(found.patterns) == 1 else f"sum over {len(found.patterns)} patterns"
    say(f"note: found on {found.rows:,} labelled rows; in nats per row, {patterns}")


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what ``petkit doctor`` found."""
    table = _table("", "", "")
    for finding in findings:
        table.add_row("ok" if finding.healthy else text("BAD", style="red"), text(finding.name), text(finding.value))
    out.print(table)


def show_verification(found: Verification) -> None:
    """Print what ``petkit verify`` found."""
    table = _table("", "", "", "what to do")
    for entry in found.entries:
        table.add_row(text(entry.name), text(entry.state), text(entry.why), text(entry.hint))
    out.print(table)
    whole = "Nothing is damaged." if found.finished else "Nothing is damaged; not all of it is finished."
    say(whole if found.whole else "Damaged: see above.")


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


def _table(*titles: str, right: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, show_header=any(titles))
    for index, title in enumerate(titles):
        table.add_column(text(title), justify="right" if index in right else "left", overflow="fold")
    return table


def _right(multi: bool) -> str:
    """Return what the share of rows answered right is called."""
    return "all labels right" if multi else "accuracy"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
