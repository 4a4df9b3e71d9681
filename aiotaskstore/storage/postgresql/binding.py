"""Binds steps for asyncpg: `$1 …` in the text, a list as an array, the rows of a batch as an array for each column."""

from __future__ import annotations

from typing import Any

from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.binding import Binder
from aiotaskstore.storage.operation import Batch, Begin, Call, Query, Step
from aiotaskstore.storage.statements import Statement, Statements


class Compiled:
    """One statement with `$1 …` in its text, and the order of its parameters."""

    __slots__ = ("order", "sql")

    def __init__(self, statement: Statement) -> None:
        numbers: dict[str, int] = {}
        sql = statement.pieces[0]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            number = numbers.setdefault(name, len(numbers) + 1)
            if sql.endswith(" IN "):
                sql = f"{sql[:-3]}= ANY(${number}){after}"
            else:
                sql = f"{sql}${number}{after}"
        self.sql: str = sql
        self.order: tuple[str, ...] = tuple(numbers)


class PostgresBinder(Binder):
    """Turns steps into asyncpg's statements, and their values into arguments in the statement's order."""

    def __init__(self, statements: Statements, clock: Clock | None) -> None:
        super().__init__(statements, clock)
        self._compiled: dict[str, Compiled] = {}

    def bind(self, step: Step) -> tuple[Compiled, list[Any]]:
        """Return the compiled statement of a step, and its arguments."""
        assert not isinstance(step, Begin)  # noqa: S101 - run_operation() takes it
        if isinstance(step, Query):
            compiled = Compiled(self.statement(step))
            return compiled, [self.value(step.params, name) for name in compiled.order]
        compiled = self._compiled.get(step.name) or self._compile(step)
        if isinstance(step, Batch):
            columns = list(zip(*step.rows, strict=True))
            at = {name: index for index, name in enumerate(step.fields)}
            return compiled, [columns[at[name]] if name in at else self.instant(name) for name in compiled.order]
        return compiled, [self.value(step.params, name) for name in compiled.order]

    def _compile(self, step: Call | Batch) -> Compiled:
        compiled = self._compiled[step.name] = Compiled(self.statement(step))
        return compiled
