"""Which settings make finished steps stale: recorded from the release whose run folders must stay up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from petkit.config.schema import pipeline, section, training

RECORDED = Path(__file__).with_name("fingerprint_settings.jsonl").read_text(encoding="utf-8")


def without(settings: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    """Return settings without those whose dotted key is named."""
    for key in left_out:
        *sections, name = key.split(".")
        inner = settings
        for key in sections:
            inner = inner[key]
        del inner[name]
    return settings


@pytest.mark.parametrize("line", RECORDED.splitlines())
def test_settings_without_effect_are_left_out(line: str) -> None:
    name, written, left_out = json.loads(line)
    (kind,) = {getattr(module, name) for module in (pipeline, section, training) if hasattr(module, name)}
    settings = kind.model_validate(written)

    expected = without(settings.model_dump(), left_out)
    assert json.dumps(settings.fingerprint_settings()) == json.dumps(expected)  # the order of keys included
