"""From drafts to rows: defaults, group commit, external ids, the caller's transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aiotaskstore.batching import Batcher
from aiotaskstore.context import running_context
from aiotaskstore.definition import Draft
from aiotaskstore.definition_record import Definition
from aiotaskstore.errors import (
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DuplicateTaskError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.events import TaskEnqueued
from aiotaskstore.ids import new_id
from aiotaskstore.options import DefinitionOptions, dump_metadata
from aiotaskstore.queue import DEFAULT_QUEUE
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.steps import Operation
from aiotaskstore.storage.tasks import MOST_ROWS, Wanted
from aiotaskstore.task import NewTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiotaskstore.manage.parts import Joined, Parts

_TRIES = 3
"""Inserts that a lost connection interrupted are tried so often; what was stored after all is read back."""
_KNOWN_FOR = 5.0
"""Seconds that a definition read from the database is believed."""

ambient_metadata: ContextVar[dict[str, Any] | None] = ContextVar("aiotaskstore_metadata", default=None)


@contextmanager
def metadata(**values: Any) -> Iterator[None]:
    """Add metadata to what is enqueued inside; a task's own `metadata=` option wins over it."""
    dump_metadata(values)
    token = ambient_metadata.set({**(ambient_metadata.get() or {}), **values})
    try:
        yield
    finally:
        ambient_metadata.reset(token)


class Ready(NamedTuple):
    """A row ready to be stored, and what to do if its external id is taken."""

    row: NewTask
    live_only: bool
    returns: bool

    @property
    def due(self) -> bool:
        """Whether it is to run as soon as it is stored."""
        return self.row.run_at is None and not self.row.delay

    @property
    def wanted(self) -> Wanted:
        """The row with its wish for an external id."""
        return Wanted(self.row, self.live_only)


