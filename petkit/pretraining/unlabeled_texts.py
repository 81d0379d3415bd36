"""The unlabelled set and the model that reads it: what is trained on texts alone needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from petkit.config.loader import Pipeline
from petkit.config.schema.training import AdaptSpec, PretrainPromptSpec
from petkit.data.examples import Example, ExampleSource
from petkit.engine.device import Device
from petkit.errors import InvalidInput, ModelRefused, Problem
from petkit.models.loading import EMBEDDED, check_language_model, load_config, load_masked_lm, load_tokenizer, model_fingerprint
from petkit.prompts.pvp import task_fields
from petkit.runs.fingerprint import Inputs, flat
from petkit.task.checks import scan_problems
from petkit.task.model_checks import length_of_rows


class UnlabeledTexts:
    """The unlabelled set and the model that reads it, both checked. Labelled rows and label words may be missing or wrong.

    Args:
        section: of the pipeline, with the settings of the training; ``doing`` names it in messages.
    """

    settings: AdaptSpec | PretrainPromptSpec

    def __init__(self, pipeline: Pipeline, section: Literal["adapt", "pretrain_prompt"], doing: str) -> None:
        self.pipeline, self.spec, self.section = pipeline, pipeline.spec, section
        self.settings = getattr(pipeline.spec, section)
        self.fields = task_fields(self.spec.patterns)
        self.source = ExampleSource(self.spec.data.unlabeled, self.spec.data, self.fields, None)
        problems = self._model_problems()
        reads_model = not problems
        self.scan = self.source.scan()
        problems += scan_problems(pipeline, "unlabeled", self.scan)
        if self.scan.rows == 1 and not self.scan.problems:
            problems.append(Problem.of_file(self.source.shown, f"contains one row only; {doing} needs another to hold out"))
        if reads_model:
            problems += self._further_problems(readable=not self.scan.problems and self.scan.rows > 1)
        if problems:
            raise InvalidInput(problems)

    def rows(self) -> Iterator[Example]:
        """Yield the rows, which must be those that were checked."""
        return self.source.unchanged(self.scan)

    def inputs(self, device: Device) -> Inputs:
        """Return what anything trained on the texts depends on."""
        return {
            # 2: other units are dropped in the last layer.
            "step.version": 2 if self.settings.drops_units else 1,
            "fields": list(self.fields),
            "model": model_fingerprint(self.spec.model),
            "max_length": self.max_length,
            "truncate": self.spec.truncate,
            "precision": device.precision,
            "data.unlabeled": self.scan.sha256,
            **flat(self.section, self.settings.fingerprint_settings()),
        }

    def _model_problems(self) -> list[Problem]:
        name = self.spec.model
        try:
            config = load_config(name)
            check_language_model(config, name, masked=True)
            self.tokenizer = load_tokenizer(name)
            if name != EMBEDDED:  # a missing head and damaged weights show only when weights meet architecture
                self._try_out(load_masked_lm(name))
        except ModelRefused as error:
            return [self.pipeline.problem(("model",), str(error))]
        virtual = self.settings.tokens if isinstance(self.settings, PretrainPromptSpec) else 0
        at = (self.section, "tokens")
        self.max_length, problems = length_of_rows(self.pipeline, config, self.tokenizer, virtual, at)
        return problems

    def _try_out(self, model: Any) -> None:
        """Raise :class:`ModelRefused` for a model, not the embedded one, that cannot be trained this way."""

    def _further_problems(self, *, readable: bool) -> list[Problem]:
        """Return what else is wrong where the model is sound; ``readable`` says that the rows are sound as well."""
        return []
