"""How many more tasks each queue may run here."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Slots:
    """A semaphore for each queue, that can be asked how much it has left."""

    def __init__(self, limits: Mapping[str, int], default: int) -> None:
        self._limits = dict(limits)
        self._default = default
        self._taken: dict[str, int] = {}
        self.freed: Callable[[str], None] = lambda _queue: None
        """Hears that a slot of a queue is free again."""

    def free(self, queue: str) -> int:
        """How many tasks of this queue may be claimed now."""
        return self._limits.get(queue, self._default) - self._taken.get(queue, 0)

    def take(self, queue: str) -> None:
        """Use a slot."""
        self._taken[queue] = self._taken.get(queue, 0) + 1

    def release(self, queue: str) -> None:
        """Give a slot back."""
        self._taken[queue] -= 1
        self.freed(queue)
