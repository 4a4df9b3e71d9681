"""The health of a dispatcher, from what its instance knows. Reads only; callable from any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.health import LONGEST_LAG, DispatcherHealth

if TYPE_CHECKING:
    from aiotaskstore.dispatch.instance import DispatcherInstance
    from aiotaskstore.dispatch.listening import Listening
    from aiotaskstore.storage.database import Database


def health_of(instance: DispatcherInstance, settings: DispatcherSettings) -> DispatcherHealth:
    """Return the health of a dispatcher that has been started and has not stopped."""
    assembly, life = instance.assembly, instance.life
    lag, age = assembly.loop_lag.seconds, assembly.lease.age
    dead = [f"its event loop has been blocked for {lag:.1f} s"] if lag >= LONGEST_LAG else []
    dead += [str(life.failure)] if life.failure is not None else []
    busy = ["it is stopping"] if life.stopping else [] if life.start_done.is_set() else ["it is starting"]
    busy += [] if assembly.lease.fresh else [f"no heartbeat has got a reply for {age:.1f} s"]
    return DispatcherHealth(
        name=settings.name,
        id=instance.id,
        live=not dead,
        ready=not dead and not busy,
        problems=(*dead, *busy),
        stopping=life.stopping,
        running=len(instance.in_flight.runs),
        slots_in_use=instance.in_flight.slots.in_use,
        abandoned=instance.in_flight.abandoned,
        loop_lag=lag,
        heartbeat_age=age,
        waking=_waking(instance.database, assembly.listening),
        listening=assembly.listening.active,
    )


def stopped(settings: DispatcherSettings, failure: BaseException | None) -> DispatcherHealth:
    """Return the health of a dispatcher that does not run; `failure` is what ended it, if one of its loops did."""
    problem = "it is stopped" if failure is None else str(failure)
    return DispatcherHealth(name=settings.name, id=None, live=failure is None, ready=False, problems=(problem,))


def _waking(database: Database, listening: Listening) -> str:
    if database.shared_memory:
        return "memory"
    return database.waking if listening.can_listen else "poll"
