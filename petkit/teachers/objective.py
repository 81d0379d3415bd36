"""A teacher's training loss: the loss over label logits, and losses added to it.

``L = (1 - w) · main + w · MLM + Σ weight · extra``, where main is the cross-entropy over label logits (PET, section
3.1) and the masked-LM loss keeps the model's language (section 3.2). Losses of weight 0 are not computed. A causal
model may learn to write the gold word instead (``next_token``), regardless of the other labels' words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from petkit import losses
from petkit.config.schema.training import TeachersSpec
from petkit.engine.device import Device
from petkit.engine.sampling import StepRows
from petkit.engine.token_masking import TokenMasking
from petkit.losses.classification import class_weights_of
from petkit.models.batch import Batch, IndexArray, collate
from petkit.models.label_scorer import LabelScorer
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import PVP
from petkit.prompts.tokenizer import PieceTokenizer


@dataclass(frozen=True)
class TrainingRows:
    """What one teacher learns from."""

    encoded: Sequence[Encoded]  # the labelled rows, descriptions and pseudo-labelled rows, ready for the model
    targets: Tensor  # class indices (rows,), or (rows, labels) of 0 and 1
    second: Sequence[Encoded] = ()  # the same rows under a second pattern, where consistency compares with it
    unlabeled: Callable[[IndexArray], list[Encoded]] | None = None  # encodes rows by number, for a masked-LM loss

    @property
    def multi(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.targets.ndim == 2


class TeacherObjective:
    """The loss of one teacher; ``second`` scores the second pattern with the same model, where consistency compares with it."""

    def __init__(
        self,
        settings: TeachersSpec,
        pvp: PVP,
        data: TrainingRows,
        labels: Sequence[str],
        tokenizer: PieceTokenizer,
        device: Device,
        second: LabelScorer | None = None,
    ) -> None:
        self.settings, self.pvp, self.data, self.tokenizer, self.device = settings, pvp, data, tokenizer, device
        self.second = second
        self.masking = cache(partial(TokenMasking, tokenizer))
        self.class_weights = class_weights_of(settings.class_weights, data.targets, labels)

    def __call__(self, scorer: Any, step: StepRows) -> Tensor:
        """Return the loss of one step, shape ``()``."""
        settings, device = self.settings, self.device.name
        if settings.loss == "next_token":
            return self._next_token(scorer, step)
        batch = collate([self.data.encoded[row] for row in step.rows], self.tokenizer)
        on_device = batch.to(device)
        targets = self.data.targets[step.rows].to(device)
        logits = scorer(on_device)  # (batch, labels)
        features = scorer.features if settings.contrastive.weight else None  # (batch, hidden), of the pass above
        apart = self.data.multi or scorer.answers_apart
        main = self._main(logits, targets, apart=apart)
        again = scorer(on_device) if settings.r_drop_weight else None
        if again is not None:
            main = (main + self._main(again, targets, apart=apart)) / 2
        loss = main
        if step.added is not None:
            loss = losses.auxiliary(main, self._masked_lm(scorer, step), settings.auxiliary_mlm_weight)
        if again is not None:
            loss = loss + settings.r_drop_weight * losses.r_drop(logits, again, binary=self.data.multi)
        if settings.consistency.kind != "none":
            perturbed = self._perturbed(scorer, batch, step)
            loss = loss + settings.consistency.weight * losses.consistency(logits, perturbed, binary=self.data.multi)
        if features is not None:
            loss = loss + settings.contrastive.weight * self._contrast(scorer, batch, features, targets, step)
        if settings.label_conditioning_weight:
            loss = loss + settings.label_conditioning_weight * self._label_conditioning(scorer, step)
        return loss

    def _main(self, logits: Tensor, targets: Tensor, *, apart: bool) -> Tensor:
        """Return the loss over label logits ``(batch, labels)``; ``apart``: each label is answered with yes or no."""
        settings = self.settings
        if settings.loss != "cross_entropy":
            return losses.LOSSES[settings.loss](logits, targets)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        form: dict[str, Any] = {"label_smoothing": settings.label_smoothing, "focal_gamma": settings.focal_gamma}
        if apart and not self.data.multi:  # rows weigh what their label does, as they do where labels are answered together
            right = torch.nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)  # (batch, labels)
            return losses.binary_cross_entropy(logits, right, row_weights=None if weights is None else weights[targets], **form)
        loss = losses.binary_cross_entropy if apart else losses.cross_entropy
        return loss(logits, targets, class_weights=weights, **form)

    def _next_token(self, scorer: Any, step: StepRows) -> Tensor:
        """Return the cross-entropy of the gold words' tokens after their rows; of several words of a label one is drawn."""
        choices = [self.pvp.words.token_ids[int(self.data.targets[row])] for row in step.rows]
        words = [own[int(step.random.integers(len(own)))] for own in choices]
        longest = max(map(len, words))
        batch = collate([self.data.encoded[row] for row in step.rows], self.tokenizer)
        batch = batch.appended(words, longest).to(self.device.name)
        # From the row's last token to the word's last: what is said there of the token after is dropped with the shift.
        labels = [[-100, *word, *[-100] * (longest - len(word))] for word in words]
        places = batch.mask_positions[:, None] + torch.arange(longest + 1, device=batch.input_ids.device)
        rows = torch.arange(len(words), device=places.device).repeat_interleave(longest + 1)
        with self.device.autocast:
            logits = scorer.reader.read(batch, rows, places.flatten()).view(len(words), longest + 1, -1)
        return losses.next_token_cross_entropy(logits, torch.tensor(labels, device=places.device))

    def _contrast(self, scorer: Any, batch: Batch, features: Tensor, targets: Tensor, step: StepRows) -> Tensor:
        """Return the contrastive loss of the rows' features, shape ``(batch, hidden)``."""
        contrastive = self.settings.contrastive
        if contrastive.partners == "same_label":
            return losses.supervised_contrastive(features, targets, contrastive.temperature)
        scorer(self.masking(contrastive.masked_share, always=True)(batch, step.random).batch.to(self.device.name))
        return losses.info_nce(features, scorer.features, contrastive.temperature)

    def _perturbed(self, scorer: Any, batch: Batch, step: StepRows) -> Tensor:
        """Return the label logits of the same rows, some of their tokens hidden or under the second pattern."""
        if self.settings.consistency.kind == "second_pattern":
            assert self.second is not None
            other = collate([self.data.second[row] for row in step.rows], self.tokenizer)
            with self.device.autocast:
                second_logits: Tensor = self.second(other.to(self.device.name))
            return second_logits
        hidden = self.masking(self.settings.consistency.masked_share, always=True)(batch, step.random)
        logits: Tensor = scorer(hidden.batch.to(self.device.name))
        return logits

    def _masked_lm(self, scorer: Any, step: StepRows) -> Tensor:
        """Return the masked-LM loss on unlabelled rows in the teacher's own pattern (PET, section 3.2)."""
        assert step.added is not None and self.data.unlabeled is not None
        batch = collate(self.data.unlabeled(step.added), self.tokenizer)
        hidden = self.masking(self.settings.mlm_share)(batch, step.random).to(self.device.name)
        with self.device.autocast:
            logits = scorer.reader.read(hidden.batch, hidden.rows, hidden.columns)  # (hidden tokens, vocabulary)
        return losses.masked_lm(logits, hidden.targets)

    def _label_conditioning(self, scorer: Any, step: StepRows) -> Tensor:
        """Return ADAPET's loss (section 3.2): a text must be likely with its own label filled in, and unlikely with another."""
        words = self.pvp.words.token_ids
        filled, correct, slots = [], [], []
        for row in step.rows:
            target = self.data.targets[row]
            gold = [label for label, given in enumerate(target.tolist()) if given] if self.data.multi else [int(target)]
            right = bool(step.random.random() < 0.5) and bool(gold)
            choices = gold if right else [label for label in range(len(words)) if label not in gold]
            if not choices:
                choices, right = gold, True
            label = words[int(step.random.choice(choices))]
            word = label[int(step.random.integers(len(label)))]
            filled.append(_with_word(self.data.encoded[row], word))
            correct.append(right)
            slots.append((self.data.encoded[row].mask, self.data.encoded[row].mask + len(word)))
        batch, (starts, stops) = collate(filled, self.tokenizer), np.array(slots).T[..., None]  # (batch, 1) each
        places = np.arange(batch.input_ids.shape[1])
        # The text is to be guessed from the label, not the label from the text.
        masking = self.masking(self.settings.mlm_share, always=True)
        hidden = masking(batch, step.random, spared=(places >= starts) & (places < stops)).to(self.device.name)
        with self.device.autocast:
            logits = scorer.reader.read(hidden.batch, hidden.rows, hidden.columns)  # (hidden tokens, vocabulary)
        log_probs = logits.float().log_softmax(-1).gather(1, hidden.targets[:, None])[:, 0]  # (hidden tokens,)
        return losses.label_conditioning(log_probs, torch.tensor(correct, device=log_probs.device)[hidden.rows])


def _with_word(row: Encoded, word: Sequence[int]) -> Encoded:
    """Return the row with a word in its slot and no mask left."""
    ids = np.concatenate([row.ids[: row.mask], np.array(word, np.int32), row.ids[row.mask + row.masks :]])
    moved = len(word) - row.masks
    return Encoded(ids, row.second + moved if row.second > row.mask else row.second, -1, row.masks, row.limit)
