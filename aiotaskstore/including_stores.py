"""The stores that include one definition, and which of them is used."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar
from weakref import ref

from aiotaskstore.errors import ConfigurationError


class IncludingStore(Protocol):
    """What choosing among stores needs of a store."""

    @property
    def payload_limit(self) -> int:
        """Bytes of JSON that a payload may have."""

    @property
    def is_open(self) -> bool:
        """Whether the store can store a task now."""


S = TypeVar("S", bound=IncludingStore)


class IncludingStores(Generic[S]):
    """The stores that include a definition and are still in use; weak references, so that none is kept alive."""

    def __init__(self) -> None:
        self._stores: list[ref[S]] = []

    def add(self, store: S) -> None:
        """Add a store; a store that is known already is not added again."""
        if store not in self._alive():
            self._stores.append(ref(store))

    def choose(self, alias: str) -> S:
        """Return the only store, or the open one of several.

        Raises `ConfigurationError` if no store includes the definition, or several that include it are open.
        """
        stores = self._alive()
        if not stores:
            raise ConfigurationError(
                f'The task "{alias}" is declared on a router that no store includes yet. '
                "Call store.include(router) first."
            )
        opened = [store for store in stores if store.is_open]
        if len(opened) > 1:
            raise ConfigurationError(
                f'The task "{alias}" is included in {len(opened)} open stores. '
                f'Say which: await store.enqueue("{alias}", {{…}}).'
            )
        return opened[0] if opened else stores[-1]

    def all(self) -> list[S]:
        """Return every store."""
        return self._alive()

    def likely(self) -> S | None:
        """Return the last store that is open, else the last one; `None` if no store includes the definition."""
        stores = self._alive()
        return next((one for one in reversed(stores) if one.is_open), stores[-1] if stores else None)

    @property
    def payload_limit(self) -> int:
        """The smallest limit among the stores, in bytes of JSON."""
        return min((store.payload_limit for store in self._alive()), default=2**31)

    def _alive(self) -> list[S]:
        return [store for one in self._stores if (store := one()) is not None]
