"""Binds steps for aiomysql: values are written into the text, since it has no server-side parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiotaskstore.storage.binding import Binder
from aiotaskstore.storage.mysql.literals import document, literal
from aiotaskstore.storage.operation import Batch, Begin, Step
from aiotaskstore.storage.statements import Statement


class MySQLBinder(Binder):
    """Writes the values of a step into its text."""

    def render(self, step: Step, connection: Any) -> str:
        """Return a step as one text, escaped by the connection's rules."""
        assert not isinstance(step, Begin)  # noqa: S101 - run_operation() takes it
        statement = self.statement(step)
        if isinstance(step, Batch):
            return self._fill(statement, {"rows": document(step.rows)}, connection)
        if "pairs" in statement.names:
            return self._fill(statement, {**step.params, "pairs": document(step.params["pairs"])}, connection)
        if "rows" in statement.names:
            ids = document([(id_,) for id_ in step.params["ids"]])
            return self._fill(statement, {**step.params, "rows": ids}, connection)
        return self._fill(statement, step.params, connection)

    def _fill(self, statement: Statement, params: Mapping[str, Any], connection: Any) -> str:
        parts = [statement.pieces[0]]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            parts += (literal(self.value(params, name), connection), after)
        return "".join(parts)
