"""TaskStore: the public face; what each method does is in `manage` and `dispatch`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload
from uuid import UUID

from aiotaskstore.carrier import Carrier, Carriers
from aiotaskstore.connection_argument import check_connection
from aiotaskstore.definition import AnyDefinition, BoundTask, Draft, TaskDefinition, check_drafts, declared_schedule
from aiotaskstore.dispatch.dependencies import DispatcherDependencies
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.dispatch.dispatcher_settings import DispatcherOptions, DispatcherSettings, OnMissing
from aiotaskstore.dispatch.run_until_signal import check_main_thread, run_until_signal
from aiotaskstore.enqueue_middleware import EnqueueMiddleware, EnqueueMiddlewareStack
from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.events import BackgroundFailed, Event
from aiotaskstore.finding import Finding
from aiotaskstore.handle import TaskHandle
from aiotaskstore.health import StoreHealth
from aiotaskstore.hooks import Hooks, check_kind
from aiotaskstore.lifespan import Lifespan, LifespanFunction
from aiotaskstore.manage.ambient_metadata import metadata
from aiotaskstore.manage.ambient_transaction import AmbientTransaction, AmbientTransactions
from aiotaskstore.manage.drafting import draft_by_alias
from aiotaskstore.manage.lifecycle import StoreLifecycle
from aiotaskstore.manage.settings import StoreSettings
from aiotaskstore.manage.transactions import Transactions
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.mechanics.flag import check_flag
from aiotaskstore.mechanics.hint import ANY_QUEUE, SCHEDULED, queue_hint
from aiotaskstore.middleware import Middleware, MiddlewareStack
from aiotaskstore.observe.logs import log_events
from aiotaskstore.observe.on_error import report_errors
from aiotaskstore.options import TaskOptions
from aiotaskstore.payload import DEFAULT_LIMIT
from aiotaskstore.queue import Queue, check_count, queue_name
from aiotaskstore.recurrence import Recurrence, RecurrenceFunction
from aiotaskstore.retention import Retention
from aiotaskstore.router import TaskRouter
from aiotaskstore.run_hooks import AfterHook, BeforeHook, HookManager, RunHooks
from aiotaskstore.run_transaction import RunTransaction
from aiotaskstore.schedule import Schedule, ScheduleOptions
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.location import Location
from aiotaskstore.storage.table_names import DEFAULT_PREFIX, TableNames
from aiotaskstore.store_options import OnError, StoreOptions
from aiotaskstore.task_handler import (
    AsyncHandler,
    FreeAsyncHandler,
    FreeThreadHandler,
    TaskHandler,
    ThreadHandler,
    definition_of,
)
from aiotaskstore.using import StoreOnConnection

if TYPE_CHECKING:  # what only an open store needs is half of the library: the methods below import it when they run
    from aiotaskstore.manage.definitions import DefinitionManager
    from aiotaskstore.manage.dispatchers import DispatcherManager
    from aiotaskstore.manage.managers import Managers
    from aiotaskstore.manage.open_store import OpenStore
    from aiotaskstore.manage.queues import QueueManager
    from aiotaskstore.manage.schedules import ScheduleManager
    from aiotaskstore.manage.tasks import TaskManager
    from aiotaskstore.manage.work_checks import Declared
    from aiotaskstore.storage.storage import Storage

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Event)
Before = TypeVar("Before", bound=BeforeHook)
After = TypeVar("After", bound=AfterHook)
Opens = TypeVar("Opens", bound=LifespanFunction)
Around = TypeVar("Around", bound=Middleware)
AroundEnqueue = TypeVar("AroundEnqueue", bound=EnqueueMiddleware)
AroundHooks = TypeVar("AroundHooks", bound=HookManager)
RunInline = Callable[[Sequence[UUID], AmbientTransaction | None], Awaitable[None]]
"""Takes tasks that were just enqueued, and the transaction that they are part of."""


class TaskStore(TaskRouter):
    """A durable task queue in a database. Constructing one touches no event loop and no database.

    `database` is a URL, or an asyncpg or aiomysql pool that the application owns and closes. Use it with
    `async with`, or `open()` and `close()`; it may be opened again, also on another event loop.
    """

    def __init__(  # noqa: PLR0913 - an argument for each option
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
        self._migrates = check_flag(migrate, "migrate")
        self._location = Location(database, TableNames(prefix, schema), check_count(pool_size, "pool_size"), listen_url)
        self._settings = StoreSettings.parse(
            queues=queues, retention=retention, payload_limit=payload_limit, wait_interval=wait_interval,
            enqueue_timeout=enqueue_timeout, transaction_timeout=transaction_timeout,
        )  # fmt: skip
        self._hooks = Hooks()
        self._run_hooks = RunHooks(self._hooks)
        self._carriers = Carriers(self._hooks)
        self._middleware = MiddlewareStack()
        self._enqueue_middleware = EnqueueMiddlewareStack()
        self._lifespan = Lifespan()
        self._ambient = AmbientTransactions()
        self._lifecycle = StoreLifecycle(self._connect, self._assemble, self._hooks)
        self._transactions = Transactions(self._require_open, self._ambient)
        self._locate(self._location)
        self._run_inline: RunInline | None = None
        """Set by a test that wants tasks to run as they are enqueued."""
        self._declared_schedules = ScheduleRegistry()
        log_events(self._hooks)
        if on_error is not None:
            report_errors(self._hooks, on_error)
        self._logs_sql = check_flag(debug, "debug")

    @classmethod
    def from_env(cls, **options: Unpack[StoreOptions]) -> Self:
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
        try:
            await self.close()
        except TaskStoreError:
            if error is None:
                raise

    async def open(self, *, migrate: bool | None = None) -> None:
        """Connect, and bring the tables up to date (or with `migrate=False` check them); while open, a no-op.

        `migrate` is for this opening alone; without it the store's own option counts. A store that a closed event
        loop or the parent of this process left open is opened anew.

        Raises `DatabaseUnavailableError`, `SchemaOutdatedError`, `SchemaTooNewError`, and `ConfigurationError` for a
        handler whose annotations name a type that is not there; then nothing stays open.
        """
        self._registry.check_types()
        await self._lifecycle.open(migrate=self._migrates if migrate is None else migrate)

    async def close(self) -> None:
        """Stop dispatchers that still run, write what `enqueue_soon` holds, disconnect; while closed, a no-op.

        Raises what a loop of the store's own ended of, if one did; everything is closed all the same.
        """
        await self._lifecycle.close()

    @property
    def is_open(self) -> bool:
        """Whether it is connected, and what it was opened on still there."""
        return self._lifecycle.is_open

    async def migrate(self) -> int:
        """Create or update the tables, whether the store is open or not; returns how many migrations were applied.

        Safe to repeat and to run from several processes at once.
        """
        return await self._lifecycle.migrate()

    async def diagnose(self) -> list[Finding]:
        """Look for what is wrong with the database and with what uses it, whether the store is open or not.

        Changes nothing, migrates nothing, and works on tables of any version. Each check takes 10 s at most, and one
        that fails is a finding itself. It counts every unfinished task: call it for people, not in a loop. Raises
        `DatabaseUnavailableError` if the database cannot be reached.
        """
        from aiotaskstore.manage.diagnosis import diagnose, nothing_there  # noqa: PLC0415 - at its first use

        missing = self._lifecycle.missing()
        if missing:
            return nothing_there(missing)
        began = time.monotonic()
        async with self._lifecycle.reading() as storage:
            return await diagnose(storage, self._declared(), time.monotonic() - began)

    def ddl(self) -> str:
        """Return the SQL that `migrate` runs, as text."""
        from aiotaskstore.storage import migrations  # noqa: PLC0415 - the same

        return migrations.ddl(self._location.kind, self._location.table_names)

    # ── what it was made with ─────────────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str | None:
        """The database's URL, its password hidden; `None` where the store is on a pool of the application."""
        return self._location.url

    @property
    def pool(self) -> Any:
        """The application's pool; `None` where the store was made with a URL."""
        return self._location.pool

    @property
    def prefix(self) -> str:
        """What the names of its tables begin with."""
        return self._location.table_names.prefix

    @property
    def schema(self) -> str | None:
        """The PostgreSQL schema of its tables; `None` for the connection's own."""
        return self._location.table_names.schema

    @property
    def clock(self) -> Clock:
        """The clock that tells its handlers' time: the system's, unless a test has put another in its place."""
        return self._location.clock

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tasks(self) -> TaskManager:
        """The stored tasks, to read, to wait for, to cancel, retry and delete."""
        return self._managers.tasks

    @property
    def queues(self) -> QueueManager:
        """The queues that have tasks: how many in which status, and since when the oldest is due."""
        return self._managers.queues

    @property
    def dispatchers(self) -> DispatcherManager:
        """The dispatchers of every process that uses the database."""
        return self._managers.dispatchers

    @property
    def definitions(self) -> DefinitionManager:
        """The stored records of definitions, to read, change, cancel and activate."""
        return self._managers.definitions

    @property
    def schedules(self) -> ScheduleManager:
        """The stored schedules, to make, read, change, pause and run."""
        return self._managers.schedules

    @property
    def payload_limit(self) -> int:
        """Bytes of JSON that a payload or a result may have."""
        return self._settings.payload_limit

    def include(self, other: TaskRouter | AnyDefinition | TaskHandler) -> None:
        """Add a router's tasks, one task, or a class handler. Its record is written when the store opens.

        Raises `DuplicateHandlerError` for an alias that is taken.
        """
        if isinstance(other, TaskRouter):
            for definition in other.handlers:
                self._registry.check(definition)  # all or none
            for definition in other.handlers:
                self._declare(definition)
        else:
            self._declare(definition_of(other))

    @overload
    async def register(
        self, handler: TaskDefinition[P, R], *, create_if_missing: bool = False
    ) -> TaskDefinition[P, R]: ...
    @overload
    async def register(
        self, handler: FreeAsyncHandler[R], *, create_if_missing: bool = False
    ) -> TaskDefinition[..., R]: ...
    @overload
    async def register(  # type: ignore[overload-cannot-match, overload-overlap] # it does: inference needs the first
        self, handler: AsyncHandler[P, R], *, create_if_missing: bool = False
    ) -> TaskDefinition[P, R]: ...
    @overload
    async def register(
        self, handler: FreeThreadHandler[R], *, create_if_missing: bool = False
    ) -> TaskDefinition[..., R]: ...
    @overload
    async def register(  # type: ignore[overload-cannot-match] # the same
        self, handler: ThreadHandler[P, R], *, create_if_missing: bool = False
    ) -> TaskDefinition[P, R]: ...
    async def register(self, handler: object, *, create_if_missing: bool = False) -> AnyDefinition:
        """Add a class handler or a task of an open store whose record is stored; return its definition.

        Where no definition has its alias in the database: writes the record with `create_if_missing`, else raises
        `DefinitionNotFoundError` and adds nothing. Raises `DuplicateHandlerError` for an alias that is taken.
        """
        definition = definition_of(handler)
        self._registry.check(definition)
        definition.check_types()
        await self._require_open().publishing.require_record(definition, create=create_if_missing)
        self._declare(definition)
        return self._registry.get(definition.alias) or definition

    def handle(self, id: UUID | str) -> TaskHandle[Any]:
        """Return a handle to a task by its id; the database is not read yet.

        Text that is no UUID is an id that never was; an empty text, or another type, is an `InvalidQueryError`.
        """
        return TaskHandle(id, self._managers.handle_client)

    def draft(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Draft[Any]:
        """Draft a task by alias. Checked against its signature if it is registered here, else only as JSON."""
        return draft_by_alias(
            self._registry, alias, payload, options, unchecked=unchecked, payload_limit=self.payload_limit
        )

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
        """Store drafts in one transaction, all or nothing; returns their ids in order."""
        return await self.enqueue_drafts(drafts, None)

    def enqueue_soon(self, draft: Draft[R]) -> TaskHandle[R]:
        """Store a draft in the background. Errors go to `on_error`; it joins no transaction; `flush()` waits."""
        store = self._require_open()
        check_drafts([draft])
        return self._drafted(draft, store.soon.submit(draft))

    async def flush(self) -> None:
        """Wait until everything that `enqueue_soon` accepted so far is stored, or was reported to `on_error`."""
        await self._lifecycle.flush()

    def schedule(
        self,
        name: str,
        task: Draft[Any] | BoundTask[..., Any],
        recurrence: Recurrence | RecurrenceFunction | str,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Declare a schedule in code: stored under its name when the store opens, at once while it is open.

        `task` is a draft, or a task whose payload is in the options. Raises what cannot work: `InvalidRecurrenceError`,
        `PayloadError`, `ConfigurationError`, and `DuplicateScheduleError` for two under one name.
        """
        schedule = declared_schedule(name, task, recurrence, options)
        self.declare_schedule(schedule)
        return schedule

    def declare_schedule(self, schedule: Schedule) -> None:
        """Take a declared schedule in."""
        self._declared_schedules.add(schedule)
        if self.is_open:
            self._require_open().publish_schedules_soon()

    async def enqueue_draft(self, draft: Draft[R], connection: Any) -> TaskHandle[R]:
        """Store a draft, on the caller's connection if one is given."""
        if self._enqueue_middleware:
            store_one = partial(self._store_one, connection)
            (task_id,) = await self._enqueue_middleware.call([draft], store_one)
        else:
            task_id = await self._store_draft(draft, connection)
        return self._drafted(draft, task_id)

    async def enqueue_drafts(self, drafts: Sequence[Draft[Any]], connection: Any) -> list[UUID]:
        """Store drafts, all or nothing, on the caller's connection if one is given."""
        given = check_drafts(drafts)
        if self._enqueue_middleware and given:
            return await self._enqueue_middleware.call(given, partial(self._store_drafts, connection))
        return await self._store_drafts(connection, given)

    async def _store_one(self, connection: Any, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        return [await self._store_draft(draft, connection) for draft in drafts]

    async def _store_draft(self, draft: Draft[Any], connection: Any) -> UUID:
        store = self._require_open()
        joined = store.calls.joined(connection)
        task_id = await store.enqueuing.enqueue(await store.preparing.prepare(draft, joined), joined)
        if self._run_inline is not None:
            await self._run_inline([task_id], joined)
        return task_id

    async def _store_drafts(self, connection: Any, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        store = self._require_open()
        joined = store.calls.joined(connection)
        prepared = [await store.preparing.prepare(draft, joined) for draft in drafts]
        ids = await store.enqueuing.enqueue_many(prepared, joined)
        if self._run_inline is not None:
            await self._run_inline(ids, joined)
        return ids

    def metadata(self, **values: Any) -> AbstractContextManager[None]:
        """Add metadata to every task enqueued inside the block; a task's own option wins over it."""
        return metadata(**values)

    def carry(self, *carried: ContextVar[Any] | Carrier) -> None:
        """Carry context variables from where a task is enqueued to each of its runs, and so to its children.

        Their values must be JSON: else enqueuing is a `ConfigurationError`. A variable that is not set is not carried.
        The process that enqueues and the one that runs must both name them. Takes carriers, too, which capture and
        restore whatever they like. Raises `ConfigurationError` for two under one name.
        """
        for one in carried:
            self._carriers.add(one)

    async def notify(self, *queues: str) -> None:
        """Wake dispatchers after a commit of yours: where the wake-up cannot ride in your transaction."""
        named = queue_hint(*map(queue_name, queues))
        self._require_open().notifier.notify((named or ANY_QUEUE) | SCHEDULED)

    # ── transactions ──────────────────────────────────────────────────────────────────────────────────────

    def using(self, connection: Any) -> StoreOnConnection:
        """Do what follows on the caller's connection, inside its transaction; `ConfigurationError` for `None`."""
        check_connection(connection)
        return StoreOnConnection(self, self._managers.tasks_on(connection), connection)

    def joined(self, connection: Any) -> AbstractContextManager[None]:
        """Have this asyncio task's enqueues, reads and actions inside the block join the connection's transaction."""
        check_connection(connection)
        return self._transactions.join(connection)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction and lend the driver's own connection; everything of this asyncio task joins it.

        Commits at the end of the block, rolls back if it raises. Raises `TimeoutError` after
        `transaction_timeout`, which counts from the call: waiting for a connection is part of it. On SQLite it holds
        the file's write lock.
        """
        return self._transactions.open()

    def run_transaction(self, expired: Callable[[], None]) -> RunTransaction:
        """Make the transaction of one run, for `context.transaction()`; `expired` is called if it takes too long."""
        return self._transactions.of_run(expired)

    # ── dispatching ───────────────────────────────────────────────────────────────────────────────────────

    def dispatcher(  # noqa: PLR0913 - an argument for each option
        self,
        *,
        queues: Mapping[str, int] | Sequence[str | Queue] | str | None = None,
        concurrency: int = 10,
        poll_interval: Duration = 1,
        heartbeat: Duration = 5,
        lease: Duration = 15,
        grace: Duration = 20,
        stuck_grace: Duration = 10,
        on_missing: OnMissing = "leave",
        scheduler: bool | Duration = True,
        healer: bool | Duration = True,
        cleaner: bool | Duration = True,
        name: str | None = None,
    ) -> Dispatcher:
        """Make a dispatcher: `async with store.dispatcher(): …` runs tasks until the block ends, then drains.

        `queues` maps names to slots; `None` serves every queue that has work. Every option is described at
        `DispatcherOptions`. Raises `ConfigurationError` for one that cannot work.
        """
        settings = DispatcherSettings.parse(
            queues=queues, concurrency=concurrency, poll_interval=poll_interval, heartbeat=heartbeat, lease=lease,
            grace=grace, stuck_grace=stuck_grace, on_missing=on_missing, scheduler=scheduler, healer=healer,
            cleaner=cleaner, name=name,
        )  # fmt: skip
        return Dispatcher(settings, self._dependencies)

    async def run(self, **options: Unpack[DispatcherOptions]) -> bool:
        """Open if need be and dispatch until SIGTERM or SIGINT; true if everything drained.

        Takes the options of `dispatcher()`, and raises `ConfigurationError` for one that cannot work.
        The first signal drains, the second cancels what still runs and returns it to the queue, the third exits at
        once.
        Raises what the dispatcher ended of, if one of its loops ended; `ConfigurationError` outside the main thread,
        which alone receives signals.
        """
        check_main_thread()
        dispatcher = self.dispatcher(**options)  # what is wrong with the options is said before anything opens
        opened = not self.is_open
        await self.open()
        try:
            return await run_until_signal(dispatcher)
        finally:
            if opened:
                await self.close()

    # ── watching ──────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def on(self, kind: type[E], listener: Callable[[E], Any]) -> Callable[[E], Any]: ...
    @overload
    def on(self, kind: type[E]) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]: ...
    def on(self, kind: type[E], listener: Callable[[E], Any] | None = None) -> Any:
        """Receive events of a kind: `store.on(TaskFinished, fn)`, or as a decorator.

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

    def off(self, kind: type[E], listener: Callable[[E], Any]) -> None:
        """Send a listener no more events of a kind; one that `on` was never given for it is left as it is."""
        self._hooks.off(kind, listener)

    def health(self) -> StoreHealth:
        """Return whether the store and its dispatchers in this process can do their work now, and if not, why.

        It asks no database and waits for nothing; callable from any thread, so that a blocked event loop shows too.
        """
        return self._lifecycle.health()

    def before(self, hook: Before) -> Before:
        """Call `hook(context)` before the handler of each run here: `store.before(fn)`, or as a decorator.

        It may be a coroutine function; hooks are called in the order of their registration, inside the run: they take
        the run's slot and time. One that raises is logged and changes nothing. Direct calls of handlers have no hooks.
        """
        self._run_hooks.before(hook)
        return hook

    def after(self, hook: After) -> After:
        """Call `hook(context, task, error)` after each run here, once its outcome is stored; also as a decorator.

        `task` is the task as it is stored by then; `error` is what ended the run, `None` if the handler returned. As
        `before` otherwise, but outside the run: a slow hook keeps no slot. A stop of the dispatcher waits for it within
        its grace. A run that has lost its claim stores nothing, and has no such call.
        """
        self._run_hooks.after(hook)
        return hook

    def lifespan(self, function: Opens) -> Opens:
        """Open what the handlers need before the first run, and close it after the last: `@store.lifespan`.

        `function` is an async generator function without parameters, also under `@asynccontextmanager`; what it yields
        is `context.state` in every run of this process. It is entered by the first dispatcher that starts, or first
        `run_once()`, before that claims anything; an error of it is raised there. It is left when the store is closed,
        after the runs of its dispatchers have ended, within 30 seconds, in the same asyncio task. An error of leaving
        it is logged and reported to `on_error`. If it ends before, dispatchers stop as if one of their loops had ended.
        Raises `ConfigurationError` for a second one, and for what is no such function.
        """
        self._lifespan.register(function)
        return function

    async def enter_lifespan(self) -> None:
        """Enter the store's lifespan as a dispatcher does, for a program that needs `state` without a dispatcher.

        It is left when the store is closed. Raises what its function raises. Without a function, this does nothing.
        """
        keeper = self._require_open().lifespan
        keeper.refuse_inside("Enter it elsewhere.")
        await keeper.enter()

    @property
    def state(self) -> Any:
        """What the store's lifespan yielded; `ConfigurationError` while it is not entered."""
        return self._require_open().lifespan.state

    def middleware(self, middleware: Around) -> Around:
        """Call `middleware(context, call_next)` around each run here: `store.middleware(fn)`, or as a decorator.

        It is an `async def` that returns `await call_next(context)`, or another result; what it raises ends the attempt
        as if the handler had raised it. The first one registered is the outermost. It is called inside the run, within
        its timeout, around the hooks before it, the reading of the payload and the handler. `call_next` raises
        `ConfigurationError` at its second call. Direct calls of handlers have no middleware. Raises
        `ConfigurationError` for a function that is no coroutine function, or does not take these arguments.
        """
        self._middleware.add(middleware)
        return middleware

    def enqueue_middleware(self, middleware: AroundEnqueue) -> AroundEnqueue:
        """Call `middleware(drafts, call_next)` around each enqueue here; also as a decorator.

        It is an `async def` that awaits `call_next(drafts)`, which returns the ids once the tasks are stored. It may
        change the drafts, not their number, and what it raises reaches whoever enqueues. It is called once for
        `enqueue()`, and once for all the drafts of `enqueue_many()`; the first one registered is the outermost. What
        `enqueue_soon` and schedules store has no such call: a carrier (`store.carry`) sees every task. Raises
        `ConfigurationError` for a function that is no coroutine function, or does not take these arguments.
        """
        self._enqueue_middleware.add(middleware)
        return middleware

    def around_hooks(self, manager: AroundHooks) -> AroundHooks:
        """Call each hook before and after a run inside `manager(name, context)`, a context manager for the hook's name.

        For tracing: it sees what the hook raises, and must not raise anything itself. Also as a decorator. Raises
        `ConfigurationError` for what is no function of these arguments.
        """
        self._run_hooks.around(manager)
        return manager

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    def _declare(self, definition: AnyDefinition) -> bool:
        added = super()._declare(definition)
        definition.belong_to(self)
        for schedule in definition.schedules:
            self.declare_schedule(schedule)
        return added

    def _locate(self, location: Location) -> None:
        """Keep the tables there from the next opening on."""
        self._location = location
        self._transactions.limit = self._settings.transaction_timeout_on(one_writer=location.one_writer)
        self._transactions.locks = location.one_writer

    @cached_property
    def _managers(self) -> Managers:
        from aiotaskstore.manage.managers import Managers  # noqa: PLC0415 - loads what only an open store needs

        return Managers(self._require_open, self._registry, self._declared_schedules, self.handle)

    def _declared(self) -> Declared:
        from aiotaskstore.manage.work_checks import Declared  # noqa: PLC0415 - for a diagnosis only

        slots = sum(one.concurrency or 0 for one in self._settings.queues.values())
        return Declared(
            frozenset(self._registry.aliases),
            frozenset(one.name for one in self._declared_schedules),
            slots,
            self._location.pool_size,
        )

    def _connect(self) -> Storage:
        sql = logging.getLogger("aiotaskstore.sql")
        if self._logs_sql:
            sql.setLevel(logging.DEBUG)
        elif sql.level == logging.NOTSET:  # an application that logs all at DEBUG does not mean every statement of ours
            sql.setLevel(logging.INFO)
        return self._location.connect()

    def _drafted(self, draft: Draft[R], task_id: UUID) -> TaskHandle[R]:
        return TaskHandle(task_id, self._managers.handle_client, draft.definition.result if draft.definition else None)

    def _assemble(self, storage: Storage) -> OpenStore:
        from aiotaskstore.manage.open_store import OpenStore  # noqa: PLC0415 - at the first opening

        return OpenStore(
            self._settings,
            storage,
            self._registry,
            self._hooks,
            self._carriers,
            transactions=self._ambient,
            schedules=self._declared_schedules,
            lifespan=self._lifespan,
        )

    def _require_open(self) -> OpenStore:
        return self._lifecycle.require_open()

    def _dependencies(self) -> DispatcherDependencies:
        store = self._require_open()
        store.calls.check()
        store.calls.refuse_own_lock("Start dispatchers before or after the block.")
        store.lifespan.refuse_inside("Start dispatchers elsewhere.")
        return DispatcherDependencies(
            store=self,
            storage=store.storage,
            registry=self._registry,
            hooks=self._hooks,
            run_hooks=self._run_hooks,
            carriers=self._carriers,
            middleware=self._middleware,
            lifespan=store.lifespan,
            queues=self._settings.queues,
            result_limit=self._settings.payload_limit,
            report=lambda queue, task_id, error: self._hooks.emit(
                BackgroundFailed("recorder", error, 0, queue, task_id)
            ),
            running=self._lifecycle.running,
            failed=self._lifecycle.failed,
            notifier=store.notifier,
            key_grants=store.granter,
            publish=store.publish,
            schedules=self._declared_schedules,
            clock=self._location.clock,
            prepare_occurrence=store.schedule_tasks.prepare,
            own_lock=store.calls.own_lock,
            refuse_own_lock=store.calls.refuse_own_lock,
            run_transaction=self._transactions.of_run,
        )
