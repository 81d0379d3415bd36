"""Vision-language models of the Qwen-VL kind, asked about text alone: what they say is what they say by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from petkit import Predictor
from petkit.errors import InvalidInput, ModelRefused
from petkit.models.batch import collate
from petkit.models.label_scorers import NextTokenScorer, WordScorer
from petkit.models.loading import check_classifier, check_language_model, load_config, load_language_model
from tests.models.test_next_token_scorer import close, loaded, rows, slowly, words_of
from tests.tiny import MAX_LENGTH, tiny_tokenizer
from tests.tiny_task import run_task, write_task

KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random model of two layers that can see through one layer, with Qwen2's tokenizer."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokenizer: Any = tiny_tokenizer("bytebpe-open-qwen")
    size = len(tokenizer)
    marks = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    text = {
        "vocab_size": size + 4, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "head_dim": 16, "max_position_embeddings": MAX_LENGTH, "rope_parameters": rope,
        "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 0,
    }  # fmt: skip
    vision = {"depth": 1, "num_heads": 2, "hidden_size": 16, "intermediate_size": 16, "out_hidden_size": 32}
    if request.param == "qwen2_vl":
        vision = {"depth": 1, "num_heads": 2, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 1}
    marked = {name: size + number for number, name in enumerate(marks)}
    config = AutoConfig.for_model(request.param, text_config=text, vision_config=vision, **marked)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_answers_are_those_of_the_plain_model(folder: Path) -> None:
    model, tokenizer, batch = loaded(folder)
    single, several = words_of(tokenizer)
    plain = load_language_model(str(folder)).double()
    with torch.no_grad():
        scorer = WordScorer(model, single)
        logits = torch.stack([plain(input_ids=torch.tensor([row.ids.tolist()])).logits[0, -1] for row in rows(tokenizer)])
        expected = torch.stack([logits[:, [word[0] for word in label]].mean(1) for label in single], dim=1)
        close(scorer(batch), expected)
        close(torch.cat([scorer(collate([row], tokenizer)) for row in rows(tokenizer)]), expected)
        close(NextTokenScorer(scorer.reader, several)(batch), slowly(plain, tokenizer, several))
    assert expected.std() > 1e-2


def test_teachers_of_this_kind_and_another_student(folder: Path, tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    path = write_task(tmp_path / "task", folder, patterns={"category": "{text} category: {mask}"})
    quick = ("teachers.seeds=[1]", "teachers.steps=2", "student.steps=2")
    with pytest.raises(InvalidInput, match=r"student.model: .+ model has no classifier form"):
        run_task(path, tmp_path / "run", *quick)
    result = run_task(path, tmp_path / "run", *quick, f"student.model={model_folder('bert')}")
    assert result.metrics is not None
    assert Predictor.load(result.folder, teachers=True).logits(["the game", "the very good market"]).shape == (2, 3)


def test_a_student_of_this_kind_is_refused(folder: Path) -> None:
    with pytest.raises(ModelRefused, match=r"model has no classifier form \(name another as student.model, such as embedded\)"):
        check_classifier(load_config(str(folder)), str(folder))


def test_others_are_refused(tmp_path: Path) -> None:
    from transformers import LlavaConfig

    with pytest.raises(ModelRefused, match="m: a 'llava' model is neither a masked nor a causal language model"):
        check_language_model(LlavaConfig(), "m")
