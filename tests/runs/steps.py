"""A step to publish in a run folder, small enough to be damaged in every place."""

from __future__ import annotations

from pathlib import Path

from petkit.runs.fingerprint import Inputs
from petkit.runs.store import RunStore

STEP = "stage_a/colon-1/model"
INPUTS: Inputs = {"teachers.steps": 100, "model": "0123456789abcdef" * 4}
CHANGED: Inputs = {**INPUTS, "teachers.steps": 200}


def publish(store: RunStore, step: str = STEP, inputs: Inputs = INPUTS, content: str = "weights", **facts: float) -> None:
    with store.locked():
        store.write_manifest({"task": "test"})
        with store.publishing(step, inputs, dict(facts)) as folder:
            (folder / "model.bin").write_text(content)
            (folder / "logits").mkdir()
            (folder / "logits" / "part.bin").write_text(content * 2)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.write_bytes(content)
