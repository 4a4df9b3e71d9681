"""At each reply to a heartbeat, compares the claims that the database lists for us with the runs that we have."""

from __future__ import annotations

from collections.abc import Callable

from aiotaskstore.dispatch.heartbeat import MOST_LISTED, HeartbeatReply, retry_after
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.lease import Lease
from aiotaskstore.dispatch.loop_backoff import LoopBackoffs
from aiotaskstore.dispatch.registration import Registration
from aiotaskstore.dispatch.run import StopReason
from aiotaskstore.dispatch.unseen_claims import UnseenClaims
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.timed_event import TimedEvent

_GUARD_EVERY = 0.5


class Reconciler:
    """Renews the lease, ends runs whose claim is lost, and releases claims that have no run here."""

    def __init__(
        self,
        heartbeat: float,
        lease: Lease,
        in_flight: InFlight,
        registration: Registration,
        backoffs: LoopBackoffs,
        *,
        unseen_claims: UnseenClaims,
        wake: Callable[[], None],
    ) -> None:
        self._heartbeat, self._lease, self._wake = heartbeat, lease, wake
        self._in_flight, self._registration, self._unseen_claims = in_flight, registration, unseen_claims
        self._backoffs, self._backoff = backoffs, backoffs.create("heartbeat")

    def replied(self, reply: HeartbeatReply) -> None:
        """Act on a reply to a heartbeat. Called in the dispatcher's own event loop."""
        if reply.known:
            self._lease.renew(reply.sent_at)
        else:  # until we are registered again, other dispatchers may rescue the tasks that we claim
            self._lease.interrupt()
            self._in_flight.stop(StopReason.LOST)
            self._registration.register_again()
        if len(reply.running) < MOST_LISTED:
            self._in_flight.stop_unlisted(reply.running, reply.sent_at)
        self._unseen_claims.listed(reply.running - self._in_flight.claims())
        self._backoff.reset()
        self._backoffs.retry_now()
        self._wake()

    def missed(self, error: TaskStoreError) -> None:
        """Report that a heartbeat got no reply. Called in the dispatcher's own event loop."""
        self._lease.interrupt()
        self._backoff.failed(error, retry_after(self._heartbeat))

    async def guard(self, closing: TimedEvent) -> None:
        """End all runs as lost once the lease may have lapsed without a heartbeat."""
        period = min(_GUARD_EVERY, self._heartbeat / 2)
        while not await closing.wait(period):
            if not self._lease.fresh:
                self._in_flight.stop(StopReason.LOST)
