"""Prints a statement as it runs on each dialect, with example values in it, to be pasted into a client.

    python -m aiotaskstore.storage claim --dialect mysql

No database is needed, and no driver.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from aiotaskstore.storage.mysql.binding import MySQLBinder
from aiotaskstore.storage.mysql.syntax import SYNTAX as MYSQL
from aiotaskstore.storage.operation import Batch, Call
from aiotaskstore.storage.postgresql.binding import PostgresBinder
from aiotaskstore.storage.postgresql.syntax import SYNTAX as POSTGRESQL
from aiotaskstore.storage.sqlite.binding import SqliteBinder
from aiotaskstore.storage.sqlite.syntax import SYNTAX as SQLITE
from aiotaskstore.storage.statements import Statement, Statements
from aiotaskstore.storage.table_names import TableNames

_ID = UUID("01900000-0000-7000-8000-000000000001")
_TEXT = re.compile(r"'(?:[^']|'')*'|\$(\d+)|(\?)")
"""A string, or a parameter as asyncpg or sqlite3 writes it."""
_JSON_COLUMN = re.compile(r"(\w+) [A-Z]+(?:\(\d+\))?(?: CHARACTER SET utf8mb4)? PATH '\$\[\d+\]'")
_VALUES_COLUMNS = re.compile(r"WITH d \(([\w\s,]+)\) AS \(VALUES ")

EXAMPLES: dict[str, Any] = {
    "after": "", "document": '["customer 1"]', "keys": ["customer 1"], "keep_timeout": True, "older_than": 60.0,
    "alias": "work", "aliases": ["work"], "attempt": 1, "channel": "aiotaskstore", "defaults": "{}",
    "definition_id": _ID, "definition_status": "active",
    "memo": "A note", "delay": 60.0, "description": "What it does", "dispatcher": _ID, "end_fence": 9,
    "end_line": 9, "error": "ValueError: no", "expires_in": 604800.0, "external_id": "order 1",
    "external_ids": ["order 1"], "fence": 1, "fraction": 0.5, "host": "host-1", "id": _ID, "idle": True, "ids": [_ID],
    "keep_payload": True, "lease": 30.0, "left_out": 1, "library_version": "0.1.0", "limit": 10, "limits": [10],
    "line": 1, "max_attempts": 3, "me": _ID, "message": "no", "metadata": "{}", "name": "example", "old_id": _ID,
    "on_stuck": 0, "owner_id": "1", "owner_type": "customer", "pairs": [("work", "order 1", _ID)], "parent_id": _ID,
    "payload": "{}", "pid": 1, "priority": 100, "queue": "default", "queues": ["default"], "reason": "error",
    "refund": 0, "result": "null", "retention": None, "run_at": None, "schema_version": 999,
    "serialization_key": "customer 1", "serves": "{}", "source": "example", "status": 6, "strict": True,
    "task_id": _ID, "text": "half", "timeout": 60.0, "title": "Work", "traceback": "Traceback", "type": "ValueError",
    "version": 999, "void": 1, "why": "because",
    "after_at": datetime(2030, 1, 1, tzinfo=UTC), "after_id": _ID, "ago": -15.0, "code_owned": False,
    "deleted_at": None, "ends_at": None, "execution_count": 0, "executions": 1, "last_run_at": None,
    "max_executions": None, "misfire": "coalesce", "names": ["nightly"], "next_run_at": None, "options": "{}",
    "recurrence": '{"kind": "every", "period": 1.0}', "run_on_start": False, "schedule_status": "active",
    "started": False, "starts_at": None, "until": datetime(2030, 1, 1, tzinfo=UTC),
}  # fmt: skip
"""A value for each parameter and each column of a batch, by name."""


def printed(dialect: str, name: str) -> str | None:
    """Return a statement as it runs on a dialect; `None` where that has none of this name."""
    statements = Statements(dialect, TableNames(), _SYNTAXES[dialect])
    if name not in statements.texts:
        return None
    return _PRINTERS[dialect](statements, statements[name])


def _postgresql(statements: Statements, statement: Statement) -> str:
    arrays = [
        name for name, after in zip(statement.names, statement.pieces[1:], strict=True) if re.match(r"::\w+\[\]", after)
    ]
    columns = [name for name in dict.fromkeys(arrays) if not isinstance(EXAMPLES[name], list)]
    step = _batch(statement, columns) if columns else Call(statement.name, EXAMPLES)
    compiled, arguments = PostgresBinder(statements, None).bind(step)
    return _filled(compiled.sql, lambda match: _literal(arguments[int(match[1]) - 1]))


def _mysql(statements: Statements, statement: Statement) -> str:
    columns = _JSON_COLUMN.findall("".join(statement.pieces)) if "rows" in statement.names else []
    step = _batch(statement, columns) if columns not in ([], ["id"]) else Call(statement.name, EXAMPLES)
    return MySQLBinder(statements, None).render(step, _Escaping)


def _sqlite(statements: Statements, statement: Statement) -> str:
    binder, listed = SqliteBinder(statements, None), _VALUES_COLUMNS.search(statement.pieces[0])
    if listed:
        sql, rows = next(binder.bind_batch(_batch(statement, re.findall(r"\w+", listed[1]))))
        arguments = iter(rows[0])
    else:
        sql, values = binder.bind(Call(statement.name, EXAMPLES))
        arguments = iter(values)
    return _filled(sql, lambda _match: _literal(next(arguments)))


_SYNTAXES = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE}
_PRINTERS: dict[str, Callable[[Statements, Statement], str]] = {
    "postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite,
}  # fmt: skip


class _Escaping:
    """What MySQL's literals use of a connection: escaping as in the default sql_mode."""

    @staticmethod
    def escape_string(text: str) -> str:
        return text.replace("\\", "\\\\").replace("'", "\\'")


def _batch(statement: Statement, columns: Sequence[str]) -> Batch:
    return Batch(statement.name, tuple(columns), [tuple(EXAMPLES[name] for name in columns)])


def _filled(sql: str, value: Callable[[re.Match[str]], str]) -> str:
    return _TEXT.sub(lambda match: match[0] if match[0].startswith("'") else value(match), sql)


def _literal(value: Any) -> str:
    """Write a value as PostgreSQL and SQLite read it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).upper()
        case int() | float():
            return repr(value)
        case bytes():
            return f"X'{value.hex()}'"
        case list() | tuple():
            return _literal("{" + ", ".join(_element(one) for one in value) + "}")
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def _element(value: Any) -> str:
    """Write an element of one of PostgreSQL's arrays."""
    if value is None:
        return "NULL"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines(dialects: Sequence[str], name: str) -> Iterator[str]:
    for dialect in dialects:
        text = printed(dialect, name)
        yield f"-- {name} on {dialect}" + (", with example values" if text else ": there is none")
        if text:
            yield text + ";\n"


def main() -> int:
    """Run the command."""
    parser = ArgumentParser("python -m aiotaskstore.storage", description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="the statement's name, as in aiotaskstore/storage/sql/*.sql")
    parser.add_argument("--dialect", choices=_SYNTAXES, help="only this one")
    chosen = parser.parse_args()
    known = {name for dialect, syntax in _SYNTAXES.items() for name in Statements(dialect, TableNames(), syntax).texts}
    if chosen.name not in known:
        close = ", ".join(get_close_matches(chosen.name, known)) or "see aiotaskstore/storage/sql"
        parser.error(f'no statement is named "{chosen.name}". Did you mean: {close}?')
    dialects = [chosen.dialect] if chosen.dialect else [*_SYNTAXES]
    sys.stdout.writelines(f"{line}\n" for line in _lines(dialects, chosen.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
