"""The stored record of a definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the database knows of a definition, whichever process registered it."""

    id: UUID
    alias: str
    title: str
    description: str
    memo: str
    status: str
    """`active`, or `cancelled` by an operator."""
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    defaults: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The options its decorator gave, so that other services enqueue it by alias with the same ones."""
