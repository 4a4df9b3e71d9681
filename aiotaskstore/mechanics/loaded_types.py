"""Recognises objects of optional packages without importing them: whoever has one has imported its module."""

from __future__ import annotations

import sys


def is_instance(value: object, module: str, *names: str) -> bool:
    """Return whether a value is an instance of one of these classes of a module, which need not be installed."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return False
    kinds = [getattr(loaded, name, None) for name in names]
    return isinstance(value, tuple(kind for kind in kinds if isinstance(kind, type)))


def is_sqlalchemy(value: object) -> bool:
    """Return whether a value is SQLAlchemy's `AsyncSession`, its scoped form, or its `AsyncConnection`."""
    return is_instance(value, "sqlalchemy.ext.asyncio", "AsyncConnection", "AsyncSession", "async_scoped_session")


def described(value: object) -> str:
    """Return the name of a value's class, with the package it comes from."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}'s {kind.__qualname__}"