class Enqueuing:
    """Stores drafts; concurrent calls share an insert.

    Rows with external ids never share one with the others, since a caller's open transaction that holds the same
    id would stall the whole batch.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        patience = parts.settings.enqueue_timeout
        self._plain: Batcher[NewTask, None] = Batcher(self._insert_plain, most=MOST_ROWS, patience=patience)
        self._keyed: Batcher[Ready, UUID] = Batcher(self._insert_keyed, most=MOST_ROWS, patience=patience)
        self._known: dict[str, tuple[float, Definition]] = {}

    async def run(self) -> None:
        """Insert what comes, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._plain.run(), name="aiotaskstore inserter")
            group.create_task(self._keyed.run(), name="aiotaskstore inserter of external ids")

    async def drain(self) -> None:
        """Wait until what was given so far is stored or refused, at most `enqueue_timeout`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._parts.settings.enqueue_timeout):
                while self._plain.backlog or self._keyed.backlog:
                    await self._plain.drain()
                    await self._keyed.drain()

    async def prepare(self, draft: Draft[Any], joined: Joined | None = None, *, task_id: UUID | None = None) -> Ready:
        """Make a row of a draft; an alias that nobody knows is an `UnknownAliasError`."""
        if draft.definition is not None:
            defaults, definition_id = draft.definition.defaults, None
        else:
            defaults, definition_id = await self._look_up(draft, joined)
        return self._ready(draft, defaults, definition_id, task_id or new_id())

    def prepare_now(self, draft: Draft[Any], task_id: UUID) -> Ready | None:
        """Make a row of a draft whose definition is at hand; nothing where the database must be asked."""
        if draft.definition is None:
            return None
        return self._ready(draft, draft.definition.defaults, None, task_id)

    async def enqueue(self, ready: Ready, joined: Joined | None = None) -> UUID:
        """Store one row; gives its id, or the id of the task that has its external id already."""
        if joined is not None:
            return (await self._enqueue_joined([ready], joined))[0]
        self._parts.check()
        try:
            if ready.row.external_id is None:
                await self._plain.submit(ready.row)
                task_id = ready.row.id
            else:
                task_id = await self._keyed.submit(ready)
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"The task was not stored within enqueue_timeout ({self._parts.settings.enqueue_timeout:g} s); with an "
                "external id, somebody's open transaction may hold it. It may still be stored."
            ) from error
        if task_id == ready.row.id:
            self._stored([ready])
        return task_id

    async def enqueue_many(self, drafts: Sequence[Draft[Any]], joined: Joined | None = None) -> list[UUID]:
        """Store all or nothing in one transaction; gives the ids in order."""
        ready = [await self.prepare(draft, joined) for draft in drafts]
        if not ready:
            return []
        if joined is not None:
            return await self._enqueue_joined(ready, joined)
        wanted = [one.wanted for one in ready if one.row.external_id is not None]
        taken = await self._write_surely(self._operation(ready), [one.row.id for one in ready], wanted)
        self._stored([one for one in ready if one.row.id not in taken])
        return [taken.get(one.row.id, one.row.id) for one in ready]

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(
        self, draft: Draft[Any], defaults: DefinitionOptions, definition_id: UUID | None, task_id: UUID
    ) -> Ready:
        """Resolve every option: the task's over the definition's over its queue's over the library's."""
        options, settings = draft.options, self._parts.settings
        queue = options.get("queue") or defaults.queue or DEFAULT_QUEUE
        line = settings.queues.get(queue)
        owner = options.get("owner") or (None, None)
        retention = options.get("retention") or defaults.retention or (line and line.retention) or settings.retention
        parent_id, inherited = self._inherit()
        own = options.get("metadata")
        row = NewTask(
            id=task_id,
            queue=queue,
            alias=draft.alias,
            priority=options.get("priority", defaults.priority),
            run_at=options.get("run_at"),
            delay=options.get("delay"),
            payload=draft.payload,
            max_attempts=options.get("max_attempts") or defaults.max_attempts or (line and line.max_attempts) or 1,
            timeout=options.get("timeout") or defaults.timeout or (line.timeout if line else None),  # type: ignore[arg-type] # normalised to seconds
            on_stuck=ON_STUCK.index(defaults.on_stuck),
            owner_type=owner[0],
            owner_id=owner[1],
            source=options.get("source"),
            parent_id=parent_id,
            definition_id=definition_id,
            external_id=options.get("external_id"),
            serialization_key=None,
            strict=False,
            metadata=dump_metadata({**inherited, **(own or {})}) if inherited or own else None,
            retention=retention.dump(),
        )
        return Ready(row, options.get("unique_while") == "live", options.get("on_conflict") == "return")

    def _inherit(self) -> tuple[UUID | None, dict[str, Any]]:
        """Give what a task enqueued here has from the running task and from `store.metadata(…)`."""
        context, ambient = running_context.get(), ambient_metadata.get()
        if context is None:
            return None, ambient or {}
        return context.task_id, {**context.metadata, **(ambient or {})}

    async def _look_up(self, draft: Draft[Any], joined: Joined | None) -> tuple[DefinitionOptions, UUID | None]:
        loop = asyncio.get_running_loop()
        believed = self._known.get(draft.alias)
        if believed is not None and loop.time() - believed[0] < _KNOWN_FOR:
            definition: Definition | None = believed[1]
        else:
            definitions = self._parts.storage.definitions
            definition = await self._parts.read(lambda: definitions.get_by_alias(draft.alias), joined)
        if definition is None:
            if draft.unchecked:
                return DefinitionOptions(), None
            known = await self._parts.read(self._parts.storage.definitions.aliases, joined)
            raise UnknownAliasError(draft.alias, {*known, *self._parts.registry.aliases})
        if definition.status != "active":
            raise DefinitionInactiveError(draft.alias)
        self._known[draft.alias] = (loop.time(), definition)
        return DefinitionOptions.from_published(definition.defaults), definition.id

    # ── storing ───────────────────────────────────────────────────────────────────────────────────────────

    async def _insert_plain(self, rows: list[NewTask]) -> list[BaseException | None]:
        """Store a batch; if the database refuses a row for what it is, find it, and refuse it alone."""
        tasks = self._parts.storage.tasks
        try:
            await self._write_surely(lambda: tasks.enqueue(rows), [row.id for row in rows])
        except DatabaseUnavailableError as error:
            return [error] * len(rows)
        except TaskStoreError as error:
            if len(rows) == 1:
                return [error]
            middle = len(rows) // 2
            return [*await self._insert_plain(rows[:middle]), *await self._insert_plain(rows[middle:])]
        return [None] * len(rows)

    async def _insert_keyed(self, ready: list[Ready]) -> list[UUID | BaseException]:
        tasks = self._parts.storage.tasks
        wanted = [one.wanted for one in ready]
        ids = [one.row.id for one in ready]
        try:
            taken = await self._write_surely(lambda: tasks.enqueue_wanted(wanted), ids, wanted)
        except DatabaseUnavailableError as error:
            return [error] * len(ready)
        except TaskStoreError as error:
            if len(ready) == 1:
                return [error]
            middle = len(ready) // 2
            return [*await self._insert_keyed(ready[:middle]), *await self._insert_keyed(ready[middle:])]
        return [self._answer(one, taken.get(one.row.id)) for one in ready]

    def _answer(self, ready: Ready, existing: UUID | None) -> UUID | BaseException:
        if existing is None:
            return ready.row.id
        if ready.returns:
            return existing
        return DuplicateTaskError(ready.row.alias, ready.row.external_id or "", existing)

    async def _write_surely(
        self, operation: Operation[dict[UUID, UUID] | None], ids: Sequence[UUID], wanted: Sequence[Wanted] = ()
    ) -> dict[UUID, UUID]:
        """Write rows in one transaction; gives the existing id for those whose external id is taken.

        Where a connection was lost in the COMMIT, what became of it is read back. It may not have come about yet by
        then; the second try waits for it, is refused as a duplicate, and what became of it is read back once more.
        """
        parts, tasks = self._parts, self._parts.storage.tasks
        for attempt in range(1, _TRIES + 1):
            try:
                if attempt > 1:
                    answer = await parts.storage.database.write(lambda: tasks.read_back(ids, wanted))
                    if answer is not None:
                        return answer
                return await parts.write(operation, None) or {}
            except TaskStoreError as error:
                lost = isinstance(error, DatabaseUnavailableError)
                if attempt == _TRIES or (attempt == 1 and not lost):
                    raise
            await asyncio.sleep(0.05 * attempt)
        raise AssertionError("unreachable")

    async def _enqueue_joined(self, ready: Sequence[Ready], joined: Joined) -> list[UUID]:
        """Store rows in the caller's transaction; the wake-up rides in it where the database can."""
        queues = frozenset(one.row.queue for one in ready if one.due)
        then = self._parts.storage.database.notify_within(queues) if queues else None
        taken = await self._parts.write(self._operation(ready), joined, then=then)
        joined.queues |= queues
        joined.scheduled |= any(not one.due for one in ready)
        self._tell([one for one in ready if one.row.id not in taken])
        return [taken.get(one.row.id, one.row.id) for one in ready]

    def _operation(self, ready: Sequence[Ready]) -> Operation[dict[UUID, UUID]]:
        tasks = self._parts.storage.tasks
        plain = [one.row for one in ready if one.row.external_id is None]
        wanted = [one.wanted for one in ready if one.row.external_id is not None]
        returning = frozenset(one.row.id for one in ready if one.returns)
        return lambda: tasks.enqueue_mixed(plain, wanted, returning)

    def _stored(self, ready: Sequence[Ready]) -> None:
        """Wake whoever can run what is now committed."""
        due = frozenset(one.row.queue for one in ready if one.due)
        if due:
            self._parts.waking.tell(due)
        if len(due) < len(ready) and any(not one.due for one in ready):
            self._parts.waking.scheduled()
        self._tell(ready)

    def _tell(self, ready: Sequence[Ready]) -> None:
        hooks = self._parts.hooks
        if hooks.hears(TaskEnqueued):
            for one in ready:
                hooks.emit(TaskEnqueued(one.row.id, one.row.alias, one.row.queue))
