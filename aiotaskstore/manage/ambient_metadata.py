"""What a task has from the place where it is enqueued: the running task, and `store.metadata(…)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiotaskstore.context import running_context
from aiotaskstore.inherited import NOT_INHERITED, Inherited
from aiotaskstore.options import dump_metadata

_metadata: ContextVar[dict[str, Any] | None] = ContextVar("aiotaskstore_metadata", default=None)


@contextmanager
def metadata(**values: Any) -> Iterator[None]:
    """Add metadata to what is enqueued inside; a task's own `metadata=` option wins over it."""
    dump_metadata(values)
    token = _metadata.set({**(_metadata.get() or {}), **values})
    try:
        yield
    finally:
        _metadata.reset(token)


def inherited() -> Inherited:
    """Return what a task enqueued here inherits."""
    context, ambient = running_context.get(), _metadata.get()
    if context is None:
        return NOT_INHERITED if ambient is None else Inherited(None, ambient)
    return Inherited(context.task_id, {**context.metadata, **(ambient or {})})
