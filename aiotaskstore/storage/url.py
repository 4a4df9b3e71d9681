"""Reads database URLs, SQLAlchemy's `+driver` forms included."""

from __future__ import annotations

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
_EXAMPLES = "postgresql://user@host/name, mysql://user@host/name, sqlite:///tasks.db or sqlite:// (memory)"


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A database's address; `repr` and `str` never show the password."""

    dialect: str
    text: str
    """The URL as a driver takes it, without `+driver`."""

    def __str__(self) -> str:
        parts = urlsplit(self.text)
        if parts.password is None:
            return self.text
        where = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{where}"))

    __repr__ = __str__

    @property
    def path(self) -> str:
        """What SQLite opens: a file's path, or ":memory:"."""
        path = unquote(urlsplit(self.text).path)
        return path.removeprefix("/") or ":memory:"

    @property
    def query(self) -> dict[str, str]:
        """The options behind the question mark."""
        return dict(parse_qsl(urlsplit(self.text).query, keep_blank_values=True))


def parse_url(text: str) -> DatabaseURL:
    """Read a URL; what cannot be one of ours is a `ConfigurationError` that shows how one looks."""
    scheme, separator, rest = text.partition("://")
    name, _, driver = scheme.lower().partition("+")
    dialect = _DIALECTS.get(name)
    if not separator or dialect is None:
        shown = f'"{scheme}://"' if separator else "no scheme"
        raise ConfigurationError(f"A database URL has {shown}, which is not one of ours. Write {_EXAMPLES}.")
    if driver not in _DRIVERS[dialect]:
        known = ", ".join(sorted(_DRIVERS[dialect] - {""}))
        raise ConfigurationError(f'No driver "{driver}" is known for {dialect}; take one of: {known}.')
    url = f"{name if dialect != 'mysql' else 'mysql'}://{rest}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"The database URL cannot be read: {error}. Write {_EXAMPLES}.") from error
    if dialect == "sqlite" and parts.netloc:
        raise ConfigurationError(
            f'A SQLite URL names no host, but this one has "{parts.netloc}". Write three slashes for a relative '
            "file (sqlite:///tasks.db) and four for an absolute one (sqlite:////var/lib/tasks.db)."
        )
    return DatabaseURL(dialect, url)
