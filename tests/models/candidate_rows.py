"""Rows with candidates of several lengths, encoded by the product."""

from __future__ import annotations

from petkit.config.schema.pipeline import PatternSpec, VerbalizerSpec
from petkit.prompts.pattern import Encoded
from petkit.prompts.pvp import PVP, compile_pvp
from petkit.prompts.tokenizer import PieceTokenizer

MASKED = "the {mask} was very good . {text}"
OPEN = "{text} the answer is {mask}"
FIELDS = ("options[0]", "options[1]", "options[2]")
ROWS = (
    {"text": "it is not bad", FIELDS[0]: "news", FIELDS[1]: "world news market"},
    {"text": "this game was all good for the team", FIELDS[0]: "great team", FIELDS[1]: "game", FIELDS[2]: "question answer"},
    {"text": "bad", FIELDS[0]: "market market", FIELDS[1]: "very bad"},
)
COUNTS = (2, 3, 2)


def pvp(tokenizer: PieceTokenizer, text: str = MASKED, decoding: str = "parallel", max_length: int = 64) -> PVP:
    """Return a pattern whose slot is filled by the candidates of :data:`ROWS`."""
    verbalizer = VerbalizerSpec.model_validate({"candidates": "options", "decoding": decoding})
    made, problems = compile_pvp(PatternSpec(id="p", text=text), verbalizer, tokenizer, max_length, "tail")
    assert not problems
    return made.for_candidates(FIELDS, tokenizer)


def encoded(tokenizer: PieceTokenizer, text: str = MASKED, decoding: str = "parallel") -> list[Encoded]:
    """Return the rows as the product encodes them."""
    return pvp(tokenizer, text, decoding).encode_texts(ROWS, tokenizer)
