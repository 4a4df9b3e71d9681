"""Reads the .sql files and compiles each named statement for one driver.

A file holds statements under `-- name: …` lines and column lists under `-- list: …` lines. A dialect's file is
read after `shared.sql` and overrides by name. Parameters are written `:name`. Three forms are reserved:

- `:now` is the database's own clock (under a test clock, a parameter);
- `:later(x)` is x seconds after now, where x is a parameter or a column;
- `{name}` is a column list.

Table names are written with the default prefix, so that every text runs by hand; another prefix or schema is
put in when the statement is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files

from aiotaskstore.errors import ConfigurationError

DEFAULT_PREFIX = "aiotaskstore_"
TABLES = (
    "tasks", "ready", "history", "task_keys", "task_errors", "task_progress", "task_details",
    "definitions", "dispatchers", "migrations",
)  # fmt: skip

_TABLE = re.compile(rf"{DEFAULT_PREFIX}(?:{'|'.join(TABLES)})\b")
_NAMED = re.compile(r"^-- (name|list): (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"'(?:[^']|'')*'|::|:([a-z_]+)")
_LATER = re.compile(r":later\(([^()]+)\)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One named text, cut at its parameters: `pieces` has one more entry than `names`."""

    name: str
    pieces: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a dialect says what every dialect says differently."""

    now: str | None
    """The database's clock; `None` under a test clock, whose instants are parameters of type `instant`."""
    later: Callable[[str], str]
    """Seconds after `:now`."""
    instant: str = ""
    """What casts a parameter to an instant, where the database must be told."""


@dataclass(frozen=True)
class Naming:
    """Which tables are ours: a prefix for each name and, on PostgreSQL, a schema."""

    prefix: str = DEFAULT_PREFIX
    schema: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.prefix, str) and re.fullmatch(r"[a-z_][a-z0-9_]{0,29}", self.prefix)):
            raise ConfigurationError(
                "A table prefix is lower-case letters, digits and _, at most 30, not starting with a digit; "
                f"{self.prefix!r} is not."
            )
        if self.schema is not None and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", str(self.schema)):
            raise ConfigurationError(
                f"A schema name is lower-case letters, digits and _, not starting with a digit; {self.schema!r} is not."
            )

    def apply(self, sql: str) -> str:
        """Write our names into a text that carries the default ones."""
        qualifier = f"{self.schema}." if self.schema else ""
        sql = _TABLE.sub(lambda match: qualifier + match[0], sql) if qualifier else sql
        return sql.replace(DEFAULT_PREFIX, self.prefix)

    @cached_property
    def key(self) -> str:
        """What tells this installation from another one in the same database."""
        return f"{self.schema or ''}.{self.prefix}"


@dataclass
class Statements:
    """A dialect's statements by name, compiled on first use."""

    dialect: str
    naming: Naming
    spelling: Spelling
    _compiled: dict[str, Statement] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Statement:
        statement = self._compiled.get(name)
        if statement is None:
            statement = self._compiled[name] = self.compile(name, self.texts[name])
        return statement

    @cached_property
    def lists(self) -> dict[str, str]:
        """Every column list."""
        return read("shared")[1] | read(self.dialect)[1]

    @cached_property
    def texts(self) -> dict[str, str]:
        """Every statement's text, with the column lists put in."""
        texts = read("shared")[0] | read(self.dialect)[0]
        return {name: _fill(text, self.lists) for name, text in texts.items()}

    def compile(self, name: str, text: str) -> Statement:
        """Cut one text at its parameters, with our names and this dialect's clock in it."""
        text = self.naming.apply(text)
        text = _LATER.sub(lambda match: self.spelling.later(match[1]), text)
        pieces, names, at = [""], [], 0
        for match in _PARAMETER.finditer(text):
            pieces[-1] += text[at : match.start()]
            at = match.end()
            name_found = match[1]
            if name_found is None:
                pieces[-1] += match[0]
            elif name_found == "now" and self.spelling.now:
                pieces[-1] += self.spelling.now
            elif name_found == "now":
                names.append(name_found)
                pieces.append(self.spelling.instant)
            else:
                names.append(name_found)
                pieces.append("")
        pieces[-1] += text[at:]
        return Statement(name, tuple(pieces), tuple(names))


@cache
def read(source: str) -> tuple[dict[str, str], dict[str, str]]:
    """Read one .sql file: its statements and its column lists, comments dropped."""
    content = files("aiotaskstore.storage").joinpath("sql", f"{source}.sql").read_text("utf-8")
    found: dict[str, dict[str, str]] = {"name": {}, "list": {}}
    heads = list(_NAMED.finditer(content))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = content[head.end() : following.start() if following else None]
        if head[2] in found[head[1]]:
            raise AssertionError(f"{source}.sql defines {head[2]} twice")
        found[head[1]][head[2]] = re.sub(r"^\s*--.*$\n?", "", body, flags=re.MULTILINE).strip().rstrip(";")
    return found["name"], found["list"]


def _fill(text: str, lists: dict[str, str]) -> str:
    """Put column lists in: `{task}` as it stands, `{t.task}` with an alias before every column."""

    def columns(match: re.Match[str]) -> str:
        alias, _, name = match[1].rpartition(".")
        if not alias:
            return lists[name]
        return ", ".join(f"{alias}.{column.strip()}" for column in lists[name].split(","))

    return re.sub(r"\{([\w.]+)\}", columns, text)
