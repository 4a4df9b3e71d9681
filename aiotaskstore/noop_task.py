"""A ready handler that does nothing and succeeds."""

from __future__ import annotations

from aiotaskstore.definition import TaskDefinition
from aiotaskstore.options import DefinitionOptions


async def _noop() -> None:
    """Do nothing, successfully."""


noop: TaskDefinition[[], None] = TaskDefinition(_noop, alias="noop", options=DefinitionOptions())
"""For `store.include(noop)`: proves that a queue moves."""
