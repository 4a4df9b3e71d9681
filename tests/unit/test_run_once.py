"""One pass over what is due, when a task becomes due while it looks."""

from __future__ import annotations

from typing import Any

from aiotaskstore.dispatch.run_once import RunOnce
from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.mechanics.hint import queue_hint
from aiotaskstore.mechanics.timed_event import TimedEvent


class Idle:
    """Every part that has nothing to do."""

    granted, pending = 0, False

    def __init__(self) -> None:
        self.empty = TimedEvent()
        self.empty.set()

    async def nothing(self, **_: Any) -> None: ...

    send = rescue_once = sweep_once = promote_once = drain = nothing

    def claims(self) -> frozenset[Any]:
        return frozenset()


class Claimer:
    """Finds nothing, while the last run writes a retry; then finds that."""

    exhausted, has_room = True, True

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._replies = [0, 1, 0]

    async def claim_once(self, _most: int | None) -> int:
        self._wakeup.take()
        reply = self._replies.pop(0)
        if len(self._replies) == 2:
            self._wakeup.receive(queue_hint("default"))
        return reply


async def test_a_pass_looks_again_where_a_task_was_returned_to_the_queue_while_it_looked():
    idle: Any = Idle()
    wakeup = Wakeup(1.0, listening=lambda: False, mark_idle=None, expects_work=lambda: False)
    claimer: Any = Claimer(wakeup)
    run_once = RunOnce(
        None,
        heartbeat=idle,
        healer=idle,
        scheduler=None,
        promoter=idle,
        key_sweep=idle,
        key_grants=idle,
        wakeup=wakeup,
        claimer=claimer,
        in_flight=idle,
        recorder=idle,
        stopping=lambda: False,
    )
    await run_once.run()
    assert run_once.ran() == 1
