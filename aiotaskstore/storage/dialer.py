"""Connects to a server by its host name, and explains for people why that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiotaskstore.storage.name_lookup import addresses_of

T = TypeVar("T")

_ADVICE = (
    "Look whether the server runs there and whether a firewall lets us through, and whether the URL names the right "
    "host and port."
)


class Dialer:
    """The attempts to open one connection; it records which addresses failed and why."""

    def __init__(self) -> None:
        self._place = "the server"
        self._failed: dict[OSError, str] = {}

    async def dial_host(self, host: str, port: int, connect: Callable[[str], Awaitable[T]]) -> T:
        """Connect to the first address of the host that accepts; raises the `OSError` of the last address."""
        self._place = _at(host, port)
        try:
            addresses = await addresses_of(host)
        except OSError as error:
            self._failed[error] = f'the host name "{host}" leads nowhere ({error.strerror or error})'
            raise
        for address in addresses[:-1]:
            try:
                return await self._dial_address(host, port, address, connect)
            except OSError:
                continue
        return await self._dial_address(host, port, addresses[-1], connect)

    async def dial(self, place: str, connect: Callable[[], Awaitable[T]]) -> T:
        """Connect to one place whose name needs no lookup: a Unix socket or an address."""
        self._place = place
        try:
            return await connect()
        except OSError as error:
            self._failed[error] = _failure(place, error)
            raise

    def explain(self, error: OSError) -> str:
        """Return the places that were dialed, why each failed, and what to do about it."""
        if isinstance(error, TimeoutError) and error not in self._failed:
            failures = [*self._failed.values(), f"{self._place} does not answer"]
        elif error in self._failed:
            failures = list(self._failed.values())
        else:  # the connection was accepted, and failed after that
            return f"{self._place}: {error or type(error).__name__}"
        return f"{'; '.join(failures)}. {_ADVICE}"

    async def _dial_address(self, host: str, port: int, address: str, connect: Callable[[str], Awaitable[T]]) -> T:
        place = _at(host, port) if address == host else f"{_at(host, port)} ({address})"
        return await self.dial(place, lambda: connect(address))


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _failure(place: str, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"nothing listens at {place}"
    if isinstance(error, TimeoutError):
        return f"{place} does not answer"
    return f"{place}: {error.strerror or error or type(error).__name__}"
