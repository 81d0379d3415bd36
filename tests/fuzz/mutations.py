"""Sound data, broken: one place of a nested document removed, renamed, replaced or wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeAlias

from hypothesis import strategies as st

Location: TypeAlias = tuple[str | int, ...]

STRANGE_TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "\0", "a\nb", "a\u2028b", "\x1b[31m", "世界 🙂", "é" * 130, "x" * 300, "../..", "/", "~", "~nobody/x", "hf://", ".",
         "no", "null", "1e999", "-0", "{mask}", "{", "words", "auto", "all", "none", "lora"]
    ),
)  # fmt: skip
STRANGE_NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([10**30, -(10**30), 2**31, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan")]),
    st.floats(-2, 2, width=16),
)
STRANGE_SCALARS = st.one_of(st.none(), st.booleans(), STRANGE_NUMBERS, STRANGE_TEXTS)
STRANGE_VALUES = st.recursive(
    STRANGE_SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(STRANGE_TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def locations(data: Any, here: Location = ()) -> Iterator[Location]:
    """Yield the place of every value in nested data but the whole."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*here, key)
        yield from locations(value, (*here, key))


def at(data: Any, location: Location) -> Any:
    """Return the value at a place."""
    for step in location:
        data = data[step]
    return data


@st.composite
def mutated(draw: st.DrawFn, sound: Any, most: int = 3) -> Any:
    """Draw sound data with one to ``most`` places broken."""
    data = deepcopy(sound)
    for _ in range(draw(st.integers(1, most))):
        places = list(locations(data))
        if not places:
            break
        place = draw(st.sampled_from(places))
        holder, key = at(data, place[:-1]), place[-1]
        change = draw(st.sampled_from(["remove", "replace", "replace", "rename", "wrap in a list", "nest", "copy"]))
        if change == "remove":
            del holder[key]
        elif change == "rename" and isinstance(holder, dict):
            misspelt = st.sampled_from([f"{key}s", str(key)[:-1], f"{key} ", str(key).upper()])
            renamed = draw(st.one_of(misspelt, STRANGE_TEXTS))
            items = [(renamed if name == key else name, value) for name, value in holder.items()]
            holder.clear()
            holder.update(items)
        elif change == "wrap in a list":
            holder[key] = [holder[key], holder[key]]
        elif change == "nest":
            holder[key] = {key if isinstance(key, str) else "inner": holder[key]}
        elif change == "copy":
            holder[key] = deepcopy(at(data, draw(st.sampled_from(places))))
        else:
            holder[key] = draw(STRANGE_VALUES)
    return data
