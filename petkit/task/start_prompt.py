"""A prompt made by ``petkit pretrain-prompt``: its files, and the pipelines that start from it.

    FOLDER/prompt/adapter_config.json, adapter_model.safetensors     as PEFT writes prompt tuning
    FOLDER/prompt/petkit.json                                        what it was made for, and the hash of its tensors

A pipeline may name ``FOLDER`` or ``FOLDER/prompt``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from petkit.config.loader import Pipeline
from petkit.config.schema.adapter import PromptTuningSpec
from petkit.errors import ModelRefused, Problem, shown_path
from petkit.models.adapters.base import STATE_FILE, Adapter, read_adapter
from petkit.models.loading import model_fingerprint, shown_name
from petkit.runs.fingerprint import Inputs
from petkit.runs.store import PRETRAINED_PROMPT
from petkit.storage.atomic import write_json
from petkit.storage.integrity import mistake, sha256

PROMPT = "prompt"
_ABOUT_FILE = "petkit.json"
_VECTORS = "prompt_embeddings"


def save_prompt(adapter: Adapter, folder: Path, base: str, facts: Mapping[str, Any]) -> None:
    """Write a prompt trained on the frozen model ``base``, with ``facts`` to record in addition."""
    adapter.save(folder, base)
    made_for = {"kind": PRETRAINED_PROMPT, "base": base, "base_sha256": model_fingerprint(base)}
    write_json(folder / _ABOUT_FILE, {**made_for, **facts, "sha256": sha256(folder / STATE_FILE)})


def read_prompt(folder: str | Path, model: str, fingerprint: str) -> tuple[Path, int, str]:
    """Return the folder of a prompt's files, its number of tokens and the hash of its tensors.

    Refuse one that is missing, damaged, or not made for ``model`` of this fingerprint.
    """
    shown, named = shown_path(folder), Path(folder)
    inner = named if (named / _ABOUT_FILE).is_file() else named / PROMPT
    if not named.is_dir():
        raise ModelRefused(f"{shown}: no such folder (petkit pretrain-prompt makes one)")
    try:
        about = json.loads((inner / _ABOUT_FILE).read_text(encoding="utf-8"))
        kind, base, tokens, expected = (about[key] for key in ("kind", "base_sha256", "tokens", "sha256"))
    except FileNotFoundError:
        unfinished = "is not finished" if (named / "checkpoints").is_dir() else "contains no pretrained prompt"
        raise ModelRefused(f"{shown}: {unfinished} (petkit pretrain-prompt makes one)") from None
    except (OSError, ValueError, LookupError, TypeError):
        what = f"contains no pretrained prompt, or its {_ABOUT_FILE} is damaged"
        raise ModelRefused(f"{shown}: {what} (make the prompt again)") from None
    if kind != PRETRAINED_PROMPT:
        raise ModelRefused(f"{shown}: contains no pretrained prompt (petkit pretrain-prompt makes one)")
    state = read_adapter(inner)
    found = sha256(inner / STATE_FILE)
    if found != expected or list(state) != [_VECTORS] or len(state[_VECTORS]) != tokens:
        raise ModelRefused(f"{shown}: {STATE_FILE} has changed since it was made (make the prompt again)")
    if base != fingerprint:
        made_for = shown_name(str(about.get("base")))
        base_now = "with earlier weights" if made_for == shown_name(model) else f"not for {shown_name(model)}"
        raise ModelRefused(f"{shown}: the prompt was made for {made_for}, {base_now} (make one for this model)")
    wrong = mistake(inner)
    if wrong:
        raise ModelRefused(f"{shown}: {wrong} (make the prompt again)")
    return inner, tokens, found


def with_starts(pipeline: Pipeline) -> tuple[Pipeline, dict[str, Inputs], list[Problem]]:
    """Return the pipeline with the folders and sizes of the prompts it starts from, their fingerprints by section, and the problems.

    A section whose prompt cannot be used starts without it.
    """
    spec = pipeline.spec
    inputs: dict[str, Inputs] = {"teachers": {}, "student": {}}
    problems: list[Problem] = []
    for section, model in (("teachers", spec.model), ("student", spec.student_model)):
        settings = getattr(spec, section)
        adapter = settings.adapter
        if not isinstance(adapter, PromptTuningSpec) or adapter.start is None:
            continue
        try:
            expected = model_fingerprint(model)
        except ModelRefused:
            continue  # reported where the model is named
        found: dict[str, Any] = {"start": None}
        try:
            folder, tokens, digest = read_prompt(adapter.start, model, expected)
        except ModelRefused as error:
            problems.append(pipeline.problem((section, "adapter", "start"), str(error)))
        else:
            found = {"start": str(folder), "tokens": tokens}
            inputs[section] = {f"{section}.adapter.start": digest}
            if "tokens" in adapter.model_fields_set and adapter.tokens != tokens:
                message = f"{adapter.tokens} virtual tokens, and {shown_path(adapter.start)} contains {tokens}"
                problems.append(pipeline.problem((section, "adapter", "tokens"), message, "leave tokens out"))
        adapted = settings.model_copy(update={"adapter": adapter.model_copy(update=found)})
        spec = spec.model_copy(update={section: adapted})
    return replace(pipeline, spec=spec), inputs, problems
