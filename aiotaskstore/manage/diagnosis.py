"""Diagnoses a database and what uses it: runs every check within its limit, and changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.finding import Finding, ok, problem, warning
from aiotaskstore.manage.work_checks import Declared, WorkChecks
from aiotaskstore.mechanics.duration import written
from aiotaskstore.storage import migrations
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.storage import Storage

_LIMIT = 10.0
"""Seconds that one check may take."""
_SLOW = 0.1
"""Seconds of a round trip from which on it decides how fast tasks go."""
_SKEW = 2.0
"""Seconds that a clock may differ from the database's."""
_MIGRATE = "Run `aiotaskstore migrate`, or open a store with migrate=True."


async def diagnose(storage: Storage, declared: Declared, connecting: float) -> list[Finding]:
    """Run every check, one after the other; `connecting` is how many seconds it took to open the storage.

    A check that fails, or takes too long, is a finding itself.
    """
    database = storage.database
    schema = await _found(Check("schema", partial(_schema, storage)))
    current = all(finding.severity == "ok" for finding in schema)
    first = [
        Check("connection", partial(_connection, storage, connecting)),
        Check("clock", partial(_clock, storage), needs_tables=database.kind == "sqlite"),
    ]
    found = list(schema)
    for check in [*first, *database.checks(), *WorkChecks(storage, declared).all()]:
        if current or not check.needs_tables:
            found += await _found(check)
    return found


def nothing_there(sentence: str) -> list[Finding]:
    """Return the one finding about a database that does not exist."""
    return [problem("schema", sentence, _MIGRATE)]


async def _found(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(_LIMIT):
            return await check.run()
    except TimeoutError:
        why = f"it took more than {_LIMIT:g} s"
    except TaskStoreError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - a fault in one check must not hide what the others find
        why = f"{type(error).__name__}: {error}"
    return [
        warning(
            check.name,
            f"This could not be looked at: {why}",
            "Give the store's user the right to see it, or look again when the database is less busy.",
        )
    ]


async def _schema(storage: Storage) -> list[Finding]:
    found, names = await migrations.version(storage.database), storage.database.table_names.described
    if found == migrations.LATEST:
        return [ok("schema", f"The tables have version {found}, which this library needs ({names}).")]
    if found is None:
        return [problem("schema", f"There are no tables here ({names}).", f"{_MIGRATE} Or name another prefix.")]
    if found < migrations.LATEST:
        return [
            problem("schema", f"The tables have version {found}, and this library needs {migrations.LATEST}.", _MIGRATE)
        ]
    return [
        problem(
            "schema",
            f"The tables have version {found}, which is newer than {migrations.LATEST}, the newest known here.",
            "Upgrade aiotaskstore here to the version of the processes that migrated the tables.",
        )
    ]


async def _connection(storage: Storage, connecting: float) -> list[Finding]:
    database = storage.database
    began = time.monotonic()
    await database.read(storage.tasks.now)
    took = time.monotonic() - began
    what = f"Connected in {written(connecting)} by {database.driver} {_installed(database.driver)}"
    found = f"{what}; a round trip takes {written(took)}."
    if took < _SLOW:
        return [ok("connection", found)]
    return [
        warning(
            "connection",
            found,
            "Claims, outcomes and enqueues wait for it: run workers near the database, or find out what keeps it busy.",
        )
    ]


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"


async def _clock(storage: Storage) -> list[Finding]:
    before = datetime.now(UTC)
    theirs = await storage.database.read(storage.tasks.now)
    after = datetime.now(UTC)
    apart = max(abs((theirs - before - (after - before) / 2).total_seconds()) - (after - before).total_seconds(), 0)
    if apart <= _SKEW:
        return [ok("clock", "This machine's clock agrees with the database's.")]
    side = "ahead of" if theirs < before else "behind"
    return [
        warning(
            "clock",
            f"This machine's clock is {written(apart)} {side} the database's, by which tasks become due.",
            "Keep the clocks of all machines by NTP.",
        )
    ]
