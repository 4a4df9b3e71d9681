"""How PostgreSQL writes `:now` and `:later(x)`."""

from __future__ import annotations

from aiotaskstore.storage.statements import Syntax

SYNTAX = Syntax(
    now="statement_timestamp()",
    later=lambda x: f"(:now + ({x})::float8 * interval '1 second')",
    instant="::timestamptz",
)
