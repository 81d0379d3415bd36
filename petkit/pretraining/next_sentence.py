"""Next-sentence questions on the unlabelled rows: the pairs of every step, and their loss (PPT, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.config.schema.training import PretrainPromptSpec
from petkit.engine.device import Device, inference
from petkit.engine.sampling import training_batches
from petkit.losses import cross_entropy
from petkit.models.batch import Batch, IndexArray, collate
from petkit.pretraining.sentences import NEXT, OTHER_TEXT, SAME_TEXT, Numbers, SentenceIndex, sentence_examples
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.prompts.pvp import PVP, compile_pvp
from petkit.prompts.token_store import TokenStore
from petkit.prompts.verbalizer import WordProblem

# The paper's: ``first <slot>. second``.
_PATTERN = PatternSpec(id="next-sentence", text="{first} {mask}. {second}")
_FIRST, _SECOND = "first", "second"
# Pairs to check on, whatever the number of held-out rows; drawn from the seed (see ``unlabeled_texts``).
_HELD_OUT_PAIRS, _AT_ONCE = 256, 64
_PAIRS_ASIDE = (0, 3)


def question(texts: UnlabeledTexts, settings: PretrainPromptSpec, *, three: bool) -> tuple[PVP, list[WordProblem]]:
    """Return the question as the model reads it, and what is wrong with its label words.

    Args:
        three: whether all three answers can be right; else the sentences are neighbours or of different rows.
    """
    words = settings.words
    labels: dict[str, tuple[str, ...]] = {
        "next": (words.next,),
        "same_text": (words.same_text,),
        "other_text": (words.other_text,),
    }
    if not three:
        del labels["same_text"]
    return compile_pvp(_PATTERN, VerbalizerSpec(labels=labels), texts.tokenizer, texts.max_length, texts.spec.truncate)


class SentenceQuestions:
    """Pairs of sentences, and whether the second follows the first.

    Args:
        index: where the texts' sentences are.
        kept: the rows to train on; held-out sentences never come up in training.
        held_out: the rows to check on.
        scratch: where the tokens of large sets are stored; None: in memory.
    """

    def __init__(
        self,
        texts: UnlabeledTexts,
        device: Device,
        settings: PretrainPromptSpec,
        index: SentenceIndex,
        kept: IndexArray,
        held_out: IndexArray,
        scratch: Path | None,
    ) -> None:
        self.texts, self.device, self.settings, self.index = texts, device, settings, index
        self.pvp, _ = question(texts, settings, three=index.asks_three)
        # Class numbers of the answers that can be right, in the order of the label words.
        self._classes = [NEXT, SAME_TEXT, OTHER_TEXT] if index.asks_three else [NEXT, OTHER_TEXT]
        rows = sentence_examples(texts.source.unchanged(texts.scan), (_FIRST, _SECOND))
        pattern = self.pvp.pattern
        self.tokens = TokenStore.build(rows, texts.tokenizer, pattern.keys, texts.max_length, texts.spec.truncate, scratch)
        self._key = {key.field: key for key in pattern.keys}
        self.anchors = index.texts_with_pairs(kept)
        self.pool = index.in_rows(kept)
        self._held_out = self._drawn_aside(index.texts_with_pairs(held_out))

    def batches(self) -> Iterator[tuple[int, Numbers]]:
        """Yield every step's number, from 1, and the texts its pairs begin in."""
        settings = self.settings
        alike = np.ones(len(self.anchors), np.int64)  # a text's length does not tell those of its sentences
        drawn = training_batches(alike, settings.batch_size, settings.steps, settings.seed)
        return ((step, self.anchors[texts]) for step, texts in enumerate(drawn, 1))

    def loss(self, model: nn.Module, batch: tuple[int, Numbers]) -> Tensor:
        """Return the cross-entropy of a step's answers; its pairs depend on the step's number, never on earlier steps.

        Args:
            model: gives label logits of a batch, shape ``(batch, labels)``.
        """
        step, texts = batch
        pairs, answers = self.encoded_pairs(*self.index.draw(texts, self.pool, np.random.default_rng([self.settings.seed, step])))
        return cross_entropy(model(pairs), answers)

    def held_out_figures(self, model: nn.Module) -> tuple[float, float]:
        """Return the cross-entropy in nats and the accuracy on pairs of held-out rows, the same ones each time."""
        model.eval()
        total = right = 0.0
        first, second, answers = self._held_out
        with inference(self.device):
            for start in range(0, len(first), _AT_ONCE):
                some = slice(start, start + _AT_ONCE)
                pairs, targets = self.encoded_pairs(first[some], second[some], answers[some])
                logits = model(pairs)  # (batch, labels)
                total += cross_entropy(logits, targets).item() * len(targets)
                right += (logits.argmax(1) == targets).sum().item()
        return total / len(first), right / len(first)

    def _drawn_aside(self, texts: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        random = np.random.default_rng([self.settings.seed, *_PAIRS_ASIDE])
        # A single held-out row has no other row: other texts' sentences come from anywhere.
        everywhere = np.arange(self.index.starts[-1])
        return self.index.draw(np.resize(texts, _HELD_OUT_PAIRS), everywhere, random)

    def encoded_pairs(self, first: Numbers, second: Numbers, answers: Numbers) -> tuple[Batch, Tensor]:
        """Return pairs as the model reads them, and the numbers of their answers' words, shape ``(pairs,)``."""
        rows = []
        for one, two in zip(first, second, strict=True):
            tokens = {key: self.tokens.row(int(one if name == _FIRST else two))[key] for name, key in self._key.items()}
            rows.append(self.pvp.encode(tokens))
        device = self.device.name
        labels = torch.from_numpy(np.searchsorted(self._classes, answers))
        return collate(rows, self.texts.tokenizer).to(device), labels.to(device)
