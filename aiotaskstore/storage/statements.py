"""Reads the .sql files and compiles each named statement for one dialect.

A file holds statements under `-- name: …` lines and lists under `-- list: …` lines; comments are dropped. A dialect's
file is read after `shared.sql`, and replaces what has the same name. A statement may contain:

- `:name`, a parameter. What stands in quotes, and PostgreSQL's `::`, is left alone.
- `:now`, the database's own clock (under a test clock, and on SQLite, a parameter), and `:later(x)`, x seconds after
  it, where x is a parameter or a column; `:heartbeat_now` and `:heartbeat_later(x)` in what tells whether a dispatcher
  lives: a test that moves the clock must not make a live one look dead.
- `IN :name`, where the parameter is a list of any length: `= ANY($n)` on PostgreSQL, every value in the text on
  MySQL; on SQLite a `?` for each value of a short list, and one value that is unpacked for a long one.
- `:rows`, the rows of a batch: on MySQL one JSON document (where a call brings `ids`, those), on SQLite what follows
  VALUES. PostgreSQL takes a batch as an array for each column, `:name::type[]`. MySQL's `:pairs` is a document too.
- `{name}`, the list of that name, or another text that is written once; `{t.name}` puts `t.` before each column of it,
  and `{name(x)}` puts x where the text has `{given}`.

Table names are written with the default prefix, so that every text runs by hand; another prefix or schema is put in
when the statement is compiled. `python -m aiotaskstore.storage NAME` prints a statement as it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files

from aiotaskstore.storage.table_names import TableNames

_NAMED = re.compile(r"^-- (name|list): (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"'(?:[^']|'')*'|::|:([a-z_]+)")
_LATER = re.compile(r":(heartbeat_)?later\(([^()]+)\)")

INSTANTS = frozenset({"now", "heartbeat_now"})
"""The names that stand for the present instant."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One named text, split at its parameters: `pieces` has one more entry than `names`."""

    name: str
    pieces: tuple[str, ...]
    names: tuple[str, ...]
    instants: tuple[str, ...] = ()
    """Those of them that stand for the present instant."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """The SQL that a dialect writes for `:now` and `:later(x)`."""

    now: str | None
    """The database's clock. `None` where the instant is a parameter, of type `instant`: under a test clock, and on
    SQLite."""
    later: Callable[[str], str]
    """Returns the SQL for an instant that lies so many seconds after `:now`."""
    instant: str = ""
    """The cast from a parameter to an instant, where the database needs one."""


@dataclass
class Statements:
    """A dialect's statements by name, compiled on first use."""

    dialect: str
    table_names: TableNames
    syntax: Syntax
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
        """Split one text at its parameters, with our table names and this dialect's clock written into it."""
        text = self.table_names.apply(text)
        text = _LATER.sub(lambda match: self.syntax.later(match[2]).replace(":now", f":{match[1] or ''}now"), text)
        pieces, names, at = [""], [], 0
        for match in _PARAMETER.finditer(text):
            pieces[-1] += text[at : match.start()]
            at = match.end()
            name_found = match[1]
            if name_found is None:
                pieces[-1] += match[0]
            elif name_found in INSTANTS and self.syntax.now:
                pieces[-1] += self.syntax.now
            elif name_found in INSTANTS:
                names.append(name_found)
                pieces.append(self.syntax.instant)
            else:
                names.append(name_found)
                pieces.append("")
        pieces[-1] += text[at:]
        return Statement(name, tuple(pieces), tuple(names), tuple(INSTANTS.intersection(names)))


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
    """Put lists in: `{kept}` as it stands, `{t.kept}` with an alias before every column, `{placed(x)}` with x in it."""

    def filled(match: re.Match[str]) -> str:
        alias, _, name = match[1].rpartition(".")
        if not alias:
            return _fill(lists[name], lists | {"given": match[2] or ""})
        return ", ".join(f"{alias}.{column.strip()}" for column in lists[name].split(","))

    return re.sub(r"\{([\w.]+)(?:\(([^{}]*)\))?\}", filled, text)
