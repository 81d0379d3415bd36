"""The objective of next-sentence prediction as a cloze question (Gu et al. 2022, PPT, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.config.schema.training import PretrainPromptSpec
from petkit.engine.device import inference
from petkit.engine.sampling import StepRows
from petkit.losses import cross_entropy
from petkit.models.batch import Batch, collate
from petkit.pretraining.sentences import NEXT, OTHER_TEXT, SAME_TEXT, Numbers, SentenceIndex, sentence_examples
from petkit.pretraining.training import PAIRS, Training
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.prompts.pvp import PVP, compile_pvp
from petkit.prompts.verbalizer import WordProblem

# The paper's: ``first <slot>. second``.
_PATTERN = PatternSpec(id="next-sentence", text="{first} {mask}. {second}")
# Pairs to check on, whatever the number of held-out rows.
_HELD_OUT_PAIRS, _AT_ONCE = 256, 64


def question(texts: UnlabeledTexts, settings: PretrainPromptSpec, *, three: bool) -> tuple[PVP, list[WordProblem]]:
    """Return the question, of ``three`` possible answers or without ``same_text``, and what is wrong with its label words."""
    words = settings.words
    same_text = {"same_text": (words.same_text,)} if three else {}
    labels: dict[str, tuple[str, ...]] = {"next": (words.next,), **same_text, "other_text": (words.other_text,)}
    return compile_pvp(_PATTERN, VerbalizerSpec(labels=labels), texts.tokenizer, texts.max_length, texts.spec.truncate)


class SentenceQuestions:
    """Predict whether the second of two sentences follows the first; the model gives label logits, ``(batch, labels)``.

    Held-out sentences never come up in training.
    """

    def __init__(self, training: Training, settings: PretrainPromptSpec, index: SentenceIndex) -> None:
        self.training, self.texts, self.index = training, training.texts, index
        self.pvp, _ = question(self.texts, settings, three=index.has_three)
        # Class numbers of the answers that can be right, in the order of the label words.
        self._classes = [NEXT, SAME_TEXT, OTHER_TEXT] if index.has_three else [NEXT, OTHER_TEXT]
        self._first, self._second = sorted(self.pvp.pattern.keys, key=lambda key: key.field)
        sentences = sentence_examples(self.texts.rows(), ("first", "second"))
        self.tokens = training.tokens(sentences, self.pvp.pattern.keys, "sentences")
        self.anchors = index.texts_with_pairs(training.kept)
        self.pool = index.in_rows(training.kept)
        # A single held-out row has no other row: other texts' sentences come from anywhere.
        everywhere, texts = np.arange(index.starts[-1]), index.texts_with_pairs(training.held_out)
        self.held_out = index.draw(np.resize(texts, _HELD_OUT_PAIRS), everywhere, training.random(PAIRS))

    def batches(self) -> Iterator[StepRows]:
        # All alike: a text's length says nothing of the length of its sentences.
        return self.training.batches(self.anchors, np.ones(len(self.anchors), np.int64))

    def loss(self, model: nn.Module, step: StepRows) -> Tensor:
        pairs, answers = self.encoded_pairs(*self.index.draw(step.rows, self.pool, step.random))
        return cross_entropy(model(pairs), answers)

    def held_out_figures(self, model: nn.Module) -> dict[str, float]:
        total = right = 0.0
        with inference(self.training.device):
            for start in range(0, _HELD_OUT_PAIRS, _AT_ONCE):
                pairs, answers = self.encoded_pairs(*(part[start : start + _AT_ONCE] for part in self.held_out))
                logits = model(pairs)  # (batch, labels)
                total += cross_entropy(logits, answers).item() * len(answers)
                right += (logits.argmax(1) == answers).sum().item()
        return {"loss": total / _HELD_OUT_PAIRS, "accuracy": right / _HELD_OUT_PAIRS}

    def encoded_pairs(self, first: Numbers, second: Numbers, answers: Numbers) -> tuple[Batch, Tensor]:
        """Return pairs as the model reads them, and the numbers of their answers' words, shape ``(pairs,)``."""
        taken = zip(self.tokens.take(first), self.tokens.take(second), strict=True)
        rows = [self.pvp.encode({self._first: a[self._first], self._second: b[self._second]}) for a, b in taken]
        device, classes = self.training.device.name, torch.from_numpy(np.searchsorted(self._classes, answers))
        return collate(rows, self.texts.tokenizer).to(device), classes.to(device)
