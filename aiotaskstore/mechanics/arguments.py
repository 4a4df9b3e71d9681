"""Whether a function of the application can be called with the arguments that it will be given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aiotaskstore.errors import ConfigurationError


def check_takes(function: Callable[..., Any], arguments: str, kind: str) -> None:
    """Raise `ConfigurationError` if `function` cannot be called with `arguments`, such as "context, task, error".

    `kind` says in the message what the function is, such as "hook".
    """
    given = [name for name in arguments.split(", ") if name]
    try:
        inspect.signature(function).bind(*given)
    except TypeError as error:
        raise ConfigurationError(
            f"This {kind} is called with ({arguments}), which {function!r:.100} does not take: {error}."
        ) from error
    except ValueError:  # a builtin without a signature
        pass
