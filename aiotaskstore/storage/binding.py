"""The part of binding a step that is the same in every dialect: its statement and the values of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aiotaskstore.storage.operation import Batch, Call, Query
from aiotaskstore.storage.statements import Statement, Statements

TestClock = Callable[[], datetime]


class Binder:
    """Finds the statement of a step, and the value of each of its parameters."""

    def __init__(self, statements: Statements, clock: TestClock | None) -> None:
        self._statements, self._clock = statements, clock

    def statement(self, step: Call | Batch | Query) -> Statement:
        """Return the compiled statement that the step runs."""
        if isinstance(step, Query):
            return self._statements.compile("query", step.sql)
        return self._statements[step.name]

    def value(self, params: Mapping[str, Any], name: str) -> Any:
        """Return the value of a parameter. `now` is a parameter under a test clock only."""
        return self.now() if name == "now" else params[name]

    def now(self) -> datetime:
        """Return the test clock's instant."""
        assert self._clock is not None  # noqa: S101 - without one, :now is the database's own clock
        return self._clock()
