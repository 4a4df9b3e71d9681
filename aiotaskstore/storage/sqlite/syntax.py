"""How SQLite writes `:now` and `:later(x)`."""

from __future__ import annotations

from aiotaskstore.storage.statements import Syntax

SYNTAX = Syntax(now=None, later=lambda x: f"(:now + CAST(({x}) * 1000000 AS INTEGER))")
"""The clock is this process's, which is exact to the microsecond. SQLite's own counts milliseconds: a task due at this
very instant would not be due yet, and would seem to be made before its caller asked for it."""
