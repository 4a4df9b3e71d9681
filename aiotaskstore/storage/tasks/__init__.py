"""What may happen to a task's row, as operations (`operation.py`).

Every transition is guarded by the row's status and fenced by its claim. The decisions are made here and in
`transitions.py`, once; a dialect overrides the few operations whose steps differ.
"""

from __future__ import annotations

from aiotaskstore.storage.statement_size import MOST_ROWS
from aiotaskstore.storage.tasks.actions import Actions
from aiotaskstore.storage.tasks.attempts import Attempts, ClaimKey, Line, Note, Recorded
from aiotaskstore.storage.tasks.both_halves import ActionResult, Still
from aiotaskstore.storage.tasks.changing import Changes, Changing, Payloads
from aiotaskstore.storage.tasks.enqueuing import NONE_CHOSEN, Chosen, Enqueuing
from aiotaskstore.storage.tasks.placing import Placing
from aiotaskstore.storage.tasks.queries import Queries
from aiotaskstore.storage.tasks.serialization_keys import MOST_KEYS, Claimed, SerializationKeys, WaitingKey
from aiotaskstore.storage.tasks.upkeep import Promoted, Rescue, StuckRun, Upkeep

__all__ = [
    "MOST_KEYS",
    "MOST_ROWS",
    "NONE_CHOSEN",
    "ActionResult",
    "Changes",
    "Chosen",
    "ClaimKey",
    "Claimed",
    "Line",
    "Note",
    "Payloads",
    "Promoted",
    "Recorded",
    "Rescue",
    "Still",
    "StuckRun",
    "Tasks",
    "WaitingKey",
]


class Tasks(Enqueuing, Attempts, Upkeep, Actions, Placing, Changing, SerializationKeys, Queries):
    """The operations on tasks, together."""
