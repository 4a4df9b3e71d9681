"""`TaskStoreTester`: an application's own store, on another database and another clock for the time of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload
from uuid import UUID

from aiotaskstore.definition import AnyDefinition, BoundTask, Draft
from aiotaskstore.dispatch.cleaner import Cleaner
from aiotaskstore.dispatch.scheduler import Scheduler
from aiotaskstore.errors import ConfigurationError, UnknownAliasError
from aiotaskstore.events import TaskEnqueued
from aiotaskstore.lifespan import Lifespan
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.clock import SYSTEM_CLOCK
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.options import check_instant
from aiotaskstore.queue import check_count
from aiotaskstore.storage.filters import TaskFilters
from aiotaskstore.storage.listing import Listing
from aiotaskstore.task import Task, TaskStatus
from aiotaskstore.taskstore import TaskStore
from aiotaskstore.testing.drain import Drain, raise_error
from aiotaskstore.testing.drain_report import DrainReport
from aiotaskstore.testing.expectation import Expectation, ExpectedOptions
from aiotaskstore.testing.moving_clock import MovingClock
from aiotaskstore.testing.performance import Performed, perform
from aiotaskstore.testing.relocation import KEEP, MEMORY, OwnDatabase, Relocation
from aiotaskstore.testing.serial_runner import SerialRunner

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = BoundTask[..., Any] | str
"""A task, or its alias."""

_LIMIT = 1000
"""Runs of one drain, unless the test says."""
_MOST_PASSES = 100
"""Passes over the schedules, of which one may be due again at any time."""
_TIMEOUT = 60.0
"""Real seconds that one drain may take, unless the test says."""


class _FromLifespan(Enum):
    LIFESPAN = "what the store's lifespan yields"


LIFESPAN = _FromLifespan.LIFESPAN


class TaskStoreTester:
    """An application's own store on another database and another clock, for the time of a test.

    `async with TaskStoreTester(store) as tester:` opens the store on a fresh database in memory; what the application
    enqueues goes there, and it may open and close the store inside the block as it does in production. Time stands
    still until the test moves it. Nothing runs until the test says: `drain()`, `inline()`, or a dispatcher.

    `database` is a URL on which the tester makes tables of its own and drops them after it (a schema on PostgreSQL, a
    prefix elsewhere), or `KEEP` for the store's own database and tables, which must hold no task unless
    `allow_existing`. With `connection`, a connection or SQLAlchemy session to the store's own database with an open
    transaction, all that the store and the tester do happens in that transaction, which the test rolls back.

    `state` takes the place of what the store's lifespan yields, which is then not entered: a fake, say. Else it is
    entered before the first run, and left when the store is closed.

    `now` is the instant at which the clock stands; the present one unless given. Entering raises `ConfigurationError`
    if the store is open already. A plain `with` only takes the store there, for an application that opens and closes
    it on an event loop of its own; the tester's calls must then be made on that loop, while it is open.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        database: str | Literal[OwnDatabase.KEEP] | Any = MEMORY,
        connection: Any = None,
        now: datetime | None = None,
        state: Any = LIFESPAN,
        allow_existing: bool = False,
    ) -> None:
        if not isinstance(store, TaskStore):
            raise ConfigurationError(f"A tester takes the application's TaskStore, not {store!r:.100}.")
        if connection is not None and database not in (MEMORY, KEEP):
            raise ConfigurationError(
                "connection= means the store's own database, in a transaction of the test's; leave database= out."
            )
        self._store, self._allow_existing = store, allow_existing
        self._clock = MovingClock(SYSTEM_CLOCK.now() if now is None else check_instant(now, "now"))
        lifespan = None if state is LIFESPAN else _lifespan_of(state)
        self._relocation = Relocation(store, database, connection, clock=self._clock, lifespan=lifespan)
        self._opened: OpenStore | None = None
        self._runner: SerialRunner | None = None
        self._scheduler: Scheduler | None = None
        self._background = BackgroundTasks("The tester's scheduler")
        self._earlier: frozenset[UUID] = frozenset()
        """Tasks that were there before."""
        self._announced: dict[UUID, str] = {}
        """The aliases of the tasks that this process has enqueued, whether that was committed or not."""
        self._unsubscribe: Callable[[], None] = lambda: None
        self._raises_inline = True
        self._performed: Performed[Any] | None = None

    # ── enter and leave ───────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await self._relocation.open()
            try:
                await self._look_at_existing()
            except BaseException:
                await self._relocation.close()
                raise
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._drop_opened()
            await self._relocation.close()
        finally:
            self._leave()

    def __enter__(self) -> Self:
        if self._relocation.keeps:
            raise ConfigurationError(
                "A tester on the store's own database, or on a connection, is entered with `async with`, since it "
                "looks into that first."
            )
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        still_open = self._store.is_open
        self._drop_opened()
        self._leave()
        self._relocation.drop_apart()
        if still_open and error is None:
            raise ConfigurationError(
                "The application has left its store open. A tester that is entered with a plain `with` leaves opening "
                "and closing to the application; enter it with `async with` to have it done."
            )

    # ── what was enqueued ─────────────────────────────────────────────────────────────────────────────────

    async def enqueued(self, task: AnyTask | None = None, **filters: Unpack[TaskFilters]) -> list[Task]:
        """Return the tasks that were enqueued in this block, oldest first, whatever became of them since.

        Soft-deleted ones too, unless `include_deleted=False`; not those whose row is gone. `task` and the filters of
        `store.tasks.list` narrow the choice: `status="pending"`. Raises what that raises.
        """
        await self._store.flush()
        if task is not None:
            filters["alias"] = self._alias(task)
        filters.setdefault("descending", False)
        filters.setdefault("include_deleted", True)
        filters.setdefault("limit", None)
        return [one for one in await self._store.tasks.list(**filters) if one.id not in self._earlier]

    async def assert_enqueued(
        self,
        task: AnyTask,
        options: ExpectedOptions = {},  # noqa: B006 - it is only read
        /,
        **arguments: Any,
    ) -> Task:
        """Return the first task that was enqueued in this block with these arguments, and perhaps others.

        Arguments are compared as the handler gets them, its defaults included. `options` are expected besides:
        `assert_enqueued(send_welcome, {"queue": "emails", "count": 1}, user_id=42)`. Raises `AssertionError` that shows
        how the nearest tasks differ, and `ConfigurationError` for an argument that the handler does not take.
        """
        expected = self._expectation(task, options, arguments)
        tasks = await self.enqueued()
        matching = [one for one in tasks if expected.matches(one)]
        wanted = f"exactly {expected.count}" if expected.count is not None else "one at least"
        if matching if expected.count is None else len(matching) == expected.count:
            return matching[0]
        found = f"{len(matching)} of {len(tasks)} enqueued tasks match"
        lines = [f"{found}, and {wanted} should: {expected}", *expected.misses(tasks), *self._hints(tasks)]
        raise AssertionError("\n".join(lines))

    async def refute_enqueued(
        self,
        task: AnyTask,
        options: ExpectedOptions = {},  # noqa: B006 - it is only read
        /,
        **arguments: Any,
    ) -> None:
        """Raise `AssertionError` if a task was enqueued in this block with these arguments, and perhaps others.

        Takes what `assert_enqueued` takes, but no `count`.
        """
        expected = self._expectation(task, options, arguments)
        if expected.count is not None:
            raise ConfigurationError("refute_enqueued() expects none; a count is for assert_enqueued().")
        matching = [one for one in await self.enqueued() if expected.matches(one)]
        if matching:
            shown = "\n".join(f"  {one.id} {one.status} {one.alias} {one.payload}" for one in matching)
            raise AssertionError(f"{len(matching)} enqueued, and none should be: {expected}\n{shown}")

    # ── run ───────────────────────────────────────────────────────────────────────────────────────────────

    async def drain(
        self,
        queue: str | Sequence[str] | None = None,
        *,
        limit: int = _LIMIT,
        timeout: Duration = _TIMEOUT,  # noqa: ASYNC109 - for the message
        with_scheduled: bool = False,
        raises: bool = True,
    ) -> DrainReport:
        """Run what is due, of every queue or of these, and what that enqueues, until nothing is due.

        Tasks run one at a time in this event loop, by priority and due time. Schedules that are due make their tasks
        first. With `with_scheduled` the clock moves on to each time at which a task is due. The first error of a
        handler is raised, with its task in a note, unless `raises` is false; `Retry`, `Snooze` and `Cancel` are none.
        Raises `AssertionError` if something is still due after `limit` runs, `TimeoutError` after `timeout` real
        seconds, and `InvalidQueryError` for what can be no queue.
        """
        runner = self._running()
        if queue is not None:
            Listing.parse({"queue": queue})  # which refuses what can be no queue
        queues = None if queue is None else [queue] if isinstance(queue, str) else list(queue)

        async def pass_time() -> bool:
            if not with_scheduled:
                return False
            first: TaskFilters = {"status": "scheduled", "order_by": "run_at", "descending": False, "limit": 1}
            if queues is not None:
                first["queue"] = queues
            scheduled = await self._store.tasks.list(**first)
            if not scheduled:
                return False
            await self.travel_to(max(scheduled[0].run_at, self.now))
            return True

        drain = Drain(
            runner,
            queues,
            limit=check_count(limit, "limit"),
            timeout=seconds(timeout, "timeout", above_zero=True),
            raises=raises,
            pass_time=pass_time,
        )
        await self._store.flush()
        await self._store.enter_lifespan()
        await self._schedule()
        await drain.carry_out()
        kept = {one.id: one for one in await self._store.tasks.list(id_in=drain.ids, limit=None)} if drain.ids else {}
        drain.report.tasks.extend(kept[one] for one in drain.ids if one in kept)
        return drain.report

    @contextmanager
    def inline(self, *, raises: bool = True) -> Iterator[None]:
        """Have each task run inside the block as it is enqueued, before `enqueue()` returns.

        It is a whole run: the payload is written as JSON and read back, and the row ends as any other. The handler's
        error is raised by `enqueue()`, unless `raises` is false. A task that is not due, or is enqueued in a
        transaction of the application's or by `enqueue_soon`, does not run inline, and nothing says so: call `drain()`
        after the commit, which runs it.
        """
        store = self._store
        before, raised_before = store._run_inline, self._raises_inline
        store._run_inline, self._raises_inline = self._run_now, raises
        try:
            yield
        finally:
            store._run_inline, self._raises_inline = before, raised_before

    @overload
    async def perform(self, task: BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def perform(self, task: Draft[R], /, *, attempt: int = 1) -> R: ...
    async def perform(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run one handler with these arguments and a context of its own, without a task; return what it returns.

        The arguments are written as JSON and read back, as is the result. A draft also gives its metadata, and takes
        `attempt`: `perform(send_welcome.options(metadata={…}).draft(42), attempt=3)`. What the handler raises is
        raised, `Retry` and the like too. There is no timeout, no middleware and no hook. `performed` tells what it
        reported.
        """
        if isinstance(task, Draft):
            draft, attempt = task, check_count(kwargs.pop("attempt", 1), "attempt")
            if args or kwargs:
                raise ConfigurationError("A draft has its arguments already; perform() takes attempt= with it.")
        elif isinstance(task, BoundTask):
            draft, attempt = task.draft(*args, **kwargs), 1
        else:
            raise ConfigurationError(f"perform() takes a task or a draft, not {task!r:.100}.")
        definition = draft.definition or self._store._registry.get(draft.alias)
        if definition is None:
            raise UnknownAliasError(draft.alias, self._store._registry.aliases)
        self._performed = None
        await self._store.enter_lifespan()
        performed = await perform(definition, draft, self._store, attempt)
        self._performed = performed
        return performed.result

    @property
    def performed(self) -> Performed[Any]:
        """What the last `perform()` that returned has reported. Raises `ConfigurationError` without one."""
        if self._performed is None:
            raise ConfigurationError("No perform() has returned yet.")
        return self._performed

    async def crash(self, id: UUID | str) -> Task:
        """Have a pending task claimed by a dispatcher that dies, and rescued; return what became of it.

        As its `on_stuck` says it is pending again, one attempt spent, or has ended. Raises `TaskNotFoundError`, and
        `ConfigurationError` for a task that is not pending, since nobody can claim it.
        """
        runner = self._running()
        await runner.promote()
        task = await self._store.tasks.require(id)
        if task.status is not TaskStatus.PENDING or not await runner.crash(task):
            raise ConfigurationError(
                f"The task {task.alias} {task.id} cannot be claimed, so no dispatcher can die with it: "
                f"{await self._store.tasks.why(task.id)}"
            )
        return await self._store.tasks.require(task.id)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> datetime:
        """The instant at which the clock stands."""
        return self._clock.now()

    async def travel(self, by: Duration | None = None, /, **parts: float) -> datetime:
        """Move the clock on: `travel(hours=2)`, `travel(timedelta(days=1))`, `travel(30)`; return what it shows then.

        What is due then is placed, schedules make their tasks, and handlers whose timeout has passed are cancelled.
        Raises `ConfigurationError` for a way back.
        """
        try:
            span = timedelta(seconds=seconds(by, "travel()")) if by is not None else timedelta(**parts)
        except (TypeError, OverflowError) as error:
            raise ConfigurationError(f"travel() takes what timedelta() takes, such as hours=2: {error}.") from error
        if (by is not None and parts) or (by is None and not parts):
            raise ConfigurationError("travel() takes a duration, or its parts, such as hours=2.")
        try:
            target = self.now + span
        except OverflowError as error:
            raise ConfigurationError(f"The clock shows {self.now}, and cannot go so far: {error}.") from error
        return await self.travel_to(target)

    async def travel_to(self, instant: datetime) -> datetime:
        """Move the clock on to an instant, as `travel` does. Raises `ConfigurationError` for one that is past."""
        target = check_instant(instant, "The instant to travel to")
        if target < self.now:
            raise ConfigurationError(f"The clock shows {self.now}, and goes only forward: {target} is past.")
        self._clock.move(target - self.now)
        if self._store.is_open:
            await self._running().promote()
            await self._schedule()
        await asyncio.sleep(0)  # handlers that were cancelled see it
        return self.now

    async def clean(self) -> int:
        """Delete finished tasks past their retention, as a dispatcher does now and then; return how many."""
        return await Cleaner(self._open_store().storage).clean_once()

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    def _enter(self) -> None:
        self._relocation.begin()
        self._announced.clear()
        self._unsubscribe = self._store._hooks.on(TaskEnqueued, self._announce)

    def _leave(self) -> None:
        self._unsubscribe()
        self._relocation.end()

    def _announce(self, event: TaskEnqueued) -> None:
        self._announced[event.task_id] = event.alias

    async def _look_at_existing(self) -> None:
        if not self._relocation.keeps:
            return
        existing = await self._store.tasks.list(limit=None, include_deleted=True)
        if existing and not (self._allow_existing or self._relocation.confined):
            raise ConfigurationError(
                f"The database {self._store.url or 'of the pool'} holds {len(existing)} tasks already, so it may be no "
                "test's. Empty it, have tables of the tester's own beside them (database=<URL>), or say "
                "allow_existing=True."
            )
        self._earlier = frozenset(one.id for one in existing)

    def _open_store(self) -> OpenStore:
        """Return the open store; what belongs to an earlier opening is dropped."""
        opened = self._store._require_open()
        if opened is not self._opened:
            self._drop_opened()
            self._opened = opened
        return opened

    def _running(self) -> SerialRunner:
        opened = self._open_store()
        if self._runner is None:
            self._runner = SerialRunner(self._store._dependencies(), opened.calls)
            opened.notifier.subscribe(self._runner.receive)
        return self._runner

    def _drop_opened(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._background.cancel()
        self._background = BackgroundTasks("The tester's scheduler")
        self._opened = self._runner = self._scheduler = None

    async def _schedule(self) -> None:
        """Make the tasks of schedules that are due; in a transaction of the test's there are no schedules."""
        if self._relocation.confined:
            return
        opened = self._open_store()
        if self._scheduler is None:
            given = self._store._dependencies()
            await opened.publish()
            self._scheduler = Scheduler(
                given.storage,
                given.hooks,
                self._store.dispatcher().settings,
                registry=given.schedules,
                prepare=given.prepare_occurrence,
                notify=given.notifier.notify,
                key_grants=given.key_grants,
                spawn=self._background.spawn,
            )
        for _ in range(_MOST_PASSES):
            more = await self._scheduler.schedule_once()
            if not (await self._scheduler.idle() or more):
                return

    async def _run_now(self, ids: Sequence[UUID], joined: AmbientTransaction | None) -> None:
        """Run tasks that were just enqueued."""
        if joined is not self._relocation.confined:
            return
        await self._store.enter_lifespan()
        runner = self._running()
        for one in ids:
            await runner.promote()
            task = await self._store.tasks.get(one)
            if task is None or task.status is not TaskStatus.PENDING:
                continue
            claim = await runner.claim_one(task)
            if claim is not None:
                _, error = await runner.run(claim)
                if self._raises_inline:
                    raise_error(claim, error)

    def _alias(self, task: AnyTask) -> str:
        if isinstance(task, BoundTask):
            return task.definition.alias
        if not isinstance(task, str):
            raise ConfigurationError(f"A task or its alias is expected, not {task!r:.100}.")
        definition = self._store._registry.get(task)
        return task if definition is None else definition.alias

    def _expectation(self, task: AnyTask, options: ExpectedOptions, arguments: dict[str, Any]) -> Expectation:
        alias = self._alias(task)
        definition: AnyDefinition | None = (
            task.definition if isinstance(task, BoundTask) else self._store._registry.get(alias)
        )
        return Expectation(alias, definition, options, arguments)

    def _hints(self, tasks: Sequence[Task]) -> Iterator[str]:
        """Yield what may explain that a task is not there."""
        stored = {task.id for task in tasks}
        absent = sorted({alias for id_, alias in self._announced.items() if id_ not in stored})
        if absent:
            yield (
                f"{', '.join(absent)} was enqueued and is not stored: its transaction is still open, or was rolled "
                "back, or its retention keeps no row."
            )
        elif not tasks:
            yield "Nothing was enqueued."


def _lifespan_of(state: Any) -> Lifespan:
    """Return a lifespan that yields a value and opens nothing."""

    async def given() -> AsyncIterator[Any]:
        yield state

    lifespan = Lifespan()
    lifespan.register(given)
    return lifespan
