"""A hint: what may have changed in the database, so that a loop reads it before its next poll."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

NO_QUEUES: frozenset[str] = frozenset()


class Hint(NamedTuple):
    """What may have changed. A hint is never a promise: losing one costs at most a poll. Two merge with `|`."""

    queues: frozenset[str] = NO_QUEUES
    """Queues that may have work."""
    any_queue: bool = False
    """Whether any queue may have work."""
    scheduled: bool = False
    """Whether a task was scheduled, perhaps sooner than all others."""
    cancel_requested: bool = False
    """Whether the cancel of a running task was requested."""
    restrictions_changed: bool = False
    """Whether a queue was paused or resumed, or a definition cancelled or activated."""
    schedules: bool = False
    """Whether a schedule was created or changed, perhaps to be due sooner than all others."""

    def __bool__(self) -> bool:
        return self != NOTHING

    def __or__(self, other: Hint) -> Hint:
        if self == other:  # as nearly always where many tasks of one queue are enqueued
            return self
        return Hint(
            self.queues | other.queues,
            self.any_queue or other.any_queue,
            self.scheduled or other.scheduled,
            self.cancel_requested or other.cancel_requested,
            self.restrictions_changed or other.restrictions_changed,
            self.schedules or other.schedules,
        )

    @property
    def urgent(self) -> bool:
        """Whether it concerns dispatchers that are busy too, not only those that sleep."""
        return self.cancel_requested or self.restrictions_changed or self.schedules

    @property
    def work(self) -> bool:
        """Whether a queue may have work."""
        return self.any_queue or bool(self.queues)

    def names(self, queue: str) -> bool:
        """Whether this queue may have work."""
        return self.any_queue or queue in self.queues

    def encode(self, most_bytes: int) -> str:
        """Return the hint as text for other processes; more queues than fit into `most_bytes` become any queue."""
        values: dict[str, Any] = {name: value for name, value in self._asdict().items() if value}
        if self.queues:
            values["queues"] = sorted(self.queues)
        text = json.dumps(values)
        if len(text) <= most_bytes:  # json writes ASCII
            return text
        return self._replace(queues=NO_QUEUES, any_queue=True).encode(most_bytes)

    @classmethod
    def decode(cls, text: str) -> Hint:
        """Return the hint of a text that `encode` returned; of any other text, as of another version, any queue."""
        try:
            values = json.loads(text)
            return cls(**{**values, "queues": frozenset(values.get("queues", ()))})
        except (ValueError, TypeError, AttributeError):
            return ANY_QUEUE


NOTHING = Hint()
ANY_QUEUE = Hint(any_queue=True)
SCHEDULED = Hint(scheduled=True)
CANCEL_REQUESTED = Hint(cancel_requested=True)
RESTRICTIONS_CHANGED = Hint(restrictions_changed=True)
SCHEDULES = Hint(schedules=True)


@lru_cache(1_000)
def queue_hint(*queues: str) -> Hint:
    """Return the hint that these queues may have work."""
    return Hint(frozenset(queues))
