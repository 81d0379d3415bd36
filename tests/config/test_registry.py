"""Names of losses, baselines and the like, of petkit and of other packages."""

from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from petkit.config import registry
from petkit.config.registry import Names, Registry
from petkit.config.schema.adapter import AdapterSection
from petkit.config.schema.training import TeachersSpec
from petkit.errors import InvalidInput


@pytest.fixture
def added(monkeypatch):
    """Let other packages add entry points."""
    found = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in found if entry.group == group])
    registry._added.cache_clear()
    yield lambda name, value: found.append(EntryPoint(name, value, "petkit.things"))
    registry._added.cache_clear()


def test_built_in_names_need_no_entry_points():
    things = Registry(Names("things", "one", "two"), {"one": 1, "two": 2})
    assert things["two"] == 2
    assert list(things.names) == ["one", "two"]


def test_another_package_adds_a_name(added):
    added("mine", "math:pi")
    things = Registry(Names("things", "one"), {"one": 1})
    assert "mine" in things.names and things.names.check("mine") == "mine"
    assert things["mine"] == pytest.approx(3.14159, abs=1e-5)


def test_other_kinds_do_not_know_the_name(added):
    added("mine", "math:pi")
    assert "mine" not in Names("others", "one")


def test_an_unknown_name_is_refused_with_all_known_ones(added):
    added("mine", "math:pi")
    with pytest.raises(PydanticCustomError, match="must be 'one', 'two' or 'mine'"):
        Names("things", "one", "two").check("three")


@pytest.mark.parametrize("value", [["one"], None, 1])
def test_what_is_not_text_is_refused_as_well(value):
    with pytest.raises(PydanticCustomError, match="must be 'one' or 'two'"):
        Names("things", "one", "two").check(value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("one", "math:pi")], "entry point petkit.things: one = math:pi is a name of petkit itself"),
        ([("mine", "math:pi"), ("mine", "math:e")], "mine = math:e is also added as math:pi"),
    ],
)
def test_a_name_means_one_thing(added, entries, message):
    for entry in entries:
        added(*entry)
    with pytest.raises(InvalidInput, match=message):
        list(Names("things", "one"))


@pytest.mark.parametrize("value", ["no_such_module:thing", "math:no_such_thing"])
def test_a_broken_entry_point_is_named_with_its_package(added, value):
    added("mine", value)
    with pytest.raises(InvalidInput, match=rf"mine = {value} cannot be loaded: .* \(fix or remove {value.split(':')[0]}\)"):
        Registry("things", {"one": 1})["mine"]


def test_names_and_registrations_agree():
    with pytest.raises(LookupError, match="'three', 'two'"):
        Registry(Names("things", "one", "two"), {"one": 1, "three": 3})


def test_a_field_takes_known_names_only(added):
    added("mine", "math:pi")
    choice = TypeAdapter(Annotated[str, Names("things", "one")])
    assert choice.validate_python("mine") == "mine"
    with pytest.raises(ValidationError, match="must be 'one' or 'mine'"):
        choice.validate_python("three")


class External(AdapterSection):
    """The options of an adapter that another package adds."""

    kind: Literal["external"]
    rank: int = 3


class ExternalAdapter:
    settings = External


def test_another_package_adds_an_adapter_with_its_options(monkeypatch):
    entry = EntryPoint("external", f"{__name__}:ExternalAdapter", "petkit.adapters")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    registry._added.cache_clear()
    try:
        settings = TeachersSpec.model_validate({"adapter": {"kind": "external", "rank": 5}})
        assert settings.model_dump()["adapter"] == {"kind": "external", "rank": 5} == settings.fingerprint_settings()["adapter"]
        assert TeachersSpec.model_validate({"adapter": "external"}).adapted == External(kind="external")
        with pytest.raises(ValidationError) as raised:
            TeachersSpec.model_validate({"adapter": {"kind": "external", "rank": "x", "other": 1}})
        assert {error["loc"] for error in raised.value.errors()} == {("adapter", "rank"), ("adapter", "other")}
    finally:
        registry._added.cache_clear()
