"""The dispatcher: claims tasks and runs their handlers, from start to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from aiotaskstore.dispatch.dependencies import DispatcherDependencies
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.instance_health import health_of, stopped
from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.health import DispatcherHealth
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.queue import check_count

if TYPE_CHECKING:
    from aiotaskstore.dispatch.instance import DispatcherInstance


class Dispatcher:
    """Runs the tasks of one store in this process. Make one with `store.dispatcher(…)`.

    A dispatcher may be started and stopped again, from any task; each start has an identity of its own. If one of its
    loops ends by an error, which must not happen, the dispatcher returns its running tasks to the queue and stops. The
    error is logged, the body of its `async with` is cancelled, and the next call, or the end of the `async with`,
    raises a `TaskStoreError`.
    """

    def __init__(self, settings: DispatcherSettings, dependencies: Callable[[], DispatcherDependencies]) -> None:
        self.settings = settings
        self._dependencies = dependencies
        self._instance: DispatcherInstance | None = None
        self._failed: DispatcherInstance | None = None
        self._running: set[Any] = set()
        self._all_failed: set[Any] = set()
        self._body: asyncio.Task[Any] | None = None
        self._cancelled_before = 0
        self._woken = False
        self.drained: bool = True
        """Whether every run ended by itself, within the grace, at the last stop."""

    def __repr__(self) -> str:
        return f"<Dispatcher {self.settings.name} {'running' if self.running else 'stopped'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        body = asyncio.current_task()
        self._body, self._woken = body, False
        self._cancelled_before = body.cancelling() if body is not None else 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        body, self._body = self._body, None
        ours = False
        if self._woken and body is not None and body is asyncio.current_task():
            left = body.uncancel()  # also if the body has caught the cancellation
            ours = kind is asyncio.CancelledError and left <= self._cancelled_before
        try:
            await self.stop()
        except TaskStoreError:
            if error is None or ours:
                raise

    @property
    def running(self) -> bool:
        """Whether the dispatcher is claiming and running tasks."""
        instance = self._instance
        return instance is not None and instance.life.working and not instance.affinity.gone

    @property
    def id(self) -> UUID | None:
        """The identity of the current start; `None` while the dispatcher is stopped."""
        return self._instance.id if self._instance else None

    @property
    def active(self) -> int:
        """How many tasks are running now."""
        return len(self._instance.in_flight.runs) if self._instance else 0

    def health(self) -> DispatcherHealth:
        """Return whether it can do its work now, without asking the database; callable from any thread."""
        instance, failed = self._instance, self._failed
        if instance is None or instance.affinity.gone:
            return stopped(self.settings, failed.life.failure if failed is not None else None)
        return health_of(instance, self.settings)

    async def start(self) -> None:
        """Begin to claim and run tasks. If the dispatcher is running already, do nothing.

        If `stop` is called during the start, the start is given up, and this returns with nothing running.

        Raises `ConfigurationError` without a registered task, `DatabaseUnavailableError` without a database.
        """
        if await self._unoccupied():
            await self._make().life.start()

    async def stop(self, grace: Duration | None = None) -> bool:
        """Claim nothing more, and let the runs end within `grace`; then cancel those left and return them to the queue.

        A task that is returned keeps its place and its attempt. Returns true if every run ended by itself. If the
        dispatcher is stopped already, this does nothing. The stop goes on if its caller is cancelled. A second `stop`
        waits for the same stop; of two graces, the one that ends first counts. Raises `ConfigurationError` inside the
        caller's own `store.transaction()` on SQLite, since the stop would wait for that transaction.
        """
        here = self._here()
        if here is not None:
            here.refuse_own_lock("Stop the dispatcher after the block.")
        instance = self.begin_stop(grace)
        if instance is None:
            self._raise_failure()
            return True
        try:
            return await instance.life.stopped()
        finally:
            if instance.life.over.is_set():
                self._clear_failure()

    def begin_stop(self, grace: Duration | None = None) -> DispatcherInstance | None:
        """Begin to stop, and return at once: the instance that is stopping, or `None` if nothing runs."""
        limit = self.settings.grace if grace is None else seconds(grace, "grace")
        instance = self._here()
        if instance is not None:
            instance.stop(limit)
        return instance

    async def ended(self) -> bool:
        """Wait until the dispatcher has stopped; true if every run ended by itself. Raises a failed loop's error."""
        instance = self._here()
        if instance is not None:
            await instance.life.over.wait()
        self._raise_failure()
        return self.drained

    def cancel_runs(self) -> None:
        """Cancel all runs and return their tasks to the queue, also while `stop` waits for the grace to end."""
        if self._instance is not None:
            self._instance.cancel_runs()

    async def run_once(self, *, limit: int | None = None) -> int:
        """Promote scheduled tasks, rescue, and run tasks until none is due; return how many tasks ran.

        `limit` is the most tasks to run. A stop ends the pass early. Raises `ConfigurationError` while the dispatcher
        is running.
        """
        most = None if limit is None else check_count(limit, "limit")
        if not await self._unoccupied():
            raise ConfigurationError("run_once() is for a stopped dispatcher; this one is running.")
        instance = self._make()
        run_once = instance.prepare_run_once(most)
        await instance.life.start()
        try:
            await instance.life.over.wait()
        except asyncio.CancelledError:
            instance.stop(self.settings.grace)
            await instance.life.over.wait()
            raise
        self._raise_failure()
        return run_once.ran()

    def _here(self) -> DispatcherInstance | None:
        """Return the started instance, if any. Raises `ConfigurationError` if it belongs to another event loop.

        An instance is discarded if its event loop is closed, or if it was started before this process was forked.
        """
        if self._failed is not None and self._failed.affinity.gone:
            self._clear_failure()
        instance = self._instance
        if instance is not None and instance.affinity.gone:
            self._instance = self._body = instance = None
        if instance is not None:
            instance.affinity.check()
        return instance

    async def _unoccupied(self) -> bool:
        """Wait until no start, stop or `run_once` is under way; false if the dispatcher is running.

        Raises the error of a loop that failed.
        """
        self._here()
        while (instance := self._instance) is not None:
            if instance.life.working and instance.run_once is None:
                return False
            if instance.in_flight.runs_current_task():
                raise ConfigurationError(
                    "This is called by a task that the dispatcher itself runs and waits for, so it would wait for its "
                    "own end. Call it outside, or use another dispatcher."
                )
            ends = instance.run_once is not None or instance.life.stopping
            await (instance.life.over if ends else instance.life.start_done).wait()
        self._raise_failure()
        return True

    def _make(self) -> DispatcherInstance:
        from aiotaskstore.dispatch.instance import DispatcherInstance  # noqa: PLC0415 - loads the loops

        dependencies = self._dependencies()
        if not len(dependencies.registry):
            raise ConfigurationError(
                "No task is registered, so there is nothing to run. Import the modules that declare tasks, or "
                "store.include(router)."
            )
        self._instance = DispatcherInstance(self.settings, dependencies, failed=self._wake, over=self._over)
        self._running, self._all_failed = dependencies.running, dependencies.failed
        self._running.add(self)
        return self._instance

    def _wake(self) -> None:
        """Cancel the body of our `async with`: the dispatcher has failed, and runs nothing any more."""
        if self._body is not None and not self._body.done():
            self._woken = True
            self._body.cancel()

    def _over(self, instance: DispatcherInstance) -> None:
        self._instance = None
        self.drained = instance.life.drained
        if instance.life.failure:
            self._failed = instance
            self._all_failed.add(self)
        self._running.discard(self)

    def _raise_failure(self) -> None:
        failed = self._failed
        self._clear_failure()
        if failed is not None:
            failed.life.tasks.check()

    def _clear_failure(self) -> None:
        """Note that the error is raised to somebody, or that its event loop is gone."""
        self._failed = None
        self._all_failed.discard(self)
