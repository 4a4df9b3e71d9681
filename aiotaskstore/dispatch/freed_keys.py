"""Serialization keys that a dispatcher's runs have freed, on their way to the next tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.mechanics.hint import Hint, queue_hint
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import Claim


class FreedKeys:
    """Keeps the keys that runs have freed for the dispatcher's next claim, which grants them.

    Such a claim runs the next tasks of these keys at once: it saves a transaction, and writes their rows once, not
    twice. While the dispatcher claims nothing, the store's loop grants the keys.
    """

    def __init__(self, key_grants: KeyGrants, *, receive: Callable[[Hint], None], stopping: Callable[[], bool]) -> None:
        self._key_grants, self._receive, self._stopping = key_grants, receive, stopping
        self._keys: dict[str, None] = {}
        self._taken: list[str] = []
        self._claiming = False

    @property
    def passing_on(self) -> list[str]:
        """The keys that the next claim grants, and those of the claim that is under way."""
        return [*self._keys, *self._taken]

    def free(self, claims: Iterable[Claim]) -> None:
        """Pass on the keys of tasks whose outcomes are committed."""
        freed = [(claim.serialization_key, claim.queue) for claim in claims if claim.serialization_key is not None]
        if not freed:
            return
        self._keys |= dict.fromkeys(key for key, _ in freed)
        if self._claiming and not self._stopping():
            self._receive(queue_hint(*sorted({queue for _, queue in freed})))
        else:
            self.grant()

    def wait_for_claims(self) -> None:
        """From now on, keep the keys for claims."""
        self._claiming = True

    def wait_for_no_claim(self) -> None:
        """From now on, grant the keys at once."""
        self._claiming = False
        self.grant()

    def take(self) -> list[str]:
        """Return keys that a claim must grant now, at most `MOST_ROWS`; call `granted` or `refused` then."""
        self._taken = list(self._keys)[:MOST_ROWS]
        for key in self._taken:
            del self._keys[key]
        return self._taken

    def granted(self, queues: Collection[str]) -> None:
        """Wake whoever can run what was granted in these queues and not claimed."""
        self._taken = []
        self._key_grants.was_granted(queues)

    def refused(self) -> None:
        """Have the keys of a claim that has failed granted without one."""
        taken, self._taken = self._taken, []
        self._key_grants.grant_soon(taken)

    def grant(self) -> None:
        """Have the keys granted that no claim takes."""
        keys, self._keys = self._keys, {}
        self._key_grants.grant_soon(keys)
