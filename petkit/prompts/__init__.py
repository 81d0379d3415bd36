"""From a row to the token ids a model reads: patterns, label words, demonstrations, and the tokenizer as these need it.

Everything here is tokenizers and numpy, without torch. The pattern language itself is parsed in ``petkit.config``; what a
model answers at the slot is computed in ``petkit.models``.
"""

from petkit.prompts.pattern import CompiledPattern, Encoded, Pattern, share_room, shorten
from petkit.prompts.pvp import PVP, compile_pvp, task_fields
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.prompts.verbalizer import LabelWords, find_label_words

__all__ = [
    "PVP",
    "CompiledPattern",
    "Encoded",
    "LabelWords",
    "Pattern",
    "PieceTokenizer",
    "compile_pvp",
    "find_label_words",
    "share_room",
    "shorten",
    "task_fields",
]
