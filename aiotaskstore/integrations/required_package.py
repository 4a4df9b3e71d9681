"""What an integration says where the package that it connects us with is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiotaskstore.errors import ConfigurationError


@contextmanager
def required_package(package: str, extra: str) -> Iterator[None]:
    """Turn an import that fails inside the block into a `ConfigurationError` that names what to install."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"This integration needs {package}, which cannot be imported ({error}). "
            f"Run: pip install 'aiotaskstore[{extra}]'"
        ) from error
