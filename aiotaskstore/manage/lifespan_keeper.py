"""Enters the lifespan of an open store before the first run, and leaves it when the store is closed."""

from __future__ import annotations

from typing import Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.hooks import Hooks
from aiotaskstore.lifespan import Lifespan
from aiotaskstore.manage.entered_lifespan import EnteredLifespan, LifespanUser


class LifespanKeeper:
    """The lifespan of one open store: entered once for all dispatchers together, by the first of them that starts.

    It is left when the store is being closed and no dispatcher uses it any more, whoever is cancelled meanwhile.
    """

    def __init__(self, lifespan: Lifespan, hooks: Hooks) -> None:
        self._lifespan, self._hooks = lifespan, hooks
        self._entered: EnteredLifespan | None = None

    @property
    def state(self) -> Any:
        """What the lifespan function yielded. Raises `ConfigurationError` while it is not entered."""
        if self._lifespan.function is None:
            raise ConfigurationError(
                "context.state is what the function under @store.lifespan yields, and this store has none. Declare it: "
                "@store.lifespan, above an `async def resources()` that yields what the handlers need."
            )
        if self._entered is None or not self._entered.serving:
            raise ConfigurationError(
                "context.state was read while the store's lifespan was not entered. It is there in runs, from the "
                "start of the first dispatcher to the close of the store."
            )
        return self._entered.state

    def refuse_inside(self, advice: str) -> None:
        """Raise `ConfigurationError` with `advice` in its text, if the lifespan function is the caller."""
        if self._entered is not None and self._entered.is_current_task():
            raise ConfigurationError(f"The lifespan function would wait for itself here. {advice}")

    async def enter(self, user: LifespanUser | None = None) -> None:
        """Enter the lifespan, unless it is entered; from here on `user` uses it. Raises what its function raises."""
        if self._lifespan.function is None:
            return
        while self._entered is not None and self._entered.leaving:
            await self._entered.over.wait()
        if self._entered is None:
            self._entered = EnteredLifespan(self._lifespan.open, report=self._report, over=self._over)
        await self._entered.use(user)

    def release(self, user: LifespanUser) -> None:
        """Note that `user` does not use it any more, if it did."""
        if self._entered is not None:
            self._entered.release(user)

    def leave_soon(self) -> None:
        """Leave the lifespan once nobody uses it. A start from now on waits for that, and enters it anew."""
        if self._entered is not None:
            self._entered.leave_soon()

    async def left(self) -> bool:
        """Wait until it is left, which has its limits; false if it was not entered."""
        if self._entered is None:
            return False
        await self._entered.over.wait()
        return True

    def _over(self) -> None:
        self._entered = None

    def _report(self, error: BaseException) -> None:
        assert self._lifespan.function is not None  # noqa: S101 - it was entered
        self._hooks.report_failure(self._lifespan.function, error, None, None)
