"""The version of this library, as it is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def library_version() -> str:
    """Return the version of the installed package; `unknown` where only its files are there."""
    try:
        return version("aiotaskstore")
    except PackageNotFoundError:
        return "unknown"
