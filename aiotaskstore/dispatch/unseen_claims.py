"""Claims whose reply was lost: they run in the database, and nobody here knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from aiotaskstore.dispatch.claim_releaser import ClaimReleaser
from aiotaskstore.dispatch.claim_sender import ClaimCounts


class UnseenClaims:
    """Finds such claims in what heartbeats' replies list, and releases them.

    The reply to a claim may still be on its way, for as long as a slow database or a stalled loop takes. So a claim is
    released when two replies in a row have listed it, and every claim has ended that was sent before the first of them.
    """

    def __init__(self, releaser: ClaimReleaser, counts: Callable[[], ClaimCounts]) -> None:
        self._releaser, self._counts = releaser, counts
        self._listed: dict[tuple[UUID, int], int] = {}
        """What the last reply listed, with the number of claims that were sent when it was listed first."""

    def listed(self, without_run: Iterable[tuple[UUID, int]]) -> None:
        """Release those of these claims whose reply will not come."""
        sent, ended = self._counts()
        before = self._listed
        self._listed = {claim: before.get(claim, sent) for claim in without_run}
        unseen = [claim for claim, first in self._listed.items() if claim in before and first <= ended]
        if unseen:
            self._releaser.release_unseen(unseen)
