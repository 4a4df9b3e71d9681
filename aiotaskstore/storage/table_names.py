"""The names of our tables: a prefix, and on PostgreSQL a schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from aiotaskstore.errors import ConfigurationError

DEFAULT_PREFIX = "aiotaskstore_"
TABLES = (
    "tasks", "ready", "history", "task_keys", "task_errors", "task_progress", "task_details",
    "definitions", "dispatchers", "queues", "schedules", "migrations",
)  # fmt: skip

_LONGEST_NAME = 63
"""Bytes of a PostgreSQL identifier; MySQL takes 64 characters."""
_QUALIFIED = re.compile(rf"{DEFAULT_PREFIX}(?:{'|'.join(TABLES)})\b|(?<=DROP INDEX ){DEFAULT_PREFIX}\w+")
"""What a schema has to be named for: tables, and an index that is dropped, since one is made in its table's schema."""


@dataclass(frozen=True)
class TableNames:
    """The prefix of every table name and, on PostgreSQL, the schema."""

    prefix: str = DEFAULT_PREFIX
    schema: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.prefix, str) and re.fullmatch(r"[a-z_][a-z0-9_]{0,29}", self.prefix)):
            raise ConfigurationError(
                "A table prefix is lower-case letters, digits and _, at most 30, not starting with a digit; "
                f"{self.prefix!r:.100} is not."
            )
        if self.prefix.startswith("sqlite_"):
            raise ConfigurationError(
                f"A table prefix must not start with sqlite_, which SQLite keeps for itself; {self.prefix!r:.100} does."
            )
        if self.schema is not None and not (
            isinstance(self.schema, str) and re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", self.schema)
        ):
            raise ConfigurationError(
                "A schema name is lower-case letters, digits and _, at most 63, starting neither with a digit nor with "
                f"pg_, which PostgreSQL keeps for itself; {self.schema!r:.100} is not."
            )

    def apply(self, sql: str) -> str:
        """Return an SQL text with these names in place of the default ones."""
        qualifier = f"{self.quoted_schema}." if self.schema else ""
        sql = _QUALIFIED.sub(lambda match: qualifier + match[0], sql) if qualifier else sql
        return sql.replace(DEFAULT_PREFIX, self.prefix)

    @property
    def quoted_schema(self) -> str:
        """The schema in quotes, since its name may be a reserved word, such as user."""
        return f'"{self.schema}"'

    @cached_property
    def channel(self) -> str:
        """The channel of the notifications, in the 63 bytes that PostgreSQL allows."""
        name = f"aiotaskstore:{self.key}"
        return name if len(name) <= _LONGEST_NAME else f"aiotaskstore:{sha256(self.key.encode()).hexdigest()[:32]}"

    @property
    def described(self) -> str:
        """The names as a text for people."""
        return f'prefix "{self.prefix}"' + (f', schema "{self.schema}"' if self.schema else "")

    @cached_property
    def key(self) -> str:
        """A text that differs between two installations in one database."""
        return f"{self.schema or ''}.{self.prefix}"
