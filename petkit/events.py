"""What happens during a run, as typed events, which the terminal draws and a run folder keeps in ``events.jsonl``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["a", "b", "c", "evaluation"]
STAGES: tuple[Stage, ...] = ("a", "b", "c", "evaluation")
# What --force takes: stale steps only, one stage, or everything.
FORCE_TARGETS = ("stale", *STAGES, "all")
# What --resume takes: go on with a run that is there; there must be one; there must be none.
RESUME = ("auto", "require", "never")


@dataclass(frozen=True)
class RunStarted:
    """A run began: ``steps`` to work on, the ``disk`` bytes they need without checkpoints (0: not known), those ``free``."""

    steps: int
    disk: int = 0
    free: int = 0


@dataclass(frozen=True)
class StepSkipped:
    """A step was found finished and up to date; no work was done."""

    step: str


@dataclass(frozen=True)
class StepStarted:
    """A step began; ``why`` says what made it necessary."""

    step: str
    why: str


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of work in a step (``total`` None: not known)."""

    step: str
    done: int
    total: int | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class StepFinished:
    """A step was published; ``facts`` are its few figures worth showing."""

    step: str
    seconds: float
    facts: dict[str, float | int | str]


@dataclass(frozen=True)
class Notice:
    """Something the user should know, short of an error."""

    step: str
    message: str


Event: TypeAlias = RunStarted | StepSkipped | StepStarted | Progress | StepFinished | Notice
OnEvent: TypeAlias = Callable[[Event], None]


def report_notes(notes: Iterable[str], on_event: OnEvent) -> None:
    """Report what to know about the files of rows."""
    for note in notes:
        on_event(Notice("data", note))


def ignore(event: Event) -> None:
    """Listen to nothing."""
