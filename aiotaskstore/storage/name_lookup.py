"""Looks up the addresses of a host name, in a thread of our own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future


async def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host; an address is returned as it is. Raises `OSError` if the name is unknown.

    The event loop would look a name up in its default executor, every thread of which handlers may be keeping busy:
    then no new connection could be opened, not even for a heartbeat.
    """
    if _is_address(host):
        return [host]
    addresses: Future[list[str]] = Future()
    addresses.set_running_or_notify_cancel()  # so that the thread may still set a result after a cancellation
    # A thread for each lookup, which ends with it: connections are opened seldom, and a name server may hang.
    threading.Thread(target=_look_up, args=(host, addresses), name="aiotaskstore-names", daemon=True).start()
    return await asyncio.wrap_future(addresses)


def _look_up(host: str, addresses: Future[list[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses.set_result(list(dict.fromkeys(str(one[4][0]) for one in found)))
    except Exception as error:  # noqa: BLE001 - raised where the result is awaited
        addresses.set_exception(error)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
