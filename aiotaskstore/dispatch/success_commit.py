"""Commits a handler's transaction together with the success of its task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiotaskstore.outcome import Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.run_transaction import CommitReply, RunTransaction
from aiotaskstore.storage.tasks import Line, Note, Recorded, Tasks
from aiotaskstore.task import Claim


class SuccessCommit:
    """The last operations of a handler's transaction: its run's lines of details, then the success, if it may count.

    The success is written under the claim's fence. If the claim is lost, the transaction is rolled back.
    """

    def __init__(
        self,
        tasks: Tasks,
        claim: Claim,
        outcome: Succeeded,
        take_lines: Callable[[], tuple[tuple[Line, ...], bool]],
    ) -> None:
        self._tasks, self._ended = tasks, [(claim, outcome)]
        self.notes: list[Note] = []
        """The lines that are taken from the run; whoever does not commit must keep them."""
        if Retention.load(claim.retention).keeps_row(succeeded=True):
            lines, bounding = take_lines()
            self.notes = [Note(claim.id, claim.fence, None, lines, bounding)] if lines else []

    async def carry_out(self, transaction: RunTransaction) -> CommitReply:
        """Run the operations and commit."""
        report = [partial(self._tasks.report, self.notes)] if self.notes else []
        return await transaction.commit(*report, partial(self._tasks.record, self._ended), wanted=_counts)


def _counts(recorded: Recorded) -> bool:
    return not recorded.lost
