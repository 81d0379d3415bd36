"""Made-up Chinese rows for the Chinese pipelines, and a tiny model that knows their characters.

As in every Chinese BERT, the vocabulary holds single characters: a word of two characters is two tokens.
"""

from __future__ import annotations

import string
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

from petkit.prompts.tokenizer import PieceTokenizer
from tests.tiny import MAX_LENGTH, save_tiny_model

CHINESE_MODELS = ("hfl/chinese-roberta-wwm-ext", "bert-base-chinese")
# What patterns and label words are made of; kept here by hand, so that a slip of the pen in the library is unknown.
_PATTERN_CHARACTERS = "真很挺总之的这次买东西来说是一篇类文章频道以上内容选自栏目！。，：（）【】“”？、"
_WORD_CHARACTERS = "差糟糕好不错农业汽车文化教育娱乐财经游戏房产军事体育股票故事科技旅游国际"
_FRAMES = ("最近的{}怎么样？", "大家都在谈{}", "{}有了新变化。", "怎么看今年的{}？")
_NOUNS = {
    "agriculture": ("水稻", "果园"),
    "car": ("轮胎", "电动车"),
    "culture": ("书法", "博物馆"),
    "edu": ("高考", "老师"),
    "entertainment": ("歌手", "电影"),
    "finance": ("银行", "税收"),
    "game": ("玩家", "手游"),
    "house": ("楼市", "租金"),
    "military": ("导弹", "部队"),
    "sports": ("足球", "比赛"),
    "stock": ("大盘", "涨停"),
    "story": ("童话", "传说"),
    "tech": ("芯片", "手机"),
    "travel": ("景点", "酒店"),
    "world": ("外交", "欧洲"),
}
_REMARKS = {
    "negative": ("物流太慢", "包装破了", "音质刺耳", "客服敷衍"),
    "positive": ("物流飞快", "包装完好", "音质清楚", "客服耐心"),
}
Rows = list[dict[str, str]]


def headlines(*halves: int) -> Rows:
    """Return four headlines for each of the 15 topics and half (0, 1); a noun and its sentence never meet again in the other."""
    return [
        {"text": frame.format(noun), "label": label}
        for half in halves
        for position, frame in enumerate(_FRAMES)
        for label, nouns in _NOUNS.items()
        for noun in (nouns[(position + half) % 2],)
    ]


def reviews(start: int, stop: int) -> Rows:
    """Return some of the 12 reviews that each label has: two of its four remarks, in either order."""
    pairs = {label: list(permutations(remarks, 2))[start:stop] for label, remarks in _REMARKS.items()}
    return [{"text": f"{first}，{second}。", "label": label} for label, found in pairs.items() for first, second in found]


@cache
def chinese_tokenizer() -> Any:
    """Return a BERT tokenizer of the characters used here; the same object every time, so do not change it."""
    from transformers import BertTokenizer

    rows = "".join(row["text"] for row in (*headlines(0, 1), *reviews(0, 12)))
    plain = string.ascii_lowercase + string.digits
    characters = sorted({*_PATTERN_CHARACTERS, *_WORD_CHARACTERS, *rows, *plain})
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{mark}" for mark in plain)]
    vocabulary = {token: index for index, token in enumerate(entries)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_LENGTH)


@cache
def chinese_pieces() -> PieceTokenizer:
    """Return the tokenizer as patterns see it."""
    return PieceTokenizer(chinese_tokenizer(), "tiny-chinese")


def chinese_model_folder(path: Path) -> Path:
    """Save a random BERT of 2 layers of 32 units with the Chinese tokenizer."""
    return save_tiny_model("bert", chinese_tokenizer(), path)
