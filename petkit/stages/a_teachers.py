"""Stage A: one masked-LM teacher per pattern and seed, and its logits on the unlabelled set (PET, section 3.1).

Every teacher is a step of its own: a fresh copy of the backbone, seeded alone, so that adding a teacher
changes no other. Its logits are a second step, so that new unlabelled text does not train it again.
"""

from __future__ import annotations

import torch

from petkit.lm.arithmetic import Arithmetic
from petkit.lm.backbone import load_masked_lm
from petkit.lm.batching import collate, training_batches
from petkit.lm.heads import LabelScorer
from petkit.lm.inference import label_logits
from petkit.lm.losses import cross_entropy
from petkit.lm.training import fit, seed_everything
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import TEACHER_FILE, teacher_logits, teacher_model
from petkit.runs.shards import write_shard
from petkit.runs.store import write_json
from petkit.stages.scoring import load_scorer, shard_logits
from petkit.stages.step import Job, Step
from petkit.stages.workload import Workload
from petkit.task.pattern import Encoded
from petkit.task.pvp import PVP


def steps(work: Workload, arithmetic: Arithmetic) -> list[Step]:
    """Return the two steps of every teacher."""
    found: list[Step] = []
    spec = work.spec
    for teacher, index, seed in work.teacher_names:
        pvp = work.pvps[index]
        settings = spec.teachers.model_dump(exclude={"seeds"})
        inputs: Inputs = {
            "step.version": 1,
            **work.common_inputs(arithmetic),
            "model": work.model_hash,
            "max_length": work.max_length,
            "pattern": list(spec.patterns[index].segments),
            "verbalizer": {label: list(words) for label, words in spec.verbalizer.labels.items()},
            "data.train": work.scans["train"].sha256,
            "teachers.seed": seed,
            **{f"teachers.{name}": value for name, value in settings.items()},
        }
        trainer = _Trainer(work, arithmetic, pvp, seed)
        found.append(Step(teacher_model(teacher), "a", inputs, trainer.train))
        scored: Inputs = {"step.version": 1, **work.unlabeled_inputs(), "precision": arithmetic.precision}
        found.append(
            Step(teacher_logits(teacher), "a", scored, _Scorer(work, arithmetic, pvp, teacher).score, (teacher_model(teacher),))
        )
    return found


class _Trainer:
    """Fine-tunes one teacher."""

    def __init__(self, work: Workload, arithmetic: Arithmetic, pvp: PVP, seed: int) -> None:
        self.work, self.arithmetic, self.pvp, self.seed = work, arithmetic, pvp, seed

    def train(self, job: Job) -> None:
        work, settings = self.work, self.work.spec.teachers
        rows = [self.pvp.pattern.encode(tokens) for tokens in work.tokens("train")]
        labels = torch.tensor([example.label for example in work.train])
        seed_everything(self.seed)
        scorer = LabelScorer(load_masked_lm(work.spec.model, self.arithmetic.training_attention), self.pvp.words.token_ids)
        scorer.to(self.arithmetic.device)
        untrained = self._accuracy(scorer, rows, labels)
        order = training_batches([len(row.ids) for row in rows], settings.batch_size, settings.steps, self.seed)
        losses = fit(
            scorer,
            order,
            lambda model, batch: cross_entropy(
                model(collate([rows[index] for index in batch], work.tokenizer).to(self.arithmetic.device)),
                labels[batch].to(self.arithmetic.device),
            ),
            settings,
            self.arithmetic,
            lambda step, loss: job.progress(step, settings.steps, "steps", f"loss {loss:.3f}"),
        )
        trained = self._accuracy(scorer, rows, labels)
        job.facts.update(untrained_accuracy=untrained, trained_accuracy=trained, first_loss=losses[0], last_loss=losses[-1])
        model = scorer.detach()
        model.save_pretrained(job.folder)
        work.tokenizer.hf.save_pretrained(job.folder)
        spec = work.spec
        pattern = next(entry for entry in spec.patterns if entry.id == self.pvp.id)
        description = {
            "pattern": pattern.model_dump(mode="json"),
            "verbalizer": spec.verbalizer.model_dump(mode="json"),
            "fields": work.fields,
            "max_length": work.max_length,
            "truncate": spec.truncate,
            "seed": self.seed,
            "untrained_accuracy": untrained,
            "trained_accuracy": trained,
        }
        write_json(job.folder / TEACHER_FILE, description)

    def _accuracy(self, scorer: LabelScorer, rows: list[Encoded], labels: torch.Tensor) -> float:
        """Return the accuracy on the few-shot examples."""
        scorer.eval()
        logits = label_logits(scorer, rows, self.work.tokenizer, self.arithmetic, self.work.spec.compute.tokens_per_batch)
        return float((logits.argmax(axis=1) == labels.numpy()).mean())


class _Scorer:
    """Writes a teacher's label logits on the unlabelled set, shard by shard."""

    def __init__(self, work: Workload, arithmetic: Arithmetic, pvp: PVP, teacher: str) -> None:
        self.work, self.arithmetic, self.pvp, self.teacher = work, arithmetic, pvp, teacher

    def score(self, job: Job) -> None:
        total = self.work.scans["unlabeled"].rows
        scorer = load_scorer(str(job.store.path(teacher_model(self.teacher))), self.pvp, self.arithmetic)
        shards = shard_logits(
            scorer, self.pvp, self.work, "unlabeled", self.arithmetic, lambda done: job.progress(done, total, "rows")
        )
        for index, logits in enumerate(shards):
            write_shard(job.folder, index, {"logits": logits})
