"""Reads database URLs, SQLAlchemy's `+driver` forms included."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from aiotaskstore.errors import ConfigurationError

_DIALECTS = {
    "postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite",
}  # fmt: skip
_DRIVERS = {
    "postgresql": {"", "asyncpg"},
    "mysql": {"", "aiomysql", "asyncmy"},
    "sqlite": {"", "aiosqlite"},
}
_SECRET = re.compile(r"(?i)([?&][^=&]*passw[^=&]*=)[^&]*")
_EXAMPLES = "postgresql://user@host/name, mysql://user@host/name, sqlite:///tasks.db or sqlite:// (memory)"


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A database's address; `repr` and `str` never show the password."""

    dialect: str
    text: str
    """The URL in the form that drivers accept, without `+driver`."""

    def __str__(self) -> str:
        text = _SECRET.sub(r"\1***", self.text)
        parts = urlsplit(text)
        if parts.password is None:
            return text
        where = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{where}"))

    __repr__ = __str__

    @property
    def path(self) -> str:
        """The path that SQLite opens, or ":memory:"."""
        path = self.text.partition("://")[2].partition("?")[0]  # "#" is a character like any other in a file's name
        return unquote(path).removeprefix("/") or ":memory:"

    @property
    def query(self) -> dict[str, str]:
        """The options behind the question mark."""
        return dict(parse_qsl(self.text.partition("?")[2], keep_blank_values=True))


def parse_url(text: str) -> DatabaseURL:
    """Read a URL. Raises `ConfigurationError`, with examples, for a URL of no known form."""
    scheme, separator, rest = text.partition("://")
    name, _, driver = scheme.lower().partition("+")
    dialect = _DIALECTS.get(name)
    if not separator or dialect is None:
        shown = f'"{scheme}://", which is not one of ours' if separator else "no scheme"
        raise ConfigurationError(f"The database URL has {shown}. Write {_EXAMPLES}.")
    if driver not in _DRIVERS[dialect]:
        known = ", ".join(sorted(_DRIVERS[dialect] - {""}))
        raise ConfigurationError(f'No driver "{driver}" is known for {dialect}; take one of: {known}.')
    url = f"{name if dialect != 'mysql' else 'mysql'}://{rest}"
    where = rest.partition("?")[0].partition("/")[0]
    if dialect == "sqlite" and where:
        raise ConfigurationError(
            f'A SQLite URL names no host, but this one has "{where.rpartition("@")[2]}". Write three slashes for a '
            "relative file (sqlite:///tasks.db) and four for an absolute one (sqlite:////var/lib/tasks.db)."
        )
    if dialect != "sqlite":
        _check_address(url)
    found = DatabaseURL(dialect, url)
    if dialect == "mysql" and not urlsplit(url).path.strip("/"):
        raise ConfigurationError(f"The MySQL URL {found} names no database. Write mysql://user@host/name.")
    return found


def _check_address(url: str) -> None:
    """Raise `ConfigurationError` for a malformed address, such as a password with an unescaped @; never quote it."""
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:  # PostgreSQL's several hosts have a port each
            _ = parts.port
        readable = not parts.fragment and ("@" in parts.netloc or "@" not in url)
    except ValueError:
        readable = False
    if not readable:
        raise ConfigurationError(
            "The database URL cannot be read: its host or port is malformed, or its user or password holds a character "
            f"to percent-encode (/ as %2F, # as %23, ? as %3F, @ as %40, : as %3A). Write {_EXAMPLES}."
        )
