"""A TCP proxy between a store and its database, that loses connections at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from aiotaskstore import TaskStore
from tests.helpers import eventually


class Cut(NamedTuple):
    """When to lose a connection: once the client has sent all of `after`, and then `at`."""

    at: bytes
    after: bytes = b""
    forward: bool = True
    """Whether the server still hears `at`, and acts on it, but its answer is lost; else it never does."""
    at_once: bool = False
    """Whether the client loses it before the server has acted; it acts all the same."""
    refuse: bool = False
    """Whether new connections are refused from then on."""


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.sent = bytearray()
        """What the client has sent."""
        self.cutting = False
        self.frozen = False
        """Nothing passes any more, in either direction, and neither side is told."""
        self.doomed = False
        """It breaks as soon as the client sends something, which the server never hears."""

    def close(self) -> None:
        self.client.transport.abort()
        self.server.close()  # in good order: what was written still arrives


class Proxy:
    """Passes everything on, but what it was told to lose."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.links: list[Link] = []
        self.cuts: list[Cut] = []
        self.done: list[Cut] = []
        """The cuts that were made."""
        self.refusing = False
        """Whether new connections are refused, as by a server that is away."""
        self.freezing = False
        """Whether new connections are frozen from their beginning."""
        self.refused = 0
        """How many were."""
        self.lag = 0.0
        """Seconds by which every answer comes later."""
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        """The same database, through the proxy."""
        port = self._server.sockets[0].getsockname()[1]
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{port}"))

    def freeze(self, chosen: Callable[[Link], bool]) -> int:
        """Let nothing pass any more on some of the links, and say nothing; gives how many."""
        found = [link for link in self.links if chosen(link)]
        for link in found:
            link.frozen = True
        return len(found)

    def freeze_all(self) -> int:
        """Freeze every link there is; new ones work."""
        return self.freeze(lambda _link: True)

    def doom_all(self) -> int:
        """Have every link there is break when it is next used; new ones work."""
        for link in self.links:
            link.doomed = True
        return len(self.links)

    def close(self) -> None:
        self._server.close()
        for link in self.links:
            link.close()

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", port)

    async def _pass(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.refused += 1
            client.transport.abort()
            return
        port = self._target.port or {"postgresql": 5432, "mysql": 3306}[self._target.scheme]
        try:
            answers, server = await asyncio.open_connection(self._target.hostname, port)
        except OSError:
            client.transport.abort()
            return
        link = Link(client, server)
        link.frozen = self.freezing
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(self._back(link, answers))
                await self._forth(link, reader)
                back.cancel()
        finally:
            link.close()
            self.links.remove(link)

    async def _forth(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if link.frozen:
                    continue
                if link.doomed:
                    return
                link.sent += data
                cut = self._due(link, data)
                if cut is not None and not cut.forward:
                    return
                link.cutting = cut is not None
                link.server.write(data)
                await link.server.drain()
                if cut is not None and cut.at_once:
                    return

    async def _back(self, link: Link, answers: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(65536):
                if link.cutting:
                    break
                if self.lag:
                    await asyncio.sleep(self.lag)
                if not link.frozen:
                    link.client.write(data)
                    await link.client.drain()
        link.close()

    def _due(self, link: Link, data: bytes) -> Cut | None:
        for cut in self.cuts:
            if cut.at in data and cut.after in link.sent:
                self.cuts.remove(cut)
                self.done.append(cut)
                self.refusing |= cut.refuse
                return cut
        return None


async def several_links(store: TaskStore, count: int) -> None:
    """Have so many connections in a store's pool."""
    all_of_them = asyncio.Barrier(count)

    async def use_one() -> None:
        async with store._require_open().storage.database.session():
            await all_of_them.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(use_one())


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Stand between a store and the server of this URL."""
    opened = Proxy(url)
    await opened.open()
    try:
        yield opened
    finally:
        opened.close()
        await eventually(lambda: not opened.links)
