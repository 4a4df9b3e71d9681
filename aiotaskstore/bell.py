"""What rings in this process: there is work, something was scheduled, somebody asked for a cancel."""

from __future__ import annotations

from typing import Protocol


class Hearer(Protocol):
    """A dispatcher of this process, as the bell knows it."""

    def hint(self, queues: frozenset[str]) -> None:
        """These queues have work; an empty set means any of them."""

    def scheduled(self) -> None:
        """A task was scheduled, perhaps sooner than all others."""

    def cancel_asked(self) -> None:
        """Somebody asked to cancel a running task."""


class Bell:
    """The dispatchers of this process that hear at once what the store does."""

    def __init__(self) -> None:
        self._hearers: list[Hearer] = []

    def add(self, hearer: Hearer) -> None:
        """Let a dispatcher hear."""
        self._hearers.append(hearer)

    def remove(self, hearer: Hearer) -> None:
        """Let it hear no more."""
        if hearer in self._hearers:
            self._hearers.remove(hearer)

    def hint(self, queues: frozenset[str]) -> None:
        """Say that these queues have work."""
        for hearer in self._hearers:
            hearer.hint(queues)

    def scheduled(self) -> None:
        """Say that a task was scheduled."""
        for hearer in self._hearers:
            hearer.scheduled()

    def cancel_asked(self) -> None:
        """Say that somebody asked for a cancel."""
        for hearer in self._hearers:
            hearer.cancel_asked()
