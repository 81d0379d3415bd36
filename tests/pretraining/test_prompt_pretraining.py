"""``petkit pretrain-prompt``: what it makes, that it trains nothing but the prompt, and that a kill costs nothing but time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from petkit.engine.training_loop import TrainingDiverged
from petkit.errors import InvalidInput, RunConflict
from petkit.events import Event, Notice, Progress, StepSkipped
from petkit.models.adapters.base import read_adapter
from petkit.models.loading import load_masked_lm, model_fingerprint
from petkit.pretraining import pretrain_prompt as prompt_pretraining
from petkit.pretraining.next_sentence import SentenceQuestions
from petkit.prompts.token_store import TokenStore
from petkit.runs.store import RunStore
from tests.pretraining.prompt_task import TOKENS, Killed, make, texts, wide_awake, write
from tests.tiny_task import write_rows

Folder = Callable[[str], Path]
OBJECTIVES = ("next_sentence", "masked_lm", "both")
# Enough for a model that minds its prompt.
LONGER = ("steps=40", "dropout=0.0", "learning_rate=0.3", "batch_size=16")
pytestmark = pytest.mark.usefixtures("every_third_step")


@pytest.fixture
def pipeline_file(here: Path, model_folder: Folder) -> Path:
    """A pipeline whose files a test may change."""
    return write(here / "task", model_folder("bert"))


@pytest.fixture
def awake(here: Path, model_folder: Folder) -> Path:
    """The same with a model that its prompt makes a difference to."""
    return write(here / "task", wide_awake(model_folder("bert"), here / "awake"))


def kill(pipeline_file: Path, folder: Path, step: int, *overrides: str) -> None:
    with pytest.raises(Killed):
        make(pipeline_file, folder, *overrides, killed_at=step)


def files(folder: Path) -> Mapping[str, bytes]:
    """Return the prompt's files but the record of when and where."""
    return {path.name: path.read_bytes() for path in sorted((folder / "prompt").iterdir()) if path.name != "step.json"}


def vectors(folder: Path) -> torch.Tensor:
    return read_adapter(folder / "prompt")["prompt_embeddings"]


def notices(heard: list[Event]) -> list[str]:
    return [event.message for event in heard if isinstance(event, Notice)]


def steps_done(heard: list[Event]) -> list[int]:
    return [event.done for event in heard if isinstance(event, Progress)]


def losses(heard: list[Event]) -> list[float]:
    return [float(event.note.split()[1]) for event in heard if isinstance(event, Progress)]


