"""How streams hear of the signal that stops their server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from aiotaskstore.integrations.server_stop import ServerStop
from tests.helpers import eventually


@pytest.fixture
def received() -> Iterator[list[int]]:
    """What a server's own handler of SIGTERM has received."""
    numbers: list[int] = []

    def receive(number: int, _frame: Any) -> None:
        numbers.append(number)

    before = signal.signal(signal.SIGTERM, receive)
    yield numbers
    now = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert now is receive


async def test_streams_of_several_routers_that_take_turns_put_one_handler_before_the_servers(received: list[int]):
    one, other = ServerStop(), ServerStop()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(one.listening())
        for _ in range(2_000):  # more than the interpreter lets calls nest
            second.enter_context(other.listening())
            first.close()
            first.enter_context(one.listening())
            second.close()
        second.enter_context(other.listening())
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: one.begun and other.begun)
    assert received == [signal.SIGTERM]


async def test_a_wait_ends_when_the_server_is_to_stop(received: list[int]):
    stop = ServerStop()
    with stop.listening():
        with pytest.raises(TimeoutError):
            async with stop.limited(3600):
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda: False)
        assert stop.begun
