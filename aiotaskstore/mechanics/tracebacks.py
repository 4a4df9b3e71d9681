"""Shortens an exception's traceback: the application's frames only, and of those the first and the last."""

from __future__ import annotations

from pathlib import Path
from traceback import TracebackException
from types import TracebackType

import anyio

from aiotaskstore.mechanics.text import printable

LIMIT = 4_000
"""Bytes that a traceback's text may have."""
_UNLIMITED = 10**9
_CUT = "\n  … {} lines left out …\n"
_PACKAGES = (Path(__file__).parents[1], Path(anyio.__file__).parent)
_OURS = tuple(f"{package}{separator}" for package in _PACKAGES for separator in "/\\")


def shortened(error: BaseException) -> str:
    """Return the traceback of an exception and its causes, shortened; never fails."""
    try:
        summary = TracebackException(type(error), error, theirs(error.__traceback__), compact=True)
        text = "".join(summary.format())
    except Exception:  # noqa: BLE001 - an exception that cannot be formatted must not lose the attempt's outcome
        return ""
    return _cut(printable(text, limit=_UNLIMITED).rstrip())


def theirs(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without its first frames, by which we called the handler."""
    ours = trace
    while ours is not None and ours.tb_frame.f_code.co_filename.startswith(_OURS):
        ours = ours.tb_next
    return ours


def _cut(text: str) -> str:
    """Keep the first quarter and the rest from the end, in whole lines where lines are short."""
    raw = text.encode()
    if len(raw) <= LIMIT:
        return text
    room = LIMIT - len(_CUT.encode()) - 10
    head = raw[: room // 4].decode(errors="ignore")
    tail = raw[-(room - room // 4) :].decode(errors="ignore")
    head = head[: head.rfind("\n")] if "\n" in head else head
    tail = tail[tail.find("\n") + 1 :] if "\n" in tail else tail
    lines = text.count("\n") - head.count("\n") - tail.count("\n") - 1
    return head + _CUT.format(max(lines, 1)) + tail
