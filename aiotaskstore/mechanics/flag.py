"""Arguments that are `True` or `False`."""

from __future__ import annotations

from aiotaskstore.errors import ConfigurationError


def check_flag(value: object, name: str) -> bool:
    """Return `value` if it is `True` or `False`: of any other, such as "no", nobody knows which was meant."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r:.100}.")
    return value
