"""What a diagnosis looks at on SQLite: the file, where it lies, and whether its locks work."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiotaskstore.finding import Finding, ok, problem, warning
from aiotaskstore.storage import judging
from aiotaskstore.storage.check import Check

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

_REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs", "virtiofs")
"""How the kinds of file systems begin on which the locks of one machine may be unknown to another."""
_LARGE_WAL = 256e6
"""Bytes from which on the write-ahead log is too large: a reader keeps SQLite from taking it over."""
_MOSTLY_FREE, _LARGE = 0.5, 100e6
"""The share and the bytes of a file from which on it is worth making smaller."""
_DISK_LEFT = 100e6
"""Bytes of free disk below which the next writes may fail."""
_PATIENCE = 2.0
"""Seconds to wait for the write lock."""
_TAKE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError:
    print("refused")
else:
    connection.execute("ROLLBACK")
    print("taken")
"""


def checks(database: Database, path: str, *, in_memory: bool) -> list[Check]:
    """Return what there is to look at; of a database in memory there is only the version."""
    version = Check("server", partial(_version))
    if in_memory:
        return [version]
    return [
        version,
        Check("file", partial(_in_thread, partial(_file, path))),
        Check("disk", partial(_in_thread, partial(_disk, path))),
        Check("journal", partial(_journal, database, path)),
        Check("locking", partial(_in_thread, partial(_locking, path)), needs_tables=True),
        Check("tables", partial(_free_pages, database)),
    ]


async def _in_thread(look: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    return await asyncio.to_thread(look)


async def _version() -> list[Finding]:
    return [judging.judge_version(f"SQLite {sqlite3.sqlite_version}", works=(3, 35), proven=(3, 35))]


def _file(path: str) -> list[Finding]:
    file = Path(path).absolute()
    for what, needed in ((file, "written"), (file.parent, "written to, for the files beside it")):
        if not os.access(what, os.W_OK):
            return [
                problem(
                    "file",
                    f"{what} may not be {needed}, by this user.",
                    f"Give this user the right to write to {what}.",
                )
            ]
    return [ok("file", f"{file} may be read and written.")]


def _disk(path: str) -> list[Finding]:
    file = Path(path).absolute()
    found = []
    left = shutil.disk_usage(file.parent).free
    if left < _DISK_LEFT:
        found.append(
            problem("disk", f"Only {left / 1e6:,.0f} MB of the disk are left.", "Make room, or move the file.")
        )
    kind = _file_system(file)
    if kind.startswith(_REMOTE):
        found.append(
            problem(
                "disk",
                f"The file lies on {kind}, a file system shared between machines, where SQLite's locks do not hold.",
                "Move it to a local disk, or use PostgreSQL, MySQL or MariaDB for several machines.",
            )
        )
    return found or [ok("disk", f"The file lies on a local file system ({kind or 'kind unknown'}), with room left.")]


def _file_system(file: Path) -> str:
    """Return the kind of the file system that a file lies on, as Linux names it; nothing where that is unknown."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    resolved, best = file.resolve(), ("", "")
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode().decode("unicode_escape")
        if resolved.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, after.split(" ")[0])
    return best[1]


async def _journal(database: Database, path: str) -> list[Finding]:
    mode = str((await database.rows("journal_mode"))[0][0])
    if mode != "wal":
        return [
            warning(
                "journal",
                f"The journal mode is {mode}, not WAL: readers and writers keep each other waiting.",
                "A store that opens the file switches to WAL; if it stays so, the file system does not allow it. Move "
                "the file to a local disk.",
            )
        ]
    size = await asyncio.to_thread(_size, f"{path}-wal")
    if size < _LARGE_WAL:
        return [ok("journal", f"The journal mode is WAL, its log has {size / 1e6:,.1f} MB.")]
    return [
        warning(
            "journal",
            f"The write-ahead log has {size / 1e6:,.0f} MB: a transaction that only reads is open for long, and SQLite "
            "cannot take the log over.",
            "End the process or the transaction that reads, then: PRAGMA wal_checkpoint(TRUNCATE);",
        )
    ]


def _size(path: str) -> int:
    file = Path(path)
    return file.stat().st_size if file.exists() else 0


def _locking(path: str) -> list[Finding]:
    """Hold the write lock for a moment, and have another process try to take it."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)) as holder:
        try:
            holder.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return [
                warning(
                    "locking",
                    f"Nobody else could write for {_PATIENCE:g} s ({error}): somebody keeps a transaction open.",
                    "Find the process that has the file open (lsof, fuser), and have it commit sooner.",
                )
            ]
        tried = subprocess.run(  # noqa: S603 - this Python, and a text of ours
            [sys.executable, "-I", "-S", "-c", _TAKE_LOCK, path],
            capture_output=True, text=True, timeout=_PATIENCE * 2, check=False,
        )  # fmt: skip
        holder.execute("ROLLBACK")
    outcome = tried.stdout.strip()
    if outcome == "taken":
        return [
            problem(
                "locking",
                "Another process could write while the write lock was held: the file would be damaged.",
                "Move the file to a local disk, or use PostgreSQL, MySQL or MariaDB.",
            )
        ]
    if outcome != "refused":
        return [
            warning(
                "locking",
                f"Whether the write lock keeps other processes out could not be tried: {sys.executable} ended with "
                f"{tried.returncode}. {tried.stderr.strip():.200}",
                "Diagnose from a program that an ordinary Python interpreter runs.",
            )
        ]
    return [ok("locking", "The write lock keeps other processes out.")]


async def _free_pages(database: Database) -> list[Finding]:
    size, pages, free = [int((await database.rows(name))[0][0]) for name in ("page_size", "page_count", "free_pages")]
    whole = size * pages
    if whole < _LARGE or free < pages * _MOSTLY_FREE:
        return [ok("tables", f"{whole / 1e6:,.1f} MB, of which {size * free / 1e6:,.1f} MB are free.")]
    return [
        warning(
            "tables",
            f"Of the file's {whole / 1e6:,.0f} MB, {size * free / 1e6:,.0f} MB are free pages, left by deleted tasks.",
            "They are used again. To make the file smaller: VACUUM; while no worker runs.",
        )
    ]
