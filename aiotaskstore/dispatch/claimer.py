"""Claims tasks for free slots and begins their runs, with one claim statement at a time for all queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from aiotaskstore.dispatch.claim_sender import ClaimSender
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.loop_backoff import LoopBackoff
from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import Claim


class Claimer:
    """Knows which queues may have work, and claims as many tasks as there are free slots.

    `may_claim` returns true while the lease is fresh and not too many outcomes or hooks wait.
    """

    def __init__(
        self,
        settings: DispatcherSettings,
        claim_sender: ClaimSender,
        in_flight: InFlight,
        wakeup: Wakeup,
        *,
        backoff: LoopBackoff,
        may_claim: Callable[[], bool],
        stopping: Callable[[], bool],
    ) -> None:
        self._named, self._fails_missing = settings.queues, settings.on_missing == "fail"
        self._claim_sender, self._in_flight, self._wakeup = claim_sender, in_flight, wakeup
        self._freed_keys = claim_sender.freed_keys
        self._backoff, self._may_claim, self._stopping = backoff, may_claim, stopping
        self._queues_with_work: set[str] = set()
        """Queues that may have pending tasks. A queue is removed when a claim finds fewer tasks in it than wanted."""
        in_flight.slots.freed = self._slot_freed

    async def run(self) -> None:
        """Until the stop, claim tasks while there are free slots and pending tasks, and sleep otherwise."""
        try:
            while not self._stopping():
                self._freed_keys.wait_for_claims()
                try:
                    await self._claim_or_sleep()
                except TaskStoreError as error:
                    self._freed_keys.wait_for_no_claim()
                    self._wakeup.receive(ANY_QUEUE)
                    if not self._stopping():
                        await self._backoff.wait(error)
                else:
                    self._backoff.reset()
        finally:
            self._freed_keys.wait_for_no_claim()

    async def claim_once(self, most: int | None = None) -> int:
        """Claim tasks for the free slots; return how many tasks were claimed.

        With `most`, claim at most so many tasks, and of one queue only; other queues may then still have tasks.
        """
        any_queue = self._take_hints()
        discovers = any_queue and self._named is None
        if not (discovers or self.has_room):
            return 0
        if any_queue and self._fails_missing:
            await self._claim_sender.find_missing_handlers()
        if discovers:
            self._queues_with_work.update(await self._claim_sender.pending_queues())
        self._queues_with_work -= await self._claim_sender.paused_queues()  # a hint brings back one that is resumed
        wanted = self._wanted(most or MOST_ROWS)[: 1 if most else None]
        if not wanted or self._stopping():  # no await may follow until the claim is sent: a stop waits for its reply
            return 0
        claims = await self._claim_sender.claim(wanted)
        self._begin(claims, wanted)
        return len(claims)

    @property
    def exhausted(self) -> bool:
        """Whether every queue was found empty after the last hint."""
        return not self._queues_with_work

    @property
    def has_room(self) -> bool:
        """Whether a queue that may have tasks has a free slot."""
        return bool(self._wanted(1))

    async def _claim_or_sleep(self) -> None:
        wakeup = self._wakeup
        wakeup.poll_if_due()
        if not self._may_claim():
            self._freed_keys.grant()
            await wakeup.change()  # until a heartbeat gets a reply, or fewer outcomes or hooks wait
            return
        if await self.claim_once():
            wakeup.worked()
            await wakeup.remove_idle_mark()
            return
        if wakeup.hinted:
            return
        self._freed_keys.grant()  # no claim takes them: there is no free slot, or their queue is paused
        if self._queues_with_work:
            await wakeup.change()  # until a slot is free, or until it is time to look at the other queues
        elif await wakeup.wait_for_expected_work():
            return
        elif await wakeup.set_idle_mark():
            wakeup.receive(ANY_QUEUE)  # a last look: from now on, a process that enqueues sees that we are idle
        else:
            await wakeup.sleep()

    def _take_hints(self) -> bool:
        """Add the hinted queues; true if any queue may have work, also a queue whose name is not known here."""
        hint = self._wakeup.take()
        if self._named is None:
            self._queues_with_work |= hint.queues
        else:
            self._queues_with_work |= set(self._named) if hint.any_queue else hint.queues & self._named.keys()
        return hint.any_queue

    def _wanted(self, most: int) -> list[tuple[str, int]]:
        """Return the queues that may have work and have free slots, each with the number of tasks to claim."""
        free = self._in_flight.slots.free
        rooms = [(queue, min(free(queue), most)) for queue in sorted(self._queues_with_work)]
        return [(queue, room) for queue, room in rooms if room > 0]

    def _begin(self, claims: Sequence[Claim], wanted: Sequence[tuple[str, int]]) -> None:
        self._in_flight.begin(sorted(claims, key=_order), self._claim_sender.took)
        came = Counter(claim.queue for claim in claims)
        for queue, room in wanted:
            if came[queue] < room and not self._wakeup.hinted.names(queue):
                self._queues_with_work.discard(queue)

    def _slot_freed(self, queue: str) -> None:
        if queue in self._queues_with_work:
            self._wakeup.wake()


def _order(claim: Claim) -> tuple[int, object, object]:
    return claim.priority, claim.run_at, claim.id
