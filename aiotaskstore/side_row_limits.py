"""How many errors and how many lines of details are kept of one task."""

from __future__ import annotations

from aiotaskstore.mechanics.entry_limit import EntryLimit

ERRORS = EntryLimit(first=20, newest=80, first_characters=50_000, newest_characters=200_000)
DETAILS = EntryLimit(first=200, newest=800, first_characters=50_000, newest_characters=200_000)