# -- what it makes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "falls_by"), [("next_sentence", 1.0), ("masked_lm", 1.0), ("both", 2.0)])
def test_the_loss_falls(objective: str, falls_by: float, awake: Path, here: Path) -> None:
    made, heard = make(awake, here / "out", f"objective={objective}", *LONGER)
    facts = made.facts

    assert sum(losses(heard)[:4]) - sum(losses(heard)[-4:]) > 2 * falls_by  # of four steps
    assert facts["loss_before"] - facts["loss_after"] > falls_by
    assert (facts["rows"], facts["held_out_rows"], facts["tokens"]) == (57, 3, TOKENS)
    assert ("accuracy_after" in facts, "perplexity_after" in facts) == (objective != "masked_lm", objective != "next_sentence")
    if objective == "masked_lm":
        assert facts["perplexity_after"] == math.exp(facts["loss_after"])
    assert notices(heard) == []


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")  # PEFT asks for it
def test_a_folder_as_peft_writes_it(pipeline_file: Path, here: Path, model_folder: Folder) -> None:
    made, _ = make(pipeline_file, here / "out")
    about = json.loads((made.folder / "petkit.json").read_text())
    base = str(model_folder("bert"))

    assert made.folder == here / "out" / "prompt" and made.ran
    assert sorted(files(here / "out")) == ["adapter_config.json", "adapter_model.safetensors", "petkit.json"]
    assert {key: about[key] for key in ("base", "base_sha256", "objective", "steps", "tokens")} == {
        "base": base, "base_sha256": model_fingerprint(base), "objective": "next_sentence", "steps": 10, "tokens": TOKENS,
    }  # fmt: skip
    loaded: Any = PeftModel.from_pretrained(load_masked_lm(base), str(made.folder))
    assert torch.equal(loaded.get_prompt_embedding_to_save("default"), vectors(here / "out"))
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        ".lock", "config.resolved.yaml", "events.jsonl", "manifest.json", "prompt",
    ]  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_the_prompt_is_trained(objective: str, pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    load = prompt_pretraining.load_masked_lm
    monkeypatch.setattr(prompt_pretraining, "load_masked_lm", lambda *wanted: seen.append(load(*wanted)) or seen[-1])
    kill(pipeline_file, here / "out", 4, f"objective={objective}")
    kept = load_file(here / "out" / "checkpoints" / "prompt" / "00000003" / "state.safetensors")
    make(pipeline_file, here / "out", f"objective={objective}")

    assert [name for name in kept if name.startswith("model.")] == ["model.prompt.soft.vectors"]
    name = json.loads((here / "out" / "prompt" / "petkit.json").read_text())["base"]
    fresh = dict(load_masked_lm(name).named_parameters())
    trained = dict(seen[-1].named_parameters())
    assert trained.keys() == fresh.keys() and all(torch.equal(trained[key], fresh[key]) for key in fresh)
    # The prompt began as embeddings of words and is none of them any more.
    words = fresh["bert.embeddings.word_embeddings.weight"].detach()
    assert vectors(here / "out").shape == (TOKENS, 32)
    assert float(torch.cdist(vectors(here / "out"), words).min()) > 0.01


@pytest.mark.parametrize("arch", ["roberta", "modernbert", "deberta-v2", "albert", "distilbert"])
def test_any_model(arch: str, here: Path, model_folder: Folder) -> None:
    pipeline_file = write(here / "task", model_folder(arch), count=24)
    made, _ = make(pipeline_file, here / "out", "steps=3", "objective=both", "compute.precision=bfloat16")

    assert math.isfinite(made.facts["loss_after"]) and len(vectors(here / "out")) == TOKENS


def test_texts_of_two_sentences_have_two_answers(here: Path, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the word of the third does not matter: the tiny model does not know "maybe"."""
    asked: list[SentenceQuestions] = []
    before = SentenceQuestions.batches
    monkeypatch.setattr(SentenceQuestions, "batches", lambda self: asked.append(self) or before(self))
    pipeline_file = write(here / "task", model_folder("bert"), sentences=(1, 2), words={})
    make(pipeline_file, here / "out")

    assert list(asked[0].pvp.verbalizer.labels) == ["next", "other_text"]
    batch, answers = asked[0].encoded_pairs(*asked[0].index.draw(asked[0].anchors, asked[0].pool, np.random.default_rng(1)))
    assert set(answers.tolist()) == {0, 1} and (batch.mask_positions > 0).all()


def test_held_out_sentences_never_come_up(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SentenceQuestions] = []
    before = SentenceQuestions.batches
    monkeypatch.setattr(SentenceQuestions, "batches", lambda self: asked.append(self) or before(self))
    made, _ = make(pipeline_file, here / "out")
    (as_class_logits,) = asked
    index = as_class_logits.index

    rows_asked = {*index.rows[as_class_logits.anchors], *index.rows[_texts_of(as_class_logits.pool, index.starts)]}
    assert len(rows_asked) == made.facts["rows"] == 57
    first, _, answers = as_class_logits.held_out
    assert not rows_asked & {*index.rows[_texts_of(first, index.starts)]} and set(answers) == {0, 1, 2}


def _texts_of(sentences: Any, starts: Any) -> Any:
    return starts.searchsorted(sentences, "right") - 1


def test_several_fields_are_texts_of_their_own(here: Path, model_folder: Folder) -> None:
    pipeline_file = write(here / "task", model_folder("bert"), count=24)
    rows = [{"text": row["text"], "title": "a game"} for row in texts(24, 3)]
    write_rows(here / "task" / "unlabeled.jsonl", rows)
    two = 'patterns=[{id: all, text: "{mask}: {title} {text}"}]'
    made, _ = make(pipeline_file, here / "out", "objective=both", "steps=2", two)

    assert made.ran


def test_many_rows_lie_on_disk_while_they_are_read(here: Path, model_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path | None] = []
    build = TokenStore.build.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(TokenStore, "build", classmethod(lambda cls, *rest: folders.append(rest[-1]) or build(cls, *rest)))
    pipeline_file = write(here / "task", model_folder("bert"))
    write_rows(here / "task" / "unlabeled.jsonl", [{"text": "a game. the team."}] * 10_001)
    make(pipeline_file, here / "out", "steps=2", "objective=both", "batch_size=128")

    assert folders == [here / "out" / ".work" / "sentences", here / "out" / ".work" / "tokens"]
    assert not (here / "out" / ".work").exists()


def test_a_prompt_that_learns_nothing_is_reported(pipeline_file: Path, here: Path) -> None:
    _, heard = make(pipeline_file, here / "out", "learning_rate=1e-30", "weight_decay=0.0")

    (reported,) = notices(heard)
    same = r"the loss on held-out rows did not fall: (\d\.\d\d) → \1; random words are as good a start"
    assert re.fullmatch(same + r" \(change pretrain_prompt\.learning_rate or steps\)", reported)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_last_step_that_spoils_the_prompt(objective: str, pipeline_file: Path, here: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"training diverged: .* \(lower (pretrain_prompt\.)?learning_rate\)$"):
        make(pipeline_file, here / "out", f"objective={objective}", "steps=1", "learning_rate=1e38", "max_grad_norm=1e30")
    assert not (here / "out" / "prompt").exists()


# -- again, and killed -----------------------------------------------------------------------------------


def test_what_is_finished_is_not_done_again(pipeline_file: Path, here: Path) -> None:
    first, _ = make(pipeline_file, here / "out")
    second, heard = make(pipeline_file, here / "out", "compute.checkpoint_minutes=5", "teachers.steps=3", "adapt.steps=3")

    assert (first.ran, second.ran) == (True, False) and second.facts == first.facts
    assert heard == [StepSkipped("prompt")]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("steps=11", "pretrain_prompt.steps 10 → 11"),
        ("words.other_text=bad", "pretrain_prompt.words.other_text no → bad"),
        ("objective=both", "pretrain_prompt.objective next_sentence → both"),
        ("max_length=30", "max_length 32 → 30"),
        ("data.unlabeled=other.jsonl", "data.unlabeled changed"),
    ],
)
def test_a_prompt_made_by_other_settings_is_not_replaced(override: str, why: str, pipeline_file: Path, here: Path) -> None:
    write_rows(here / "other.jsonl", texts(30, 4))
    make(pipeline_file, here / "out")
    before = files(here / "out")
    with pytest.raises(RunConflict) as refused:
        make(pipeline_file, here / "out", override.replace("words.", "pretrain_prompt.words."))

    assert str(refused.value).startswith(f"out: made with other settings: {why}")
    assert files(here / "out") == before


def test_other_folders_are_left_alone(pipeline_file: Path, here: Path) -> None:
    (here / "run").mkdir()
    RunStore(here / "run").write_manifest({"task": "topics", "labels": ["a", "b"]})

    with pytest.raises(RunConflict, match=r"^run: contains a run, not a pretrained prompt \(choose another --out\)$"):
        make(pipeline_file, here / "run")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_interrupted_and_resumed_is_undisturbed(objective: str, pipeline_file: Path, here: Path) -> None:
    folder, wanted = here / "out", f"objective={objective}"
    whole, _ = make(pipeline_file, here / "undisturbed", wanted)
    kill(pipeline_file, folder, 2, wanted)
    assert not (folder / "checkpoints").exists() and not (folder / "prompt").exists()
    kill(pipeline_file, folder, 8, wanted)
    assert sorted(entry.name for entry in (folder / "checkpoints" / "prompt").iterdir()) == ["00000006"]
    made, heard = make(pipeline_file, folder, wanted)

    assert steps_done(heard) == [7, 8, 9, 10] and notices(heard)[0] == "resumes after 6 steps"
    assert files(folder) == files(here / "undisturbed")
    assert {**made.facts, "seconds": 0} == {**whole.facts, "seconds": 0}
    assert not (folder / "checkpoints").exists() and not (folder / ".work").exists()


def test_how_often_the_state_is_kept_changes_nothing(pipeline_file: Path, here: Path) -> None:
    make(pipeline_file, here / "often")
    make(pipeline_file, here / "never", "compute.checkpoint_minutes=1000")

    assert files(here / "often") == files(here / "never")


def test_the_seed_counts(pipeline_file: Path, here: Path) -> None:
    make(pipeline_file, here / "one", "steps=2")
    make(pipeline_file, here / "two", "steps=2", "seed=2")

    assert not torch.equal(vectors(here / "one"), vectors(here / "two"))


# -- bad input -----------------------------------------------------------------------------------------


def refused(pipeline_file: Path, here: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        make(pipeline_file, here / "out", *overrides)
    assert not (here / "out").exists()
    return str(error.value).splitlines()


@pytest.mark.parametrize(("pairs", "reported"), [(0, "no row"), (1, "1 row only"), (2, "2 rows only")])
def test_texts_without_pairs_of_sentences(pairs: int, reported: str, pipeline_file: Path, here: Path) -> None:
    write_rows(pipeline_file.parent / "unlabeled.jsonl", [{"text": "a game"}] * 20 + [{"text": "a game. a team."}] * pairs)

    (line,) = refused(pipeline_file, here)
    message = f"next_sentence needs texts of two sentences or more, and task/unlabeled.jsonl has {reported} of that kind (use masked_lm)"
    assert line.endswith(f"pretrain_prompt.objective: {message}")
    assert refused(pipeline_file, here, "objective=both") == [
        f"--set pretrain_prompt.objective=both: pretrain_prompt.objective: {message}"
    ]
    assert make(pipeline_file, here / "out", "objective=masked_lm", "steps=2")[0].ran


def test_three_rows_with_pairs_are_enough(pipeline_file: Path, here: Path) -> None:
    write_rows(pipeline_file.parent / "unlabeled.jsonl", [{"text": "a game"}] * 20 + texts(3, 1, (2, 4)))

    made, _ = make(pipeline_file, here / "out", "steps=4")
    assert (made.facts["rows"], made.facts["held_out_rows"]) == (22, 1)


def test_words_the_model_does_not_have(pipeline_file: Path, here: Path) -> None:
    (line,) = refused(pipeline_file, here, "pretrain_prompt.words={}")
    assert "pretrain_prompt.words.same_text: 'maybe' is 5 tokens for" in line
    assert line.endswith("(use a common word that is one token of the model)")


@pytest.mark.parametrize(("tokens", "left"), [(57, 7), (64, 0), (1000, 0)])
def test_tokens_that_leave_no_room(tokens: int, left: int, pipeline_file: Path, here: Path) -> None:
    (line,) = refused(pipeline_file, here, f"tokens={tokens}", "pretrain_prompt.words={same_text: very}")
    assert line.startswith(
        f"--set pretrain_prompt.tokens={tokens}: pretrain_prompt.tokens: {tokens} virtual tokens leave {left} of "
    )
    assert " of the 64 that " in line and line.endswith(" reads (use fewer)")


def test_a_length_that_is_too_much_beside_the_prompt(pipeline_file: Path, here: Path) -> None:
    (line,) = refused(pipeline_file, here, "max_length=61")
    assert line.startswith("--set max_length=61: max_length: 61 tokens are more than ") and line.endswith(
        "in addition to 4 virtual ones (60)"
    )
    made, _ = make(pipeline_file, here / "out", "max_length=60", "steps=1", "objective=both")
    assert made.ran
    made, _ = make(pipeline_file, here / "long", "tokens=44", "max_length=20", "steps=1", "objective=both")
    assert made.ran


def test_mistakes_are_reported_together(pipeline_file: Path, here: Path) -> None:
    (pipeline_file.parent / "unlabeled.jsonl").write_text("")
    reported = refused(pipeline_file, here, "pretrain_prompt.words={next: unheard, same_text: very}")
    assert ["words.next: 'unheard' is" in reported[1], reported[0]] == [True, "task/unlabeled.jsonl: the file contains no rows"]


def test_one_row(pipeline_file: Path, here: Path) -> None:
    write_rows(pipeline_file.parent / "unlabeled.jsonl", texts(1, 1))
    assert refused(pipeline_file, here) == ["task/unlabeled.jsonl: contains one row only; pre-training needs another to hold out"]
