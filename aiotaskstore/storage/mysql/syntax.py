"""How MySQL and MariaDB write `:now` and `:later(x)`."""

from __future__ import annotations

from aiotaskstore.storage.statements import Syntax

SYNTAX = Syntax(now="UTC_TIMESTAMP(6)", later=lambda x: f"(:now + INTERVAL ROUND(({x}) * 1000000) MICROSECOND)")
