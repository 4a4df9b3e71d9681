"""Dialing a server: names are looked up outside the event loop's threads, and each address is tried."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiotaskstore import DatabaseUnavailableError
from aiotaskstore.storage.dialer import Dialer
from aiotaskstore.storage.mysql.connections import MySQLConnector
from aiotaskstore.storage.name_lookup import addresses_of
from aiotaskstore.storage.pool import Connector
from aiotaskstore.storage.postgresql.connections import PostgresConnector


def connector(kind: str, host: str, port: int) -> Connector[Any]:
    if kind == "postgresql":
        return PostgresConnector(f"postgresql://ada:secret@{host}:{port}/tasks")
    options = {"host": host, "port": port, "user": "ada", "password": "secret", "db": "tasks"}
    return MySQLConnector(lambda: dict(options))


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@asynccontextmanager
async def server(answer: bytes = b"", *, hangs_up: bool = False, more: int = -1) -> AsyncIterator[int]:
    """Take connections, say this once something is heard, and hang up once so many more bytes are (or at the end)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not hangs_up:
                await reader.read(8)
                writer.write(answer)
                await reader.read(more)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def test_an_address_is_not_looked_up_and_a_name_is():
    assert await addresses_of("127.0.0.1") == ["127.0.0.1"]
    assert await addresses_of("::1") == ["::1"]
    assert "127.0.0.1" in await addresses_of("localhost")


async def test_each_address_of_a_name_is_dialed_until_one_accepts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "getaddrinfo", _answer("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    dialed: list[str] = []

    async def connect(address: str) -> str:
        dialed.append(address)
        if address != "192.0.2.2":
            raise ConnectionRefusedError(111, "Connect call failed")
        return address

    assert await Dialer().dial_host("db", 5432, connect) == "192.0.2.2"
    assert dialed == ["192.0.2.1", "192.0.2.2"]


async def test_each_address_that_failed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "getaddrinfo", _answer("192.0.2.1", "2001:db8::1"))
    dialer = Dialer()

    async def connect(address: str) -> None:
        raise ConnectionRefusedError(111, "no") if ":" in address else OSError(113, "No route to host")

    with pytest.raises(ConnectionRefusedError) as caught:
        await dialer.dial_host("db", 5432, connect)
    said = dialer.explain(caught.value)
    assert said.startswith("db:5432 (192.0.2.1): No route to host; nothing listens at db:5432 (2001:db8::1). Look ")


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_who_cannot_be_reached_is_named_with_what_to_do_and_without_the_password(kind: str, nowhere: int):
    with pytest.raises(DatabaseUnavailableError) as caught:
        await connector(kind, "127.0.0.1", nowhere).connect()
    assert f"cannot be reached: nothing listens at 127.0.0.1:{nowhere}. Look whether the server" in str(caught.value)
    with pytest.raises(DatabaseUnavailableError) as caught:
        await connector(kind, "nowhere.invalid", nowhere).connect()
    assert 'the host name "nowhere.invalid" leads nowhere' in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_who_does_not_answer_is_named(kind: str, monkeypatch: pytest.MonkeyPatch):
    for module in ("postgresql", "mysql"):
        monkeypatch.setattr(f"aiotaskstore.storage.{module}.connections.CONNECT", 0.2)
    monkeypatch.setattr("aiotaskstore.storage.dialer.addresses_of", _known)  # a look-up may take longer than that
    async with server() as port:
        with pytest.raises(DatabaseUnavailableError) as caught:
            await connector(kind, "localhost", port).connect()
    assert f"cannot be reached: localhost:{port} (127.0.0.1) does not answer. Look whether" in str(caught.value)


async def test_a_socket_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatabaseUnavailableError, match=rf"nothing listens at {tmp_path}/\.s\.PGSQL\.5432"):
        await PostgresConnector(f"postgresql://ada@/tasks?host={tmp_path}").connect()
    options = {"unix_socket": f"{tmp_path}/my.sock"}
    with pytest.raises(DatabaseUnavailableError, match=rf"nothing listens at {tmp_path}/my\.sock"):
        await MySQLConnector(lambda: dict(options)).connect()


async def test_tls_to_postgresql_verifies_the_name(monkeypatch: pytest.MonkeyPatch):
    asked = _record_names(monkeypatch)
    async with server(b"S", more=1) as port:
        for negotiation in ("postgres", "direct"):
            url = f"postgresql://ada@localhost:{port}/tasks?sslmode=require&sslnegotiation={negotiation}"
            with pytest.raises(DatabaseUnavailableError):
                await PostgresConnector(url).connect()
    assert asked == ["localhost", "localhost"]


async def test_a_connect_that_is_given_up_leaves_nothing_for_the_event_loop_to_complain_of():
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    for hangs_up in (False, True):
        async with server(hangs_up=hangs_up) as port:
            for turns in range(30):
                connecting = asyncio.ensure_future(connector("postgresql", "127.0.0.1", port).connect())  # noqa: TID251
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                await asyncio.wait([connecting])
                if not connecting.cancelled():
                    assert isinstance(connecting.exception(), DatabaseUnavailableError)
                for _ in range(5):
                    await asyncio.sleep(0)
                del connecting
                gc.collect()
    assert said == []


async def _known(_host: str) -> list[str]:
    return ["127.0.0.1"]


def _answer(*addresses: str) -> Any:
    return lambda *_args, **_options: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses]


def _record_names(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Note for which names TLS is begun."""
    asked: list[str | None] = []
    wrap = ssl.SSLContext.wrap_bio

    def wrap_bio(*args: Any, **options: Any) -> Any:
        asked.append(options.get("server_hostname"))
        return wrap(*args, **options)

    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", wrap_bio)
    return asked
