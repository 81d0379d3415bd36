"""Names that a pipeline file may use for losses, baselines and the like, and what they mean; other packages may add to them.

A package adds a loss named ``mine`` by an entry point in its own ``pyproject.toml``::

    [project.entry-points."petkit.losses"]
    mine = "its_package.losses:Mine"

Reading the names loads nothing; an entry point is loaded when what it names is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from petkit.errors import InvalidInput, Problem, first_line

T = TypeVar("T")


class Names:
    """The names of a kind: petkit's own and entry points ``petkit.<kind>``; a field ``Annotated[str, names]`` takes these only."""

    def __init__(self, kind: str, *built_in: str) -> None:
        self.kind = kind
        self.built_in = built_in

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from _added(self.kind, self.built_in)

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or (isinstance(name, str) and name in _added(self.kind, self.built_in))

    def load(self, name: str) -> Any:
        """Return what another package added under ``name`` (KeyError: none did)."""
        entry = _added(self.kind, self.built_in)[name]
        try:
            return entry.load()
        except Exception as error:
            raise InvalidInput([_problem(self.kind, entry, f"cannot be loaded: {first_line(error)}")]) from error

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def check(self, name: Any) -> Any:
        """Return a known name; raise pydantic's error for anything else."""
        if name not in self:
            *most, last = map(repr, self)
            raise PydanticCustomError("unknown_name", "must be {known}", {"known": f"{', '.join(most)} or {last}"})
        return name


class Registry(Generic[T]):
    """What the names of one kind (or a kind that no pipeline file names) mean: an object for each built-in name, or an entry point."""

    def __init__(self, names: Names | str, built_in: Mapping[str, T]) -> None:
        self.names = Names(names, *built_in) if isinstance(names, str) else names
        self._built_in = built_in
        if differing := set(self.names.built_in) ^ set(built_in):
            raise LookupError(f"petkit.{self.names.kind}: named or registered, but not both: {sorted(differing)}")

    def __getitem__(self, name: str) -> T:
        """Return what ``name`` means (KeyError: unknown)."""
        loaded: T = self._built_in[name] if name in self._built_in else self.names.load(name)
        return loaded


@cache
def _added(kind: str, built_in: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Return the entry points of other packages by name; refuse one that is built in, or added by two packages."""
    added: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"petkit.{kind}"):
        if entry.name in built_in:
            raise InvalidInput([_problem(kind, entry, "is a name of petkit itself")])
        if added.setdefault(entry.name, entry).value != entry.value:
            raise InvalidInput([_problem(kind, entry, f"is also added as {added[entry.name].value}")])
    return added


def _problem(kind: str, entry: EntryPoint, message: str) -> Problem:
    package = entry.dist.name if entry.dist else entry.module
    return Problem.of_option(f"entry point petkit.{kind}", f"{entry.name} = {entry.value} {message}", f"fix or remove {package}")


# What a pipeline file can choose; the packages that implement these register what each name means.
ADAPTER_NAMES = Names("adapters", "lora", "qlora", "ia3", "p_tuning_v2", "p_tuning_v1", "prompt_tuning")
BASELINE_NAMES = Names("baselines", "majority", "tfidf", "zero_shot", "probe", "supervised", "setfit")
CALIBRATION_NAMES = Names("calibrations", "none", "contextual", "batch")
LABEL_SCORER_NAMES = Names("label_scorers", "words", "soft", "prototype")
LOSS_NAMES = Names("losses", "cross_entropy", "hinge", "decoupled_label", "next_token")
DIVERGENCE_NAMES = Names("divergences", "kl", "reverse_kl", "jensen_shannon")
