"""Sweeps the serialization keys: finds free ones for which tasks wait, and that nobody is about to grant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.storage.storage import Storage

_MOST_LOOKS = 20
"""Looks in one sweep; the next sweep goes on after the last key of these."""


class KeySweep:
    """Heals what is left where a process died between a commit that freed a key and the grant that follows it.

    Nor does a grant follow what callers changed in transactions of their own, or a first task whose row was locked.

    `passing_on` returns the keys that this dispatcher itself is about to pass on: a busy one frees and grants thousands
    a second, and the looks would find many of them in between.
    """

    def __init__(self, storage: Storage, grants: KeyGrants, *, passing_on: Callable[[], Iterable[str]]) -> None:
        self._storage, self._grants, self._passing_on = storage, grants, passing_on
        self._after = ""

    async def sweep_once(self) -> int:
        """Look at the keys that tasks wait for, one probe each; grant the free ones, and return how many they are."""
        found = 0
        for _ in range(_MOST_LOOKS):
            look = partial(self._storage.tasks.waiting_keys, self._after)
            ours = set(self._passing_on())
            waiting = await self._storage.database.read(look)
            ours.update(self._passing_on())  # what has become free since
            free = [one.key for one in waiting if one.free and one.key not in ours]
            found += len(free)
            self._grants.grant_soon(free)
            self._after = waiting[-1].key if waiting else ""
            if not waiting:
                break
        return found
