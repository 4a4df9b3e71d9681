"""The text in the column `metadata`: the caller's values, and under one reserved key those of carriers."""

from __future__ import annotations

import json
from typing import Any

RESERVED_KEY = "aiotaskstore"
"""Below it stands, by the names of carriers, what they have captured; no caller sees it or may use it."""
_MARK = f'"{RESERVED_KEY}":'


def load_metadata(text: str | None) -> dict[str, Any]:
    """Read the caller's stored metadata. What somebody else wrote there, and is no JSON object, counts as none."""
    metadata = _load(text)
    metadata.pop(RESERVED_KEY, None)
    return metadata


def load_carried(text: str | None) -> dict[str, Any]:
    """Read what carriers have captured, by their names."""
    if text is None or _MARK not in text:
        return {}
    carried = _load(text).get(RESERVED_KEY)
    return carried if isinstance(carried, dict) else {}


def with_carried(text: str | None, carried: str) -> str:
    """Add what carriers have captured, as JSON text, to the caller's metadata, which has none of it yet."""
    ours = f"{_MARK}{carried}}}"
    return f"{{{ours}" if text in {None, "{}"} else f"{str(text)[:-1]},{ours}"


def keeping_carried(stored: str | None, text: str) -> str:
    """Return other metadata of the caller's for a row, with what carriers have captured when it was enqueued."""
    carried = load_carried(stored)
    return with_carried(text, json.dumps(carried, separators=(",", ":"))) if carried else text


def _load(text: str | None) -> dict[str, Any]:
    try:
        metadata = json.loads(text) if text else {}
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}
