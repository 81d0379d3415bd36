"""What every part of the specification has in common: strict, frozen sections and the types of their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from petkit import limits
from petkit.config.mistakes import Mistakes

# Windows keeps these for devices, in every folder.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))})


def _names_a_folder(name: str) -> str:
    if name in _DEVICES:
        raise PydanticCustomError("device", "must not be a name that Windows keeps for a device")
    return name


def _fits_float32(value: float) -> float:
    if 0 < value < _SMALLEST:
        raise PydanticCustomError("too_small", f"must be at least {_SMALLEST:g}")
    if value > _LARGEST:
        raise PydanticCustomError("too_large", f"must be at most {_LARGEST:g}")
    return value


# In float32, as which they are used, larger numbers are infinite, and much smaller ones 0.
_SMALLEST, _LARGEST = 1e-30, 1e38
_AT_MOST: Any = {"maximum": _LARGEST}
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
# What becomes part of a path; labels and other texts never do.
Name = Annotated[str, StringConstraints(pattern=NAME), AfterValidator(_names_a_folder)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=limits.KEY_CHARACTERS)]
LabelWord = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=limits.WORD_CHARACTERS)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, json_schema_extra=_AT_MOST), AfterValidator(_fits_float32)]
# Divides logits: beyond, a softmax is one-hot or uniform.
Temperature = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra=_AT_MOST), AfterValidator(_fits_float32)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
# The columns of candidate answers, or the one column that has lists of them.
CandidateColumns = LabelName | Annotated[tuple[LabelName, ...], Field(max_length=limits.CANDIDATES)]
LabelSeparator = Annotated[str, StringConstraints(min_length=1, max_length=5)]
RowTokens = Annotated[int, Field(ge=8, le=limits.ROW_TOKENS)]
LabelKindName = Literal["single", "multi", "ordinal"]


def beyond_bound(error: ValidationError) -> str:
    """Return the key and bound of a number that a record, such as that of an older run, has above its bound; else empty."""
    first = error.errors()[0]
    if first["type"] != "less_than_equal":
        return ""
    return f"{first['loc'][-1]}: petkit reads at most {first['ctx']['le']}, not {str(first['input'])[:20]}"


class Counts(NamedTuple):
    """Metadata of a field: when its value can change a result, given the section it is in (without this mark: always).

    Where it cannot, a value that differs from the default is refused, with the reason that ``otherwise`` gives, if any.
    """

    when: Callable[[Any], bool]
    otherwise: str = ""


class Section(BaseModel):
    """A frozen part of the specification that refuses unknown keys and silent type changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    rule: ClassVar[Callable[[Mapping[str, Any]], Mistakes] | None] = None  # what single values of the section cannot show
    inner: ClassVar[bool] = False  # settings without effect are refused by the section around it, not in records of steps

    @model_validator(mode="after")
    def _follows_its_rule(self) -> Self:
        rule = type(self).rule
        found = [] if rule is None else rule(self.model_dump())
        found += [] if self.inner else self.without_effect()
        if found:
            text = "; ".join(message for _, message in found)
            raise PydanticCustomError("petkit", "{text}", {"text": text, "found": found})
        return self

    def without_effect(self) -> Mistakes:
        """Return the settings, of sections in it too, that differ from their default although they can change nothing."""
        found: Mistakes = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                found += [((name, *place), message) for place, message in value.without_effect()]
            for mark in field.metadata:
                if isinstance(mark, Counts) and mark.otherwise and not mark.when(self) and not self.is_default(name):
                    found.append(((name,), self.idle(name, mark.otherwise)))
        return found

    def idle(self, name: str, why: str) -> str:
        """Return what is wrong with a setting that can change nothing."""
        default = json.dumps(type(self).model_fields[name].default)
        return f"has no effect, because {why} (leave it out, or write its default, {default})"

    def is_default(self, name: str) -> bool:
        """Return whether a setting is the default, written or not."""
        return bool(getattr(self, name) == type(self).model_fields[name].default)

    def fingerprint_settings(self) -> dict[str, Any]:
        """Return the settings that can change a result; those of what is switched off are left out."""
        settings = self.model_dump()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, Counts) and not mark.when(self) for mark in field.metadata):
                del settings[name]
            elif isinstance(value, Section):
                settings[name] = value.fingerprint_settings()
        return settings
