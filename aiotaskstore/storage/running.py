"""Runs one operation on a session: its steps, its commit, and its rollback whatever stops it."""

from __future__ import annotations

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.faults import timed_out
from aiotaskstore.storage.operation import Begin, Steps, T
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.statement_size import split_steps
from aiotaskstore.storage.watchdog import Watchdog


async def run_operation(steps: Steps[T], session: Session, limit: float) -> T:
    """Run an operation on a session; an error or a cancellation rolls it back.

    Each step may take `limit` seconds, and the rollback after a failure `CLEANUP`; the connection is closed when that
    time is over.
    """
    with Watchdog(session.abort, limit) as watchdog:
        try:
            split = split_steps(steps, session.most_characters, begin=session.needs_transaction)
            return await _run_steps(split, session, watchdog)
        except TaskStoreError as error:
            if not watchdog.expired:
                raise
            late = timed_out(f"The database did not answer within {limit:g} s; the connection was closed.")
            late.nothing_done = isinstance(error, DatabaseUnavailableError) and error.nothing_done
            raise late from error


async def _run_steps(steps: Steps[T], session: Session, watchdog: Watchdog) -> T:
    begun = committing = False
    try:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Begin):
                    begun = True
                    await session.begin(step.lock_wait)
                    step = steps.send(())
                else:
                    step = steps.send(await session.run(step))
                watchdog.extend()
        except StopIteration as stop:
            result: T = stop.value
        if begun:
            committing = True
            await session.commit()
    except BaseException as error:
        steps.close()
        if isinstance(error, DatabaseUnavailableError):
            error.nothing_done |= begun and not committing
        watchdog.hurry()
        await _clean_up(session, error, open_transaction=begun and not committing)
        raise
    return result


async def _clean_up(session: Session, error: BaseException, *, open_transaction: bool) -> None:
    try:
        if open_transaction:
            await session.rollback()
        elif not isinstance(error, Exception):
            await session.after_cancellation()
    except BaseException:  # a statement still under way would disturb the connection's next user
        session.abort()
        raise
