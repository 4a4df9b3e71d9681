"""Makes findings of facts about a server, the same for every dialect."""

from __future__ import annotations

import re

from aiotaskstore.finding import Finding, ok, problem, warning

Version = tuple[int, ...]

LONG_TRANSACTION = 60.0
"""Seconds from which on an open transaction is a warning, since dead rows pile up behind it."""
_NEARLY_ALL = 0.8
"""The share of a server's connections from which on few are left."""


def judge_version(name: str, *, works: Version, proven: Version) -> Finding:
    """Judge the name and version of a server, such as `MariaDB 10.11.6`.

    It must be at least `works`; from `proven` on, the tests of this library run on it.
    """
    number = re.search(r"\d+(\.\d+)*", name)
    found = tuple(map(int, number[0].split("."))) if number else ()
    if found >= proven:
        return ok("server", f"{name}.")
    if found >= works:
        return warning(
            "server",
            f"{name} is older than {_dotted(proven)}, the oldest that this library is tested on.",
            f"Upgrade to {_dotted(proven)} or newer when you can.",
        )
    return problem(
        "server", f"{name} is older than {_dotted(works)}, and cannot work.", f"Upgrade to {_dotted(proven)} or newer."
    )


def judge_connections(*, used: int, most: int, dispatchers: int, each: int) -> Finding:
    """Judge a server's `max_connections`; each dispatcher's store may open so many."""
    found = f"{used} of {most} connections are in use"
    if used >= most * _NEARLY_ALL:
        return warning(
            "connections",
            f"{found}; when none is left, workers and callers cannot connect.",
            "Raise max_connections, or lower pool_size, the number of processes, or the pools of other applications.",
        )
    wanted = dispatchers * each
    if wanted > most:
        return warning(
            "connections",
            f"{found}, but {dispatchers} dispatchers may open {wanted} if their stores are made like this one.",
            "Raise max_connections, lower pool_size, or put a pooler before the server.",
        )
    return ok("connections", f"{found}; {dispatchers} dispatchers may open {wanted}.")


def judge_locking(*, skips: bool) -> Finding:
    """Judge whether SKIP LOCKED works."""
    if skips:
        return ok("locking", "SKIP LOCKED skips the rows that another connection has locked.")
    return warning(
        "locking",
        "SKIP LOCKED does not work on this server: dispatchers compete for the same tasks, which is slower.",
        "Use a server that locks rows as PostgreSQL, MySQL and MariaDB do.",
    )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
