"""Tiny tokenizers and masked language models, built on the spot: offline, deterministic, of every kind that matters.

Kinds of tokenizer:

- ``wordpiece``: BERT's; lower case, white space means nothing;
- ``bytebpe``: RoBERTa's as its checkpoints are; the mask swallows the space before it (``lstrip``);
- ``bytebpe-strict``: the same, but the mask leaves that space alone;
- ``sentencepiece``: XLM-R's; every word after white space starts with ``▁``;
- ``sentencepiece-lower``: ALBERT's; the same in lower case and without accents;
- ``sentencepiece-spaces``: DeBERTa-v2's; white space itself becomes ``▁``;
- ``bytebpe-open``, ``bytebpe-open-qwen``: GPT-2's and Qwen2's; no mask, nothing around a row;
- ``sentencepiece-open``: Llama's; no mask, ``<s>`` before a row.
"""

from __future__ import annotations

import json
import string
from functools import cache
from pathlib import Path
from typing import Any

import torch

from petkit.prompts.tokenizer import PieceTokenizer

KINDS = ("wordpiece", "bytebpe", "bytebpe-strict", "sentencepiece", "sentencepiece-lower", "sentencepiece-spaces")
ARCHITECTURES = {
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "electra": "wordpiece",
    "roberta": "bytebpe",
    "modernbert": "bytebpe",
    "mpnet": "bytebpe",
    "xlm-roberta": "sentencepiece",
    "albert": "sentencepiece-lower",
    "deberta-v2": "sentencepiece-spaces",
}
# Causal models, for the tests that ask for them; GPT-2's and Llama's tokenizers have no padding token.
CAUSAL = {"gpt2": "bytebpe-open", "llama": "sentencepiece-open", "qwen2": "bytebpe-open-qwen"}
DISCRIMINATOR = "discriminator"
MAX_LENGTH = 64
# Every one of these is a single token of every kind, at the start of a text and after a space.
WORDS = (
    "a", "the", "of", "in", "it", "is", "was", "this", "and", "not", "all", "very", "good", "great", "bad", "terrible",
    "yes", "no", "world", "sports", "business", "science", "news", "category", "football", "market", "movie", "game",
    "team", "question", "answer",
)  # fmt: skip
# A capital of its own, in the kinds that keep case; "Berlin" has no lower-case form.
CAPITALS = ("World", "Great", "Berlin")
_CHARACTERS = string.ascii_letters + string.digits + ".,:;!?()[]{}<>/'\"-_|@#"


@cache
def tiny_tokenizer(kind: str) -> Any:
    """Return the transformers tokenizer of a kind; the same object every time, so do not change it."""
    family = kind if kind == "sentencepiece-open" else kind.partition("-")[0]
    builders = {
        "wordpiece": _wordpiece,
        "bytebpe": _byte_bpe,
        "sentencepiece": _sentencepiece,
        "sentencepiece-open": _merged_pieces,
    }
    return builders[family](kind)


@cache
def pieces(kind: str) -> PieceTokenizer:
    """Return the tokenizer of a kind as patterns see it."""
    return PieceTokenizer(tiny_tokenizer(kind), f"tiny-{kind}")


def tiny_model_folder(arch: str, path: Path) -> Path:
    """Save a random language model of ``arch`` with its tokenizer: 2 layers of 32 units, dropout 0.1, 64 positions.

    ``discriminator`` is ELECTRA's: it answers of every token whether it was replaced.
    """
    return save_tiny_model(arch, tiny_tokenizer({**ARCHITECTURES, **CAUSAL, DISCRIMINATOR: "wordpiece"}[arch]), path)


