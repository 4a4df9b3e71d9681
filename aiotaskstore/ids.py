"""Task ids: UUIDv7 (RFC 9562), minted before the insert."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat

from aiotaskstore.errors import ConfigurationError


def new_id() -> UUID:
    """Mint an id that is larger than every id this process minted before."""
    return uuid_utils.compat.uuid7()


def as_id(value: UUID | str) -> UUID:
    """Read an id a caller gave; text that is no UUID is a `ConfigurationError`."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            f"A task id is a UUID such as 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a, not {value!r}."
        ) from None
