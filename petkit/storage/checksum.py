"""Text that contains its own checksum: the JSON documents, YAML texts and log lines of a run folder."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

_IN_JSON = '"seal": "{}"'
_IN_YAML = "# SHA-256 of the lines above: "


def json_with_checksum(data: Mapping[str, Any]) -> str:
    """Return data as JSON whose last value is the SHA-256 of the text with that value empty."""
    text = json.dumps({**data, "seal": ""}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return _with_sum(text, "", _sum(text))


def checked_json(content: bytes) -> dict[str, Any] | None:
    """Return the data of :func:`json_with_checksum`, including the checksum; None if a single bit of it has changed."""
    try:
        text = content.decode("utf-8")
        data = json.loads(text, object_pairs_hook=_each_key_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    checksum = data.get("seal") if isinstance(data, dict) else None
    return data if isinstance(checksum, str) and _sum(_with_sum(text, checksum, "")) == checksum else None


def yaml_with_checksum(text: str) -> str:
    """Return a YAML text with a last line, a comment, that contains the SHA-256 of the others."""
    return f"{text}{_IN_YAML}{_sum(text)}\n"


def is_checked_yaml(content: bytes) -> bool:
    """Say whether a file is unchanged since :func:`yaml_with_checksum`."""
    before, found, after = content.rpartition(_IN_YAML.encode())
    return bool(found) and after == hashlib.sha256(before).hexdigest().encode() + b"\n"


def log_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as a line of JSON with its CRC-32."""
    return json.dumps({**entry, "check": _crc(entry)}, ensure_ascii=False)


def is_checked_log_line(line: bytes) -> bool:
    """Say whether a line is unchanged since :func:`log_line`."""
    try:
        entry = json.loads(line)
        return bool(entry.pop("check") == _crc(entry))
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return False


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _crc(entry: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(entry, ensure_ascii=False).encode()):08x}"


def _with_sum(text: str, old: str, new: str) -> str:
    """Return a JSON document with another checksum in the place of its own."""
    before, _, after = text.rpartition(_IN_JSON.format(old))
    return before + _IN_JSON.format(new) + after


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key is repeated")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
