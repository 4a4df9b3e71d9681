"""The part of binding a step that is the same in every dialect: its statement and the values of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.operation import Batch, Call, Query
from aiotaskstore.storage.statements import INSTANTS, Statement, Statements


class Binder:
    """Finds the statement of a step, and the value of each of its parameters."""

    def __init__(self, statements: Statements, clock: Clock | None) -> None:
        self._statements, self._clock = statements, clock

    def statement(self, step: Call | Batch | Query) -> Statement:
        """Return the compiled statement that the step runs."""
        if isinstance(step, Query):
            return self._statements.compile("query", step.sql)
        return self._statements[step.name]

    def value(self, params: Mapping[str, Any], name: str) -> Any:
        """Return the value of a parameter. The instants are parameters under a test clock only."""
        return self.instant(name) if name in INSTANTS else params[name]

    def instant(self, name: str = "now") -> datetime:
        """Return the instant that `:now` or `:heartbeat_now` is, by the test clock."""
        assert self._clock is not None  # noqa: S101 - without one, they are the database's own clock
        return self._clock.now() if name == "now" else self._clock.heartbeat_now()
