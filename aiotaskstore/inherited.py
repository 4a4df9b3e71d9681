"""What a task has from the place where it is enqueued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID


class Inherited(NamedTuple):
    """The task whose run it is enqueued in, and the metadata of that and of the block around."""

    parent_id: UUID | None = None
    metadata: Mapping[str, Any] = {}


NOT_INHERITED = Inherited()
