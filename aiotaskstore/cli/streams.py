"""Standard streams that are closed, full, or read by nobody any more."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


def discard(stream: TextIO) -> None:
    """Lead a stream nowhere, or what is left in its buffer would fail once more when Python exits, with code 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def keep_streams_apart() -> None:
    """Occupy standard streams that are closed, or the next file or socket that is opened would pass for one."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
