"""`store.run`: a dispatcher that runs until SIGTERM or SIGINT."""

from __future__ import annotations

import threading

from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.signals import escalating_signals


def check_main_thread() -> None:
    """Raise `ConfigurationError` outside the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "store.run() ends at a signal, which only the main thread receives. In another thread, write "
            "`async with store.dispatcher():` and leave the block when it is time to stop."
        )


async def run_until_signal(dispatcher: Dispatcher) -> bool:
    """Run the dispatcher until a signal; true if every run ended by itself.

    The first signal drains, the second cancels the runs.

    Raises the error that ended the dispatcher, if one of its loops ended.
    """

    def cancel() -> None:
        dispatcher.begin_stop()
        dispatcher.cancel_runs()

    with escalating_signals(dispatcher.begin_stop, cancel):
        try:
            await dispatcher.start()
            return await dispatcher.ended()
        finally:
            await dispatcher.stop()  # also if this task is cancelled
