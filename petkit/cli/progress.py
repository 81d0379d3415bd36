"""Progress of a run on standard error."""

from __future__ import annotations

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from petkit.cli import console
from petkit.events import Event, Notice, RunStarted, StepFinished, StepSkipped, StepStarted
from petkit.events import Progress as Advance
from petkit.formatting import in_one_line, size


class RunDisplay:
    """Shows a run as it happens: bars on a terminal, one line per step elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self._line_open = False
        if console.err.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
            left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))
            self._bars = Progress(*columns, *left, console=console.err, transient=True)

    def __enter__(self) -> RunDisplay:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._end_line()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if not self._quiet:
            if self._bars is not None:
                self._draw(event, self._bars)
            self._write(event)

    def _draw(self, event: Event, bars: Progress) -> None:
        """Move the bars."""
        match event:
            case RunStarted() if event.steps:
                self._whole = bars.add_task("whole run", total=event.steps, note="")
            case StepStarted():
                self._tasks[event.step] = bars.add_task(event.step, total=None, note="")
            case Advance() if event.step in self._tasks:
                bars.update(self._tasks[event.step], completed=event.done, total=event.total, note=in_one_line(event.note))
            case StepFinished() if event.step in self._tasks:
                bars.remove_task(self._tasks.pop(event.step))
                if self._whole is not None:
                    bars.advance(self._whole)

    def _write(self, event: Event) -> None:
        """Print a line, or its beginning."""
        match event:
            case RunStarted() if event.disk:
                console.note(f"about {size(event.disk)} of disk will be needed; {size(event.free)} are free", style="dim")
            case StepStarted() if self._bars is None:
                console.note(f"{event.step}: {event.why} … ", end="")
                self._line_open = True
            case StepFinished():
                facts = ", ".join(_figure(event.step, name, value) for name, value in event.facts.items() if name != "seconds")
                named = "" if self._line_open else f"{event.step}: "
                console.note(f"{named}done in {event.seconds:.1f} s" + (f" ({facts})" if facts else ""))
                self._line_open = False
            case StepSkipped():
                console.note(f"{event.step}: up to date", style="dim")
            case Notice():
                self._end_line()
                console.note(f"{event.step}: {event.message}", style="yellow")

    def _end_line(self) -> None:
        """Finish the line of a step that began and has not ended."""
        if self._line_open:
            console.note("")
            self._line_open = False


def _figure(step: str, name: str, value: object) -> str:
    """Return a fact of a step as its line shows it; entropies and the teachers' losses with their unit.

    The student's loss has none: it is multiplied by the squared temperature, and may contain distances of vectors.
    """
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    words = set(name.split("_"))
    return f"{name} {shown}" + (" nats" if "entropy" in words or ("loss" in words and step.startswith("stage_a/")) else "")
