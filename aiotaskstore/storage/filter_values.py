"""Checks the values of filters; each raises `InvalidQueryError` for one that cannot be meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, InvalidQueryError
from aiotaskstore.mechanics.ids import filter_id
from aiotaskstore.mechanics.text import storable
from aiotaskstore.options import check_instant


def check_names(filters: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse filters that do not exist, and filters that are `None`: those would match every row."""
    unknown = filters.keys() - set(known)
    if unknown:
        raise InvalidQueryError(f"There is no filter {listed(unknown)}. Known: {listed(known)}.")
    for name, value in filters.items():
        if value is None and name != "limit":
            raise InvalidQueryError(
                f"{name} is None, which is no filter: it would match everything. Leave {name} out if that is meant."
            )


def check_many(name: str, value: Any) -> list[Any]:
    """Return one or a list as a list that is not empty."""
    if isinstance(value, str):
        value = [value]
    try:
        values = list(value)
    except TypeError:
        raise InvalidQueryError(f"{name} takes one or a list, not {value!r:.100}.") from None
    if not values:
        raise InvalidQueryError(f"{name} is an empty list, which nothing can match; leave it out.")
    return values


def check_filter_text(name: str, value: object) -> str:
    """Return text that is not empty and that a row could have."""
    if not isinstance(value, str) or not value:
        raise InvalidQueryError(f"{name} must be a text that is not empty, not {value!r:.100}.")
    if "\0" in value or not storable(value):
        raise InvalidQueryError(f"{name} must be storable text, but {value!r:.100} is not.")
    return value


def check_filter_id(name: str, value: Any) -> UUID:
    """Return an id."""
    try:
        return filter_id(value)
    except InvalidQueryError as error:
        raise InvalidQueryError(f"{name}: {error}") from None


def check_filter_instant(name: str, value: Any) -> datetime:
    """Return an instant with a timezone."""
    try:
        return check_instant(value, name)
    except ConfigurationError as error:
        raise InvalidQueryError(str(error)) from None


def check_flag(name: str, value: Any) -> bool:
    """Return `True` or `False`."""
    if not isinstance(value, bool):
        raise InvalidQueryError(f"{name} must be True or False, not {value!r:.100}.")
    return value


def check_page(name: str, value: Any) -> int | None:
    """Return a limit or an offset; `None` where there is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidQueryError(f"{name} must be a whole number of zero or more, below 2**31, not {value!r:.100}.")
    return value


def listed(names: Iterable[Any]) -> str:
    """Write names in their order, separated by commas."""
    return ", ".join(sorted(str(name) for name in names))
