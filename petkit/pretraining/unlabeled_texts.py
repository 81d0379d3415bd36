"""The unlabelled set and the model that reads it: what is trained on texts alone needs nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from petkit.config.loader import Pipeline
from petkit.data.examples import ExampleSource
from petkit.engine.device import Device
from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.models.batch import IndexArray
from petkit.models.loading import (
    EMBEDDED,
    check_masked_lm,
    load_config,
    load_masked_lm,
    load_tokenizer,
    longest_input,
    model_fingerprint,
)
from petkit.prompts.pvp import task_fields
from petkit.runs.fingerprint import Inputs
from petkit.task.model_checks import length_of_rows

_HELD_OUT_SHARE, _HELD_OUT_MOST = 0.05, 512
# Other draws from the seed, in addition to a step's own [seed, step] (numpy takes [seed, 0] for the seed alone).
_ROWS_ASIDE = (0, 1)


class UnlabeledTexts:
    """The unlabelled set and the model that reads it. Building it checks both and writes nothing.

    Labelled rows and label words do not matter here and may be missing or wrong.

    Args:
        doing: what is done with the texts, for messages.
        virtual_tokens: tokens that will precede every row.
        virtual_tokens_at: the option that sets them.

    Raises:
        InvalidInput: all mistakes, at once.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        doing: str,
        virtual_tokens: int = 0,
        virtual_tokens_at: tuple[str, ...] = (),
    ) -> None:
        self.pipeline, self.spec = pipeline, pipeline.spec
        self.fields = task_fields(self.spec.patterns)
        self.source = ExampleSource(self.spec.data.unlabeled, self.spec.data, self.fields, None)
        problems = self._check_model(virtual_tokens, virtual_tokens_at)
        reads_model = not problems
        self.scan = self.source.scan()
        for found in self.scan.problems:
            # A file that is not there is a mistake in the pipeline: say where it is named.
            named = found.line is None and found.message == "no such file"
            place = ("data", "unlabeled")
            problems.append(pipeline.problem(place, f"{found.file}: no such file") if named else found)
        if self.scan.rows == 1 and not self.scan.problems:
            problems.append(Problem.of_file(self.source.shown, f"contains one row only; {doing} needs another to hold out"))
        if reads_model:
            problems += self._check_further(readable=not self.scan.problems and self.scan.rows > 1)
        if problems:
            raise InvalidInput(problems)

    def inputs(self, device: Device) -> Inputs:
        """Return what anything trained on the texts depends on."""
        return {
            "step.version": 1,
            "fields": list(self.fields),
            "model": model_fingerprint(self.spec.model),
            "max_length": self.max_length,
            "truncate": self.spec.truncate,
            "precision": device.precision,
            "data.unlabeled": self.scan.sha256,
        }

    def _check_model(self, virtual_tokens: int, virtual_tokens_at: tuple[str, ...]) -> list[Problem]:
        spec, pipeline = self.spec, self.pipeline
        try:
            config = load_config(spec.model)
            check_masked_lm(config, spec.model)
            self.tokenizer = load_tokenizer(spec.model)
            if spec.model != EMBEDDED:  # a missing head and damaged weights show only when weights meet architecture
                self._try_out(load_masked_lm(spec.model))
        except ModelRefused as error:
            return [pipeline.problem(("model",), str(error))]
        problems: list[Problem] = []
        positions = longest_input(config, self.tokenizer)
        length = length_of_rows(pipeline, positions, self.tokenizer, virtual_tokens, virtual_tokens_at, problems)
        if length is not None:
            self.max_length = length
        return problems

    def _try_out(self, model: Any) -> None:
        """Refuse a model, not the embedded one, that cannot be trained this way.

        Raises:
            ModelRefused: with the hint.
        """

    def _check_further(self, *, readable: bool) -> list[Problem]:
        """Return what else is wrong, where the model is sound.

        Args:
            readable: whether the rows are sound as well.
        """
        return []


def hold_out(rows: IndexArray, seed: int) -> tuple[IndexArray, IndexArray]:
    """Return the rows to train on and held-out rows to see whether it helped: a twentieth, 512 at most.

    Returns:
        The former in the order of ``rows``, the latter as drawn.
    """
    order = rows[np.random.default_rng([seed, *_ROWS_ASIDE]).permutation(len(rows))]
    count = min(_HELD_OUT_MOST, math.ceil(_HELD_OUT_SHARE * len(order)))
    return rows[np.isin(rows, order[count:])], order[:count]
