"""The oldest SQLite that is supported, built from its sources: Python takes it in place of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import npm
from tests.servers.cache import CACHE, filling
from tests.servers.errors import EngineMissingError, InstallError, advice

VERSION = "3.35.2"

_NPM = ("better-sqlite3", "7.4.0")
_NPM_SHA512 = "hXwwaFvtYwRfjBSGP6+woB95qbwSnfpXyy/kDFzgOMoDttzyaWsBGcU3FGuRbzhbRv0qpKRCJQ6Hru2pQ8adxg=="
"""A package that has SQLite's sources in it."""

_FEATURES = ("JSON1", "DESERIALIZE", "COLUMN_METADATA")
"""What later versions have without being asked; DESERIALIZE is what Python's own module asks for."""

_ADVICE = """\
    a C compiler:    Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc
    Python:          one whose sqlite3 module loads libsqlite3.so.0, as Debian's and pyenv's do
    one built:       AIOTASKSTORE_TEST_SQLITE_OLDEST=<path of a libsqlite3.so.0 of that version>"""


def oldest(python: str) -> dict[str, str]:
    """Return the variables that make a Python use the oldest SQLite, after making sure that they do."""
    tried: list[str] = []
    library = Path(os.environ.get("AIOTASKSTORE_TEST_SQLITE_OLDEST") or CACHE / "sqlite-oldest" / "libsqlite3.so.0")
    if not library.exists():
        try:
            _build(library)
        except InstallError as error:
            tried.append(str(error))
    variables = {"LD_PRELOAD": str(library)}
    if library.exists():
        probe = [python, "-c", "import sqlite3; print(sqlite3.sqlite_version)"]
        found = subprocess.run(probe, env=os.environ | variables, capture_output=True, text=True, check=False)
        if found.stdout.strip() == VERSION:
            return variables
        tried.append(f"{python} with {library}: {found.stdout.strip() or found.stderr.strip()}")
    raise EngineMissingError(advice(f"SQLite {VERSION}", tried, _ADVICE))


def _build(library: Path) -> None:
    if library.parent.parent != CACHE:
        raise InstallError(f"{library} does not exist")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        raise InstallError("no C compiler" if compiler is None else f"cannot be preloaded on {sys.platform}")
    with filling(library.parent.name) as folder:
        npm.unpack(folder, *_NPM, sha512=_NPM_SHA512)
        shutil.unpack_archive(folder / "package" / "deps" / "sqlite3.tar.gz", folder)
        command = [
            *(compiler, "-O1", "-shared", "-fPIC", "-Wl,-soname,libsqlite3.so.0", "-o", library.name),
            *(f"-DSQLITE_ENABLE_{feature}" for feature in _FEATURES),
            *("sqlite3.c", "-lpthread", "-ldl", "-lm"),
        ]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise InstallError(f"{compiler}: {built.stderr.strip()}")
