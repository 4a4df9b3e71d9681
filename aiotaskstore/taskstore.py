"""TaskStore: one object holding the parts, wired."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from uuid import UUID
from weakref import WeakSet

from aiotaskstore.bell import Bell
from aiotaskstore.definition import AnyDefinition, Draft, TaskDefinition, check_drafts
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.dispatch.settings import DispatcherSettings
from aiotaskstore.dispatch.shift import Surroundings
from aiotaskstore.dispatch.signals import run_until_told
from aiotaskstore.duration import Duration, seconds
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.events import AttemptFailed, Event, LoopTroubled
from aiotaskstore.handle import TaskHandle
from aiotaskstore.hooks import Hooks, check_kind
from aiotaskstore.ids import as_id, new_id
from aiotaskstore.manage.enqueuing import Enqueuing, Ready, metadata
from aiotaskstore.manage.parts import CLOSED, Joined, Joining, Parts, StoreSettings
from aiotaskstore.manage.tasks import TaskManager
from aiotaskstore.manage.waiting import Waiting
from aiotaskstore.manage.waking import Waking
from aiotaskstore.observe.logs import log_events
from aiotaskstore.options import TaskOptions, check_options
from aiotaskstore.payload import ANYTHING, DEFAULT_LIMIT, dump
from aiotaskstore.queue import Queue, check_count, queue_name
from aiotaskstore.retention import Retention, check_retention
from aiotaskstore.roots import RootTask
from aiotaskstore.router import TaskRouter
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.definitions import Published
from aiotaskstore.storage.statements import DEFAULT_PREFIX, Naming
from aiotaskstore.storage.storage import Storage
from aiotaskstore.text import check_text
from aiotaskstore.using import StoreOnConnection

R = TypeVar("R")
E = TypeVar("E", bound=Event)
OnError = Callable[[str | None, UUID | None, BaseException], Any]

_SQLITE_TRANSACTION, _TRANSACTION = 5.0, 30.0


class TaskStore(TaskRouter):
    """A durable task queue in a database. Constructing one touches no event loop and no database.

    `database` is a URL, or an asyncpg or aiomysql pool that the application owns and closes. Use it with
    `async with`, or `open()` and `close()`; it may be opened again, also on another event loop.
    """

    def __init__(
        self,
        database: str | Any,
        *,
        queues: Sequence[Queue] = (),
        prefix: str = DEFAULT_PREFIX,
        schema: str | None = None,
        migrate: bool = True,
        pool_size: int = 10,
        listen_url: str | None = None,
        on_error: OnError | None = None,
        retention: Retention | None = None,
        payload_limit: int = DEFAULT_LIMIT,
        wait_interval: Duration = 0.05,
        enqueue_timeout: Duration = 30,
        transaction_timeout: Duration | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self._target = database
        self._naming = Naming(prefix, schema)
        self._migrates = migrate
        self._pool_size = check_count(pool_size, "pool_size")
        self._listen_url = listen_url
        self._settings = StoreSettings(
            queues={queue.name: queue for queue in _as_queues(queues)},
            retention=check_retention(retention or Retention()),
            payload_limit=check_count(payload_limit, "payload_limit"),
            wait_interval=seconds(wait_interval, "wait_interval", above_zero=True),
            enqueue_timeout=seconds(enqueue_timeout, "enqueue_timeout", above_zero=True),
        )
        self._transaction_timeout = (
            None
            if transaction_timeout is None
            else seconds(transaction_timeout, "transaction_timeout", above_zero=True)
        )
        self._kind = self._connect().database.kind
        self._hooks = Hooks()
        self._bell = Bell()
        self._joining = Joining()
        self._parts: Parts | None = None
        self._changing = asyncio.Lock()
        self._soon: set[asyncio.Task[Any]] = set()
        self._dispatchers: WeakSet[Dispatcher] = WeakSet()
        self._tasks = TaskManager(self._open_parts)
        log_events(self._hooks)
        if on_error is not None:
            if not callable(on_error):
                raise ConfigurationError(f"on_error must be a function of (queue, task_id, error), not {on_error!r}.")
            self._hear_errors(on_error)
        if debug:
            logging.getLogger("aiotaskstore.sql").setLevel(logging.DEBUG)

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Make a store for the URL in `AIOTASKSTORE_URL`, else `DATABASE_URL`; `ConfigurationError` for neither."""
        url = os.environ.get("AIOTASKSTORE_URL") or os.environ.get("DATABASE_URL")
        if not url:
            raise ConfigurationError(
                "No database is named: set AIOTASKSTORE_URL (or DATABASE_URL), such as sqlite:///tasks.db."
            )
        return cls(url, **options)

    # ── open and close ────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and bring the tables up to date (or with `migrate=False` check them); while open, a no-op.

        Raises `DatabaseUnavailableError`, `SchemaOutdatedError`, `SchemaTooNewError`; then nothing stays open.
        """
        async with self._changing:
            if self._parts is not None:
                return
            storage = self._connect()
            await storage.database.open()
            try:
                if self._migrates and await migrations.version(storage.database) != migrations.LATEST:
                    await migrations.migrate(storage.database)
                else:
                    await migrations.check(storage.database)
                self._parts = await self._assemble(storage)
            except BaseException:
                await storage.database.close()
                raise

    async def close(self) -> None:
        """Stop dispatchers that still run, write what `enqueue_soon` holds, disconnect; while closed, a no-op."""
        async with self._changing:
            if self._parts is None:
                return
            for dispatcher in list(self._dispatchers):
                await dispatcher.stop()
            await self.flush()
            parts, self._parts = self._parts, None
            self._hooks.spawn_with(None)
            try:
                await parts.close()
            finally:
                await parts.storage.database.close()
        self._changing = asyncio.Lock()  # the next open may be on another loop

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._parts is not None

    async def migrate(self) -> int:
        """Create or update the tables, whether the store is open or not; gives how many migrations were applied.

        Safe to repeat and to run from several processes at once.
        """
        if self._parts is not None:
            return await migrations.migrate(self._parts.storage.database)
        database = self._connect().database
        await database.open()
        try:
            return await migrations.migrate(database)
        finally:
            await database.close()

    def ddl(self) -> str:
        """Give the SQL that `migrate` runs, as text."""
        return migrations.ddl(self._kind, self._naming)

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tasks(self) -> TaskManager:
        """The stored tasks: look, wait, cancel, retry, delete."""
        return self._tasks

    @property
    def payload_limit(self) -> int:
        """Bytes of JSON that a payload or a result may have."""
        return self._settings.payload_limit

    def include(self, other: TaskRouter | AnyDefinition) -> None:
        """Add a router's tasks, or one task. Raises `DuplicateHandlerError` for an alias that is taken."""
        if isinstance(other, TaskRouter):
            for definition in other.handlers:
                self._registry.check(definition)  # all or none
            for definition in other.handlers:
                self._declare(definition)
        elif isinstance(other, TaskDefinition):
            self._declare(other)
        else:
            raise ConfigurationError(f"include() takes a TaskRouter or a task, not {type(other).__name__}.")

    def handle(self, task_id: UUID | str) -> TaskHandle[Any]:
        """Give a handle to a task by its id; nothing is looked up yet."""
        return TaskHandle(as_id(task_id), self._tasks)

    def draft(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Draft[Any]:
        """Draft a task by alias. Checked against its signature if it is registered here, else only as JSON."""
        if not check_text(alias, "An alias"):
            raise ConfigurationError("An alias must not be empty; give the one that the task is registered as.")
        if payload is not None and not isinstance(payload, Mapping):
            raise PayloadError(
                f'The payload of "{alias}" must be arguments by name, such as {{"user_id": 42}}, not {payload!r}.'
            )
        values = dict(payload or {})
        checked = check_options(options)
        definition = self._registry.get(alias)
        if definition is not None:
            text = definition.payload.encode_values(values, self.payload_limit)
            return Draft(definition.alias, text, checked, definition)
        text = dump(ANYTHING, values, f'The payload of "{alias}"', self.payload_limit)
        return Draft(alias, text, checked, None, unchecked)

    async def enqueue(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> TaskHandle[Any]:
        """Store a task by alias, also one that another service runs.

        Raises `UnknownAliasError` for an alias that is neither registered here nor known in the database, unless
        `unchecked`; else as `.enqueue()` of the task itself.
        """
        return await self.enqueue_draft(self.draft(alias, payload, unchecked=unchecked, **options), None)

    async def enqueue_many(self, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        """Store drafts in one transaction, all or nothing; gives their ids in order."""
        return await self.enqueue_drafts(drafts, None)

    def enqueue_soon(self, draft: Draft[R]) -> TaskHandle[R]:
        """Store a draft in the background. Errors go to `on_error`; it joins no transaction; `flush()` waits."""
        parts = self._open_parts()
        check_drafts([draft])
        result = draft.definition.result if draft.definition else None
        task_id = new_id()
        ready = parts.enqueuing.prepare_now(draft, task_id)
        task = parts.root.spawn(self._store_soon(draft, task_id, ready))
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)
        return TaskHandle(task_id, self._tasks, result)

    async def flush(self) -> None:
        """Wait until everything given to `enqueue_soon` is stored, or has gone to `on_error`."""
        while self._soon:
            await asyncio.wait(set(self._soon))

    async def enqueue_draft(self, draft: Draft[R], connection: Any) -> TaskHandle[R]:
        """Store a draft, on the caller's connection if one is given."""
        parts = self._open_parts()
        joined = parts.joined(connection)
        ready = await parts.enqueuing.prepare(draft, joined)
        task_id = await parts.enqueuing.enqueue(ready, joined)
        return TaskHandle(task_id, self._tasks, draft.definition.result if draft.definition else None)

    async def enqueue_drafts(self, drafts: Sequence[Draft[Any]], connection: Any) -> list[UUID]:
        """Store drafts, all or nothing, on the caller's connection if one is given."""
        parts = self._open_parts()
        return await parts.enqueuing.enqueue_many(check_drafts(drafts), parts.joined(connection))

    def metadata(self, **values: Any) -> AbstractContextManager[None]:
        """Add metadata to every task enqueued inside the block; a task's own option wins over it."""
        return metadata(**values)

    async def notify(self, *queues: str) -> None:
        """Wake dispatchers after a commit of yours: where the wake-up cannot ride in your transaction."""
        self._open_parts().waking.tell(frozenset(map(queue_name, queues)))

    # ── transactions ──────────────────────────────────────────────────────────────────────────────────────

    def using(self, connection: Any) -> StoreOnConnection:
        """Do what follows on the caller's connection, inside its transaction."""
        return StoreOnConnection(self, TaskManager(self._open_parts, connection), connection)

    @contextmanager
    def joined(self, connection: Any) -> Iterator[None]:
        """Have this asyncio task's enqueues, looks and actions inside the block join the connection's transaction."""
        self._open_parts().storage.database.borrow(connection)
        with self._joining.join(connection):
            yield

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open a transaction and lend the driver's own connection; everything of this asyncio task joins it.

        Commits at the end of the block, rolls back if it raises. Raises `TimeoutError` after
        `transaction_timeout`. On SQLite it holds the file's write lock.
        """
        parts = self._open_parts()
        database = parts.storage.database
        limit = self._transaction_timeout or (_SQLITE_TRANSACTION if self._kind == "sqlite" else _TRANSACTION)
        try:
            async with asyncio.timeout(limit) as deadline, database.transaction() as connection:
                with self._joining.join(connection) as joined:
                    yield connection
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(f"The transaction took longer than transaction_timeout ({limit:g} s).") from error
        self._committed(parts, joined)

    # ── dispatching ───────────────────────────────────────────────────────────────────────────────────────

    def dispatcher(
        self,
        *,
        queues: Mapping[str, int] | Sequence[str | Queue] | str | None = None,
        concurrency: int = 10,
        poll_interval: Duration = 1,
        heartbeat: Duration = 5,
        lease: Duration = 15,
        grace: Duration = 20,
        stuck_grace: Duration = 10,
        on_missing: str = "leave",
        healer: bool | Duration = True,
        cleaner: bool | Duration = True,
        name: str | None = None,
    ) -> Dispatcher:
        """Make a dispatcher: `async with store.dispatcher(): …` runs tasks until the block ends, then drains.

        `queues` maps names to slots; `None` serves every queue that has work. Every option is described at
        `DispatcherSettings`. Raises `ConfigurationError` for one that cannot work.
        """
        settings = DispatcherSettings.parse(
            queues=queues, concurrency=concurrency, poll_interval=poll_interval, heartbeat=heartbeat, lease=lease,
            grace=grace, stuck_grace=stuck_grace, on_missing=on_missing, healer=healer, cleaner=cleaner, name=name,
        )  # fmt: skip
        dispatcher = Dispatcher(settings, self._surroundings)
        self._dispatchers.add(dispatcher)
        return dispatcher

    async def run(self, **options: Any) -> bool:
        """Open if need be and dispatch until SIGTERM or SIGINT; true if everything drained.

        The first signal drains, the second cancels what still runs and gives it back, the third exits at once.
        """
        dispatcher = self.dispatcher(**options)  # what is wrong with the options is said before anything opens
        opened = not self.is_open
        await self.open()
        try:
            return await run_until_told(dispatcher)
        finally:
            if opened:
                await self.close()

    # ── watching ──────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def on(self, kind: type[E], listener: Callable[[E], Any]) -> Callable[[E], Any]: ...
    @overload
    def on(self, kind: type[E]) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]: ...
    def on(self, kind: type[E], listener: Callable[[E], Any] | None = None) -> Any:
        """Hear events of a kind: `store.on(TaskFinished, fn)`, or as a decorator.

        A listener may be a coroutine function. One that raises is logged and changes nothing.
        """
        check_kind(kind)
        if listener is not None:
            self._hooks.on(kind, listener)
            return listener

        def register(function: Callable[[E], Any]) -> Callable[[E], Any]:
            self._hooks.on(kind, function)
            return function

        return register

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    def _declare(self, definition: AnyDefinition) -> bool:
        added = super()._declare(definition)
        definition.belong_to(self)
        return added

    def _connect(self) -> Storage:
        return connect(self._target, naming=self._naming, pool_size=self._pool_size, listen_url=self._listen_url)

    def _open_parts(self) -> Parts:
        if self._parts is None:
            raise ConfigurationError(CLOSED)
        return self._parts

    async def _assemble(self, storage: Storage) -> Parts:
        root = RootTask("aiotaskstore store")
        await root.ready()
        parts = Parts(
            settings=self._settings, storage=storage, registry=self._registry, hooks=self._hooks, bell=self._bell,
            joining=self._joining, root=root,
        )  # fmt: skip
        parts.enqueuing, parts.waiting, parts.waking = Enqueuing(parts), Waiting(parts), Waking(parts)
        root.spawn(parts.enqueuing.run(), name="aiotaskstore enqueuing")
        root.spawn(parts.waiting.run(), name="aiotaskstore waiting")
        root.spawn(parts.waking.run(), name="aiotaskstore waking")
        self._hooks.spawn_with(root.spawn)
        return parts

    def _surroundings(self) -> Surroundings:
        parts = self._open_parts()
        return Surroundings(
            store=self,
            storage=parts.storage,
            registry=self._registry,
            hooks=self._hooks,
            queues=self._settings.queues,
            result_limit=self._settings.payload_limit,
            report=lambda queue, task_id, error: self._hooks.emit(LoopTroubled("recorder", error, 0, queue, task_id)),
            found=parts.waking.found,
            bell=self._bell,
            publish=self._publish,
        )

    async def _publish(self) -> None:
        parts = self._open_parts()
        records = [
            Published(
                new_id(),
                one.alias,
                one.title,
                one.description,
                dump(ANYTHING, one.defaults.published(), "defaults", 2**20),
            )
            for one in sorted(self._registry, key=lambda one: one.alias)
        ]
        await parts.storage.database.write(lambda: parts.storage.definitions.publish(records))

    async def _store_soon(self, draft: Draft[Any], task_id: UUID, ready: Ready | None) -> None:
        parts = self._open_parts()
        try:
            await parts.enqueuing.enqueue(ready or await parts.enqueuing.prepare(draft, task_id=task_id))
        except Exception as error:  # noqa: BLE001 - told to the application, which is not waiting here
            self._hooks.emit(
                LoopTroubled(f"enqueue_soon of {draft.alias}", error, 0, draft.options.get("queue"), task_id)
            )

    def _committed(self, parts: Parts, joined: Joined) -> None:
        if joined.queues:
            parts.waking.tell(frozenset() if "" in joined.queues else frozenset(joined.queues))
        if joined.scheduled:
            parts.waking.scheduled()
        if joined.cancels:
            parts.waking.cancel_asked()

    def _hear_errors(self, on_error: OnError) -> None:
        def hear(event: AttemptFailed | LoopTroubled) -> Any:
            return on_error(event.queue, event.task_id, event.error)

        self._hooks.on(AttemptFailed, hear)
        self._hooks.on(LoopTroubled, hear)


def _as_queues(queues: object) -> list[Queue]:
    if isinstance(queues, str | Queue):
        queues = [queues]
    if not isinstance(queues, Iterable):
        raise ConfigurationError(f'queues must be a list such as [Queue("emails", concurrency=20)], not {queues!r}.')
    return [queue if isinstance(queue, Queue) else Queue(queue) for queue in queues]
