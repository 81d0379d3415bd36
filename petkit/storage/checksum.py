"""Text that contains its own checksum: the JSON documents, YAML texts and log lines of a run folder."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

_IN_YAML = "# SHA-256 of the lines above: "


def json_with_checksum(data: Mapping[str, Any]) -> str:
    """Return data as JSON whose last value is the SHA-256 of the text with that value empty."""
    return _json({**data, "seal": _sum(_json({**data, "seal": ""}))})


def checked_json(content: bytes) -> dict[str, Any] | None:
    """Return the data of :func:`json_with_checksum`, including the checksum; None if a single bit of it has changed."""
    try:
        text = content.decode("utf-8")
        data = json.loads(text)
        return data if isinstance(data, dict) and json_with_checksum(data) == text else None
    except (ValueError, RecursionError):
        return None


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


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _crc(entry: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(entry, ensure_ascii=False).encode()):08x}"
