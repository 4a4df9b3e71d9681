"""The transaction that a handler opens, as its run sees it: it ends with the run's outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from aiotaskstore.dispatch.foreign_cancellation import let_others_run, undisturbed
from aiotaskstore.dispatch.success_commit import SuccessCommit
from aiotaskstore.outcome import Outcome, Succeeded
from aiotaskstore.run_transaction import CommitReply, RunTransaction
from aiotaskstore.storage.tasks import Line, Note, Tasks
from aiotaskstore.task import Claim


class HandlerTransaction:
    """Committed together with its run's success, rolled back with any other outcome."""

    def __init__(
        self,
        transaction: RunTransaction,
        tasks: Tasks,
        claim: Claim,
        take_lines: Callable[[], tuple[tuple[Line, ...], bool]],
    ) -> None:
        self._transaction, self._tasks, self._claim, self._take_lines = transaction, tasks, claim, take_lines
        self.notes: Sequence[Note] = ()
        """The lines that `end` has taken from the run; they are written only if the transaction was committed."""

    def block(self) -> AbstractAsyncContextManager[Any]:
        """Open it, and lend the driver's connection; a block that raises rolls it back."""
        return self._transaction.block()

    def overtime(self) -> TimeoutError:
        """Return the error for its having taken too long."""
        return self._transaction.overtime()

    def take_away(self) -> None:
        """Roll back without waiting for it, and close the connection, since the handler may go on."""
        self._transaction.take_away()

    async def end(self, outcome: Outcome) -> CommitReply:
        """Commit or roll back; return once it has ended, whoever cancels the run's asyncio task meanwhile.

        The run must not be stopped any more.
        """
        if not isinstance(outcome, Succeeded):
            self._transaction.give_up()
        await let_others_run()  # which takes a cancellation that came too late for the handler
        if not isinstance(outcome, Succeeded):
            return await undisturbed(self._transaction.roll_back)
        commit = SuccessCommit(self._tasks, self._claim, outcome, self._take_lines)
        self.notes = commit.notes
        return await undisturbed(partial(commit.carry_out, self._transaction))
