"""An alias: the stable name of a definition."""

from __future__ import annotations

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.text import check_text

RESERVED = frozenset({"list"})
"""Aliases that the command line uses itself."""


def check_alias(alias: str) -> str:
    """Return an alias if tasks can be enqueued under it."""
    if check_text(alias, "An alias") in ("", "<lambda>"):
        raise ConfigurationError("A task needs an alias: name the function, or pass alias=.")
    if fold(alias) in RESERVED:
        raise ConfigurationError(f'The alias "{alias}" is reserved for the command line; choose another one.')
    return alias


def fold(alias: str) -> str:
    """Return the form by which aliases are compared: case, "-" and "_" do not count."""
    return alias.lower().replace("-", "").replace("_", "")
