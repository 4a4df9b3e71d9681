"""Payloads and results that somebody gives for stored tasks, checked as their definitions would check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiotaskstore.errors import PayloadError
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.registry import Registry


def payload_text(registry: Registry, alias: str, payload: Mapping[str, Any], limit: int) -> str:
    """Return a payload as JSON text: checked against the signature if the task is registered here, else only as JSON.

    Raises `PayloadError`.
    """
    definition = registry.get(alias)
    if definition is not None:
        return definition.payload.encode_values(payload, limit)
    return dump(ANYTHING, dict(payload), f'The payload of "{alias}"', limit)


def check_payload(payload: object) -> Mapping[str, Any]:
    """Return a payload if it is arguments by name; else raise `PayloadError`."""
    if not isinstance(payload, Mapping) or any(not isinstance(name, str) for name in payload):
        raise PayloadError(f'A payload is arguments by name, such as {{"user_id": 42}}, not {payload!r:.100}.')
    return payload


def result_text(registry: Registry, alias: str, result: object, limit: int) -> str:
    """Return a result as JSON text; raises `PayloadError` where it is not what the handler declares to return."""
    definition = registry.get(alias)
    if definition is not None:
        return definition.result.encode(result, limit)
    return dump(ANYTHING, result, f'The result of "{alias}"', limit)
