"""The location of a store's tables: the database, their names, and the clock that they are told the time by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiotaskstore.mechanics.clock import SYSTEM_CLOCK, Clock
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import parse_url

if TYPE_CHECKING:
    from aiotaskstore.storage.storage import Storage


@dataclass(frozen=True)
class Location:
    """Where a store keeps its tables. Making one raises what is wrong with it, and touches no database."""

    target: str | Any
    """A URL, or a pool of the application."""
    table_names: TableNames
    pool_size: int
    listen_url: str | None
    clock: Clock = SYSTEM_CLOCK
    why_here: str = ""
    """For people: why the store is here, and not where the application has it."""

    def __post_init__(self) -> None:
        _ = self.kind

    @cached_property
    def kind(self) -> str:
        """The dialect's name."""
        from aiotaskstore.storage.connect import check_target  # noqa: PLC0415 - loads the dialect and its driver

        return check_target(self.target, self.table_names, self.listen_url)

    @property
    def one_writer(self) -> bool:
        """Whether a transaction keeps all others from writing."""
        return self.kind == "sqlite"

    @property
    def url(self) -> str | None:
        """The URL, its password hidden; `None` for a pool."""
        return str(parse_url(self.target)) if isinstance(self.target, str) else None

    @property
    def pool(self) -> Any:
        """The application's pool; `None` for a URL."""
        return None if isinstance(self.target, str) else self.target

    def connect(self) -> Storage:
        """Make an unopened storage."""
        from aiotaskstore.storage.connect import connect  # noqa: PLC0415 - the same

        storage = connect(
            self.target,
            table_names=self.table_names,
            clock=None if self.clock is SYSTEM_CLOCK else self.clock,
            pool_size=self.pool_size,
            listen_url=self.listen_url,
        )
        storage.database.why_here = self.why_here
        return storage
