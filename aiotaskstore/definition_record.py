"""The stored record of a definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from aiotaskstore.mechanics.ids import new_id


class DefinitionStatus(StrEnum):
    """Whether tasks of a definition may be enqueued and claimed."""

    ACTIVE = "active"
    CANCELLED = "cancelled"
    """Switched off by an operator: nothing of it is enqueued or claimed until it is activated again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the database knows of a definition, whichever process registered it.

    `Definition(alias="report")` is one that is not stored yet, for `store.definitions.create`.
    """

    id: UUID = field(default_factory=new_id)
    alias: str
    title: str = ""
    description: str = ""
    memo: str = ""
    """The operator's note; registering a handler leaves it as it is."""
    status: DefinitionStatus = DefinitionStatus.ACTIVE
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = None  # type: ignore[assignment] # `created_at`, unless given
    deleted_at: datetime | None = None
    defaults: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The options of its decorator, so that other services enqueue it by alias with the same ones."""

    def __post_init__(self) -> None:
        if self.updated_at is None:
            object.__setattr__(self, "updated_at", self.created_at)

    @property
    def active(self) -> bool:
        """Whether its tasks may be enqueued and claimed."""
        return self.status == DefinitionStatus.ACTIVE

    @property
    def cancelled(self) -> bool:
        """Whether an operator has switched it off."""
        return self.status == DefinitionStatus.CANCELLED

    @property
    def deleted(self) -> bool:
        """Whether it is soft-deleted by now; an instant ahead is not reached yet."""
        # What was written by then obeys the store's clock, which in a test may be ahead.
        return self.deleted_at is not None and self.deleted_at <= max(self.updated_at, datetime.now(UTC))
