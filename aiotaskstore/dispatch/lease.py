"""The lease: while it is fresh, no other dispatcher rescues the tasks of this dispatcher instance."""

from __future__ import annotations

import time


class Lease:
    """Renewed by each reply to a heartbeat.

    If heartbeats get no reply for lease − heartbeat, the dispatcher must expect that others rescue its tasks soon.
    """

    def __init__(self, lease: float, heartbeat: float) -> None:
        self.trusted_for: float = lease - heartbeat
        """Seconds for which a heartbeat with a reply keeps our claims; after that, others may rescue our tasks."""
        self.replies_in_a_row: int = 0
        """How many heartbeats in a row got a reply, since the start or since the last one that got none."""
        self._renewed_at = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether the last heartbeat with a reply is recent enough that our claims are still ours."""
        return time.monotonic() - self._renewed_at < self.trusted_for

    @property
    def age(self) -> float:
        """Seconds since the last heartbeat with a reply was sent; before the first one, since the start."""
        return time.monotonic() - self._renewed_at

    def renewed_since(self, instant: float) -> bool:
        """Return whether a heartbeat sent after this instant of the monotonic clock got a reply."""
        return self._renewed_at > instant

    def renew(self, sent_at: float) -> None:
        """Renew the lease from the instant at which the heartbeat was sent."""
        self.replies_in_a_row += 1
        self._renewed_at = max(self._renewed_at, sent_at)

    def interrupt(self) -> None:
        """Count heartbeats from zero: the last one got no reply, or the database did not know the dispatcher."""
        self.replies_in_a_row = 0