def save_tiny_model(arch: str, tokenizer: Any, path: Path) -> Path:
    """Save a random language model of ``arch`` for any tokenizer, and the tokenizer with it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForPreTraining

    kind: Any = AutoModelForCausalLM if arch in CAUSAL else AutoModelForMaskedLM
    if arch == DISCRIMINATOR:
        arch, kind = "electra", AutoModelForPreTraining
    config = AutoConfig.for_model(arch, **(_causal_config if arch in CAUSAL else _config)(arch, tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _config(arch: str, tokenizer: Any) -> dict[str, Any]:
    ids = {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH}
    if arch == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        return {**ids, **sizes, "dropout": 0.1, "attention_dropout": 0.1}
    ids |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if arch == "modernbert":
        ids |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        dropout = {"attention_dropout": 0.1, "embedding_dropout": 0.1, "mlp_dropout": 0.1}
        return {**ids, **sizes, **dropout, "global_attn_every_n_layers": 2, "local_attention": 16}
    own: dict[str, Any] = {
        "albert": {"embedding_size": 16, "type_vocab_size": 2},
        "electra": {"embedding_size": 16, "type_vocab_size": 2},
        "deberta-v2": {
            "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0,
        },
        "roberta": {"type_vocab_size": 1},
        "xlm-roberta": {"type_vocab_size": 1},
    }.get(arch, {})  # fmt: skip
    return {**ids, **sizes, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, **own}


def _causal_config(arch: str, tokenizer: Any) -> dict[str, Any]:
    """As published checkpoints have it: no padding token in the configuration."""
    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if arch == "gpt2":
        dropout = {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}
        return {**ids, **dropout, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": MAX_LENGTH, "initializer_range": 0.2}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    more = {"num_key_value_heads": 1, "max_position_embeddings": MAX_LENGTH, "initializer_range": 0.2}
    return {**ids, **sizes, **more, "attention_dropout": 0.1, "tie_word_embeddings": arch == "qwen2"}


def _wordpiece(kind: str) -> Any:
    from transformers import BertTokenizer

    characters = [mark for mark in _CHARACTERS if not mark.isupper()]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    entries += [f"##{mark}" for mark in characters if mark.isalnum()]
    entries += [word for word in (*WORDS, "berlin") if len(word) > 1]
    vocabulary = {token: index for index, token in enumerate(entries)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_LENGTH)


def _byte_bpe(kind: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer, Qwen2Tokenizer, RobertaTokenizer

    is_open = kind.startswith("bytebpe-open")
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,  # more than there is to learn, so that every word becomes one token
        min_frequency=1,
        show_progress=False,
        special_tokens=["<|endoftext|>"] if is_open else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    trained.train_from_iterator([f"{word} {word}" for word in (*WORDS, *CAPITALS)], trainer)
    state = json.loads(trained.to_str())["model"]
    if is_open:
        made = Qwen2Tokenizer if kind.endswith("qwen") else GPT2Tokenizer
        return made(vocab=state["vocab"], merges=[tuple(pair) for pair in state["merges"]], model_max_length=MAX_LENGTH)
    return RobertaTokenizer(
        vocab=state["vocab"],
        merges=[tuple(pair) for pair in state["merges"]],
        mask_token=AddedToken("<mask>", lstrip=kind == "bytebpe", special=True, normalized=False),
        model_max_length=MAX_LENGTH,
    )


def _merged_pieces(kind: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    trained = Tokenizer(models.BPE(byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=1, show_progress=False, special_tokens=special, initial_alphabet=[*_CHARACTERS, "▁"]
    )
    trained.train_from_iterator([*WORDS, *CAPITALS], trainer)
    state = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    return LlamaTokenizer(vocab=state["vocab"], merges=merges, add_bos_token=True, model_max_length=MAX_LENGTH)


def _sentencepiece(kind: str) -> Any:
    from transformers import AlbertTokenizer, DebertaV2Tokenizer, XLMRobertaTokenizer

    words = [(f"▁{word}", -2.0) for word in (*WORDS, *CAPITALS, "berlin")]
    entries = [("▁", -3.0), *((mark, -8.0) for mark in _CHARACTERS), *words]
    if kind == "sentencepiece":
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        return XLMRobertaTokenizer(vocab=_scores(special, entries, "<mask>"), model_max_length=MAX_LENGTH)
    if kind == "sentencepiece-lower":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        return AlbertTokenizer(vocab=_scores(special, entries), model_max_length=MAX_LENGTH)
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return DebertaV2Tokenizer(vocab=_scores(special, entries, "[MASK]"), unk_id=3, model_max_length=MAX_LENGTH)


def _scores(special: list[str], entries: list[tuple[str, float]], *last: str) -> list[tuple[str, float]]:
    return [(token, 0.0) for token in special] + entries + [(token, 0.0) for token in last]
