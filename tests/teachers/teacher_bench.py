"""One teacher about to take a step, and the same model untouched beside it, on six texts and the tiny tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.config.schema.training import TeachersSpec
from petkit.engine.device import Device
from petkit.engine.sampling import StepRows
from petkit.engine.training_loop import set_dropout
from petkit.models.batch import collate
from petkit.models.label_scorer import LabelScorer
from petkit.models.loading import load_masked_lm
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import PVP, compile_pvp
from petkit.teachers.models import scorer_of
from petkit.teachers.objective import TeacherObjective, TrainingRows
from tests.tiny import pieces

DEVICE = Device("cpu", "float32", 1)
TOKENIZER = pieces("wordpiece")
WORDS = {"Sports": ["sports", "football"], "Science": ["science"], "World": ["world"]}
LABELS = list(WORDS)
TEXTS = ["the game was very good", "it is a question", "market news", "not the answer", "this team is bad", "all of the world"]
GOLD = torch.tensor([0, 1, 2, 1, 0, 2])
ROWS = np.array([3, 0, 4, 5])


def pvp_of(text: str | tuple[str, str], words: dict[str, list[str]] = WORDS, **verbalizer: Any) -> PVP:
    """Compile a pattern with its label words."""
    spec = VerbalizerSpec.model_validate({"labels": {label: tuple(own) for label, own in words.items()}, **verbalizer})
    pvp, problems = compile_pvp(PatternSpec(id="p", text=text), spec, TOKENIZER, 64, "tail")
    assert not problems
    return pvp


def encoded(pvp: PVP, texts: list[str] = TEXTS) -> list[Encoded]:
    """Return texts ready for the model."""
    return pvp.encode_texts([{"text": text} for text in texts], TOKENIZER)


@dataclass
class Bench:
    """One teacher about to take a step on ``ROWS``."""

    pvp: PVP
    scorer: LabelScorer
    objective: TeacherObjective
    plain: Any  # the same model, untouched
    seen: list[Tensor]  # what each forward pass reads

    @property
    def chosen(self) -> list[Encoded]:
        """The rows of the step."""
        return [self.objective.data.encoded[row] for row in ROWS]

    def loss(self, seed: int = 7, unlabeled: Any = None) -> Tensor:
        """Return the loss of the step."""
        return self.objective(self.scorer, StepRows(ROWS, unlabeled, np.random.default_rng(seed)))

    def label_logits(self, rows: list[Encoded], pvp: PVP | None = None) -> Tensor:
        """Return what the untouched model says of each label, ``(batch, labels)``; words of one token."""
        batch = collate(rows, TOKENIZER)
        vocabulary = self.plain(**batch.model_inputs).logits[torch.arange(len(rows)), batch.mask_positions]
        words = (pvp or self.pvp).words.token_ids
        return torch.stack([vocabulary[:, [word[0] for word in label]].mean(1) for label in words], 1)

    def cross_entropy(self) -> Tensor:
        """Return the main loss as it is by default."""
        return -self.label_logits(self.chosen).log_softmax(-1)[torch.arange(len(ROWS)), GOLD[ROWS]].mean()


def make_bench(folder: Path, pvp: PVP | None, targets: Tensor, second: PVP | None, settings: dict[str, Any]) -> Bench:
    """Put a teacher in training mode, without dropout unless it is set."""
    pvp = pvp or pvp_of("{mask} news: {text}")
    spec = TeachersSpec.model_validate(settings)
    plain, model = lively_model(folder), lively_model(folder)
    scorer = scorer_of(model, pvp, normalised=spec.loss == "decoupled_label").train()
    set_dropout(scorer, spec.dropout)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True)
    other = None if second is None else scorer_of(scorer.reader, second).train()
    rows, second_rows = encoded(pvp), [] if second is None else encoded(second)
    data = TrainingRows(rows, targets, second_rows, lambda numbers: [rows[number] for number in numbers])
    return Bench(pvp, scorer, TeacherObjective(spec, pvp, data, LABELS, TOKENIZER, DEVICE, other), plain, seen)


def lively_model(folder: Path) -> Any:
    """Return a model whose answers depend on what it reads; fresh weights give every row nearly the same."""
    model = load_masked_lm(str(folder), "eager")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.ndim > 1 else 1)
    return model


def near(found: Tensor, expected: Tensor | float) -> None:
    """Check that two losses are the same number."""
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected, dtype=torch.float32).detach(), rtol=2e-5, atol=1e-6)
