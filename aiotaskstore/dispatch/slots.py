"""The slots of each queue: how many of its tasks may run at once in this dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Slots:
    """The slots of each queue, and how many of them are free."""

    def __init__(self, limits: Mapping[str, int], default: int) -> None:
        self._limits = dict(limits)
        self._default = default
        self._taken: dict[str, int] = {}
        self.freed: Callable[[str], None] = lambda _queue: None
        """Called when a slot of a queue is free again."""

    def free(self, queue: str) -> int:
        """Return how many tasks of this queue may be claimed now."""
        return self._limits.get(queue, self._default) - self._taken.get(queue, 0)

    @property
    def in_use(self) -> dict[str, int]:
        """How many slots of each queue are taken; callable from any thread."""
        return dict(self._taken)

    def take(self, queue: str) -> None:
        """Use a slot."""
        self._taken[queue] = self._taken.get(queue, 0) + 1

    def release(self, queue: str) -> None:
        """Free a slot."""
        self._taken[queue] -= 1
        self.freed(queue)
