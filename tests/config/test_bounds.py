"""Every number that a user can write is bounded below and above, so that no value overflows or fills the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from petkit.config.schema.adapter import AnyAdapter, LoraSpec, PromptEncoderSpec
from petkit.config.schema.pipeline import PipelineSpec
from petkit.config.schema.section import PositiveFloat, Temperature, Weight
from petkit.config.schema.training import SoftLabelsSpec


def numbers(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every number in a JSON schema with its place."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield place, schema
        for key, value in schema.items():
            yield from numbers(value, f"{place}/{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from numbers(value, place)


@pytest.mark.parametrize("schema", [PipelineSpec.model_json_schema(), TypeAdapter(AnyAdapter).json_schema()])
def test_every_number_has_bounds(schema: dict[str, Any]) -> None:
    found = list(numbers(schema))
    open_ended = [
        place
        for place, number in found
        for bounds in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
        if not any(bound in number for bound in bounds)
    ]

    assert len(found) > 10
    assert open_ended == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PositiveFloat, 1e-46),
        (PositiveFloat, 1e200),
        (Weight, 1e308),
        (Temperature, 1e-46),
        (Temperature, 1e200),
        (Temperature, float("nan")),
    ],
)
def test_numbers_stay_numbers_in_float32(kind: Any, value: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


def test_wide_networks_of_adapters_are_refused() -> None:
    with pytest.raises(ValidationError, match="4096"):
        PromptEncoderSpec(kind="p_tuning_v1", encoder_size=1_000_000_000)
    with pytest.raises(ValidationError, match="4096"):
        TypeAdapter(AnyAdapter).validate_python({"kind": "p_tuning_v2", "projection": True, "projection_size": 2_000_000})
    assert LoraSpec(kind="lora", rank=4096).rank == 4096


def test_shares_of_a_prior_cannot_overflow_in_their_sum() -> None:
    with pytest.raises(ValidationError):
        SoftLabelsSpec(prior={"good": 1e308, "bad": 1e308})
    assert SoftLabelsSpec(prior={"good": 1e38, "bad": 1.0}).prior == {"good": 1e38, "bad": 1.0}
