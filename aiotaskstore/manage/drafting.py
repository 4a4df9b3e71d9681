"""Drafts by alias, for tasks that may be declared elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiotaskstore.definition import Draft
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.options import TaskOptions, check_options
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.registry import Registry


def draft_by_alias(
    registry: Registry,
    alias: str,
    payload: Mapping[str, Any] | None,
    options: TaskOptions,
    *,
    unchecked: bool,
    payload_limit: int,
) -> Draft[Any]:
    """Draft a task: checked against its signature if it is registered here, else only as JSON."""
    if not check_text(alias, "An alias"):
        raise ConfigurationError("An alias must not be empty; give the one that the task is registered as.")
    if payload is not None and not isinstance(payload, Mapping):
        raise PayloadError(
            f'The payload of "{alias}" must be arguments by name, such as {{"user_id": 42}}, not {payload!r:.100}.'
        )
    values = dict(payload or {})
    checked = check_options(options)
    definition = registry.get(alias)
    if definition is not None:
        text = definition.payload.encode_values(values, payload_limit)
        return Draft(definition.alias, text, definition.keyed(checked, (), values), definition)
    text = dump(ANYTHING, values, f'The payload of "{alias}"', payload_limit)
    return Draft(alias, text, checked, None, unchecked)
