"""Free slots → claim → runs. One statement in flight, for every queue that may have work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiotaskstore.dispatch.upkeep import Backoff
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.storage.steps import Unit
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import Claim

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift


class Claimer:
    """Knows which queues may have more than it has taken, and takes what there are slots for."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._named = shift.settings.queues
        self._known: set[str] = set(self._named or shift.declared_queues)
        self._fertile: set[str] = set(self._known)
        """Queues that may hold tasks we have not claimed."""

    async def run(self) -> None:
        """Claim whatever there is as soon as there are slots, then sleep until something changes; for ever."""
        backoff = Backoff("claimer", self._shift.hooks)
        while True:
            try:
                await self._claim_or_sleep()
            except TaskStoreError as error:
                self._shift.wakeup.hint(frozenset())
                await backoff.wait(error)
            else:
                backoff.reset()

    async def claim_once(self, most: int | None = None) -> int:
        """Claim tasks for the slots that are free; gives how many.

        With `most`, at most so many of one queue; `exhausted` tells whether there may be more elsewhere.
        """
        shift, every_queue = self._shift, self._listen_to_hints()
        discover = every_queue and self._named is None
        wants = self._wants(most or MOST_ROWS)[: 1 if most else None]
        if not (wants or discover):
            return 0
        unknown: list[str] = []

        def claim() -> Unit[list[Claim]]:
            asked = list(wants)
            unknown.clear()
            if every_queue and shift.settings.on_missing == "fail":
                pending = yield from shift.storage.tasks.pending_aliases()
                shift.foreign_aliases |= set(pending) - set(shift.aliases)
            if discover:
                queues = yield from shift.storage.tasks.pending_queues()
                unknown.extend(queue for queue in queues if queue not in self._known)
                asked += [(queue, min(MOST_ROWS, shift.slots.free(queue))) for queue in unknown if not most]
            if not asked:
                return []
            return (yield from shift.storage.tasks.claim(shift.dispatcher_id, asked, shift.aliases))

        claims = await shift.claim(claim)
        self._known.update(unknown)
        self._fertile.update(unknown)
        self._begin(claims, wants)
        return len(claims)

    @property
    def exhausted(self) -> bool:
        """Whether every queue we know was found empty since the last hint."""
        return not self._fertile

    @property
    def has_room(self) -> bool:
        """Whether a queue that may have tasks has a free slot."""
        return bool(self._wants(1))

    def may_hold(self, queue: str) -> bool:
        """Tell whether a queue may hold tasks that wait for one of our slots."""
        return queue in self._fertile

    async def _claim_or_sleep(self) -> None:
        shift, wakeup = self._shift, self._shift.wakeup
        if not shift.may_claim:
            await wakeup.change()  # a heartbeat's answer, or room in the recorder's backlog
        elif await self.claim_once():
            wakeup.worked()
            await wakeup.wake()
        elif wakeup.hinted:
            return
        elif self._fertile:
            await wakeup.change()  # a slot
        elif await wakeup.fall_asleep():
            wakeup.hint(frozenset())  # the last look, now that everybody can see that we sleep
        else:
            await wakeup.sleep()

    def _listen_to_hints(self) -> bool:
        """Take hints in; true if any queue may have work, also one that we do not know."""
        every_queue, queues = self._shift.wakeup.take()
        if every_queue:
            self._fertile |= self._known
        if self._named is None:
            self._known |= queues
        self._fertile |= queues & self._known
        return every_queue

    def _wants(self, most: int) -> list[tuple[str, int]]:
        wants = []
        for queue in sorted(self._fertile):
            room = min(self._shift.slots.free(queue), most)
            if room > 0:
                wants.append((queue, room))
        return wants

    def _begin(self, claims: Sequence[Claim], wants: Sequence[tuple[str, int]]) -> None:
        self._shift.begin(sorted(claims, key=_order))
        came = Counter(claim.queue for claim in claims)
        wakeup = self._shift.wakeup
        for queue, asked in wants:
            hinted = wakeup.every_queue or queue in wakeup.queues
            if came[queue] < asked and not hinted:
                self._fertile.discard(queue)


def _order(claim: Claim) -> tuple[int, object, object]:
    return claim.priority, claim.run_at, claim.id
