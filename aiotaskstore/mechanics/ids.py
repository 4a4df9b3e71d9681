"""Task ids: UUIDv7 (RFC 9562), minted before the insert."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat

from aiotaskstore.errors import ConfigurationError, InvalidQueryError, TaskNotFoundError


def new_id() -> UUID:
    """Return a new id, larger than every id that this process has made before."""
    return uuid_utils.compat.uuid7()


def find_id(value: UUID | str) -> UUID | None:
    """Return an id that a caller passes; `None` for text that is no UUID, since no task has such an id.

    Raises `InvalidQueryError` for an empty text and for an object that is neither a UUID nor a text.
    """
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str) or not value:
        raise InvalidQueryError(_expected(value))
    try:
        return UUID(value)
    except ValueError:
        return None


def require_id(value: UUID | str) -> UUID:
    """Return the id of a task that must exist; raise `TaskNotFoundError` for text that is no UUID."""
    found = find_id(value)
    if found is None:
        raise TaskNotFoundError(value)
    return found


def filter_id(value: UUID | str) -> UUID:
    """Return the id in a filter; raise `InvalidQueryError` for anything else."""
    found = find_id(value)
    if found is None:
        raise InvalidQueryError(_expected(value))
    return found


def check_chosen_id(value: object, for_names: str = "external_id") -> UUID:
    """Return the id that a caller chose for something new; raise `ConfigurationError` for anything but a UUID."""
    try:
        chosen = value if isinstance(value, UUID) else UUID(value) if isinstance(value, str) else None
    except ValueError:
        chosen = None
    if chosen is None or not chosen.int:
        raise ConfigurationError(
            f"id must be a UUID of your own, such as uuid.uuid4(), not {value!r:.100}. Leave it out to have one made; "
            f"for a name of another form there is {for_names}."
        )
    return chosen


def _expected(value: object) -> str:
    return f"A task id is a UUID such as 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a, not {value!r:.100}."
