"""Text that every database can hold: no NUL, no lone surrogate, no more than fits."""

from __future__ import annotations

from aiotaskstore.errors import ConfigurationError

NAME_LIMIT = 100
"""Longest queue name, alias, owner type and source, in characters."""

LONG_LIMIT = 255
"""Longest external id, owner id and serialization key, in characters."""


def check_text(value: object, name: str, *, limit: int = NAME_LIMIT) -> str:
    """Return `value` if every database can store it unchanged; else raise `ConfigurationError` with the reason."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, not {value!r:.100} ({type(value).__name__}).")
    if len(value) > limit:
        raise ConfigurationError(f"{name} may have at most {limit} characters, but {value[:40]!r}… has {len(value)}.")
    if "\0" in value:
        raise ConfigurationError(f"{name} must not contain a NUL character, but {value!r:.100} does.")
    if value.endswith(" ") and limit <= LONG_LIMIT:
        raise ConfigurationError(
            f"{name} must not end with a space, which MySQL does not see, but {value!r:.100} does."
        )
    if not storable(value):
        raise ConfigurationError(f"{name} must be valid Unicode, but {value!r:.100} has a lone surrogate.")
    return value


def size_in_bytes(text: str) -> int:
    """Return how many bytes `text` has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def storable(value: str) -> bool:
    """Return whether `value` can be encoded in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(value: object, *, limit: int = 10_000) -> str:
    """Return any object as storable text for people. Never fails; characters that cannot be stored are escaped."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - a broken __str__ must not lose the outcome it describes
        text = f"<{type(value).__name__} that cannot be printed>"
    text = text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def on_one_line(value: object, *, limit: int = 10_000) -> str:
    """Return any object as storable text without line breaks, for a log that has a line for each fact."""
    return "\\n".join(printable(value, limit=limit).splitlines())
