"""The calls of `store.tasks` that change a task's own values, or make new tasks of old ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, Unpack, overload
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, DefinitionInactiveError
from aiotaskstore.manage import actions
from aiotaskstore.manage.stored_values import check_payload, payload_text
from aiotaskstore.manage.task_calls import TaskCalls, chosen_id
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.options import check_options, dump_metadata
from aiotaskstore.queue import queue_name
from aiotaskstore.storage.filters import Where
from aiotaskstore.storage.tasks import Changes, Payloads
from aiotaskstore.task import Task


class TaskChanges(TypedDict, total=False):
    """What `store.tasks.update` writes: only what is named."""

    queue: str | None
    priority: int
    payload: Mapping[str, Any]
    """The arguments by name, all of them."""
    metadata: Mapping[str, Any]
    """All of it, in place of what it was."""
    max_attempts: int
    timeout: Duration | None
    """`None` for no limit."""


_MAY_BE_NONE = frozenset({"queue", "timeout"})


class Changing(TaskCalls):
    """Changes a task's own values, and makes new tasks of old ones."""

    @overload
    async def update(self, id: UUID | str, **changes: Unpack[TaskChanges]) -> Task: ...
    @overload
    async def update(self, *, where: Where, **changes: Unpack[TaskChanges]) -> int: ...
    async def update(
        self, id: UUID | str | None = None, *, where: Where | None = None, **changes: Unpack[TaskChanges]
    ) -> Task | int:
        """Write values of a task that does not run; what is not named stays as it is.

        Raises `InvalidTransitionError` for a running one, `TaskNotFoundError` where no row is kept,
        `ConfigurationError` for a value that cannot be, `PayloadError` for a payload that does not fit the task's
        signature, where it is registered here. With `where=` running ones are skipped.
        """
        checked = _check(changes)
        payload = check_payload(changes["payload"]) if "payload" in changes else None
        wanted = chosen_id(id, where)
        payloads = None if payload is None else self._payloads(payload, await self._actions.aliases_of(wanted, where))
        return await self._act(id, where, actions.update(checked, payloads))

    @overload
    async def clone(
        self, id: UUID | str, *, payload: Mapping[str, Any] | None = None, queue: str | None = None
    ) -> Task: ...
    @overload
    async def clone(
        self, *, where: Where, payload: Mapping[str, Any] | None = None, queue: str | None = None
    ) -> int: ...
    async def clone(
        self,
        id: UUID | str | None = None,
        *,
        where: Where | None = None,
        payload: Mapping[str, Any] | None = None,
        queue: str | None = None,
    ) -> Task | int:
        """Store a new task like this one, due at once, and return it; with another payload or queue if given.

        It has no external id and no attempts, errors or result. Raises `InvalidTransitionError` where the payload was
        not kept and none is given, `PayloadError` for a payload that does not fit, `DefinitionInactiveError` where the
        definition is cancelled, `TaskNotFoundError` where no row is kept. With `where=` what cannot be cloned is
        skipped, and how many were stored is returned; a payload must fit all of them.
        """
        name = None if queue is None else queue_name(queue)
        given = None if payload is None else check_payload(payload)
        wanted = chosen_id(id, where)
        aliases = await self._actions.aliases_of(wanted, where)
        payloads = None if given is None else self._payloads(given, aliases)
        inactive = await self._inactive(aliases)
        if wanted is not None and inactive:
            raise DefinitionInactiveError(inactive[0])
        return await self._act(id, where, actions.clone(name, payloads, without=inactive))

    def _payloads(self, payload: Mapping[str, Any], aliases: Iterable[str]) -> Payloads:
        """Return a payload as the text that tasks of each alias get, checked for every one of them."""
        store = self._require_open()
        limit = store.settings.payload_limit
        return {alias: payload_text(store.registry, alias, payload, limit) for alias in aliases}

    async def _inactive(self, aliases: Iterable[str]) -> list[str]:
        """List those of these aliases whose definition is cancelled, so that nothing is enqueued of them."""
        store = self._require_open()
        joined = store.calls.joined(self._connection)
        known = {alias: await store.known_definitions.get(alias, joined) for alias in aliases}
        return [alias for alias, one in known.items() if one is not None and not one.active]


def _check(changes: Mapping[str, Any]) -> Changes:
    """Check what is to be written; raise `ConfigurationError`."""
    known = TaskChanges.__annotations__.keys()
    unknown = sorted(changes.keys() - known)
    if unknown or not changes:
        found = f"no value {', '.join(unknown)} of a task that can be changed" if unknown else "nothing to change"
        raise ConfigurationError(f"There is {found}. Name some of: {', '.join(sorted(known))}.")
    for name, value in changes.items():
        if value is None and name not in _MAY_BE_NONE:
            raise ConfigurationError(f"{name} must not be None; leave it out to keep it as it is.")
    values = check_options({name: value for name, value in changes.items() if name != "payload"})
    return Changes(
        queue=values.get("queue"),
        priority=values.get("priority"),
        metadata=None if "metadata" not in values else dump_metadata(values["metadata"]) or "{}",
        max_attempts=values.get("max_attempts"),
        timeout=values.get("timeout"),
        keep_timeout="timeout" not in changes,
    )
