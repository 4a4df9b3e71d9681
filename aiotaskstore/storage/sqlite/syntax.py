"""How SQLite writes `:now` and `:later(x)`."""

from __future__ import annotations

from aiotaskstore.storage.statements import Syntax

_NOW = "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"
"""Microseconds since 1970, exact to the millisecond; one value for a whole statement."""

SYNTAX = Syntax(now=_NOW, later=lambda x: f"(:now + CAST(({x}) * 1000000 AS INTEGER))")
