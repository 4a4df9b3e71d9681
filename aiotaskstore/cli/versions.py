"""`--version`, with `--json` also the versions of all that a bug report should name."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from aiotaskstore.cli.formatting import as_json

_PACKAGES = (
    "aiosqlite", "asyncpg", "aiomysql", "asyncmy", "psycopg", "SQLAlchemy", "pydantic", "anyio", "click", "croniter",
    "uvloop", "rich",
)  # fmt: skip
AS_JSON = "aiotaskstore.cli.versions.as_json"
"""Where the context keeps whether `--json` was given, which is read after `--version`."""


def print_versions(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    """Print the versions, and end."""
    if not wanted or context.resilient_parsing:
        return
    ours = _installed("aiotaskstore") or "unknown"
    click.echo(as_json(_all(ours)) if context.meta.get(AS_JSON) else f"aiotaskstore {ours}")
    context.exit()


def _all(ours: str) -> dict[str, Any]:
    return {
        "aiotaskstore": ours,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _installed(name) for name in _PACKAGES},
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
