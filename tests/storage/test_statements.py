"""The .sql files: what three dialects say differently must still be the same statement."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from aiotaskstore import ConfigurationError, storage
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.statements import TABLES, Naming, Statements, read

URLS = {"postgresql": "postgresql://nobody@nowhere/none", "mysql": "mysql://nobody@nowhere/none", "sqlite": "sqlite://"}
MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(storage.__path__, "aiotaskstore.storage.")
]
BY_CLAIM = {"claim", "promote"}
"""Statements whose dialects find the same rows in so different ways that their operation is written per dialect."""


def statements(dialect: str) -> Statements:
    return connect(URLS[dialect]).database.statements


def modules(dialect: str) -> list[ModuleType]:
    """The modules whose operations a dialect runs: its own, and those that are nobody's own."""
    others = set(URLS) - {dialect}
    return [module for module in MODULES if not others & set(module.__name__.split("."))]


def asked(module: ModuleType, kind: str) -> Iterator[tuple[str, ast.expr]]:
    """Find every `Call("name", params)` or `Batch("name", fields, …)` in a module's source."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value), node.args[1] if len(node.args) > 1 else ast.Dict([], [])


def mentioned(module: ModuleType) -> set[str]:
    """Every text constant in a module's source: statements are also named through variables."""
    tree = ast.walk(ast.parse(inspect.getsource(module)))
    return {node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def batches(dialect: str) -> dict[str, tuple[str, ...]]:
    """Give the fields of every batch that a dialect's operations make."""
    found = {}
    for module in modules(dialect):
        for name, fields in asked(module, "Batch"):
            code = compile(ast.Expression(fields), module.__name__, "eval")
            found[name] = tuple(eval(code, vars(module)))
    return found


def parameters(dialect: str, name: str) -> set[str]:
    """Name what a statement wants to be given, columns of a JSON batch counted one by one.

    A batch of nothing but ids is what other dialects take as a list.
    """
    text = statements(dialect).texts[name]
    named = set(statements(dialect)[name].names) - {"rows", "now"}
    columns = json_columns(text)
    return named | ({"ids"} if columns == [("id", 0)] else {column for column, _ in columns})


def json_columns(text: str) -> list[tuple[str, int]]:
    if listed := re.search(r"WITH d \(([\w\s,]+)\) AS \(VALUES :rows\)", text):  # SQLite's tables of values
        return [(name.strip(), at) for at, name in enumerate(listed[1].split(","))]
    return [(name, int(at)) for name, at in re.findall(r"(\w+) [A-Z]+(?:\(\d+\))? PATH '\$\[(\d+)\]'", text)]


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_that_exists_is_asked_for_somewhere(dialect: str):
    used = {text for module in modules(dialect) for text in mentioned(module)}
    assert set(read(dialect)[0]) <= used
    assert set(read("shared")[0]) <= used | {text for module in MODULES for text in mentioned(module)}


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_that_is_asked_for_exists(dialect: str):
    own = {name for module in modules(dialect) for kind in ("Call", "Batch") for name, _ in asked(module, kind)}
    replaced = {"claim", "promote", "finish"}  # asked for by operations that a dialect may write for itself
    assert own - set(statements(dialect).texts) <= replaced


@pytest.mark.parametrize("name", sorted({name for dialect in URLS for name in read(dialect)[0]} - BY_CLAIM))
def test_a_statement_takes_the_same_parameters_in_every_dialect_that_defines_it(name: str):
    wanted = {
        dialect: parameters(dialect, name) for dialect in URLS if name in read("shared")[0] or name in read(dialect)[0]
    }
    assert len({frozenset(names) for names in wanted.values()}) == 1, wanted


@pytest.mark.parametrize("dialect", URLS)
def test_a_batch_gives_every_column_that_its_statement_reads_and_in_that_order(dialect: str):
    for name, fields in batches(dialect).items():
        if name not in statements(dialect).texts:
            continue
        assert parameters(dialect, name) <= set(fields), name
        for column, at in json_columns(statements(dialect).texts[name]):
            assert fields[at] == column, f"{name} reads {column} at {at}, where the batch has {fields[at]}"


def test_the_column_lists_of_an_unfinished_and_a_finished_task_have_the_same_length():
    for dialect in URLS:
        lists = statements(dialect).lists
        assert lists["ended"].count(",") == lists["not_ended"].count(","), dialect


def test_a_dialect_reads_the_same_columns_in_the_same_order_as_the_others():
    def bare(text: str) -> list[str]:
        return [column.strip().partition("::")[0] for column in text.split(",")]

    for name in ("kept", "claim", "held", "carried"):
        assert len({tuple(bare(statements(dialect).lists[name])) for dialect in URLS}) == 1, name


@pytest.mark.parametrize("dialect", URLS)
def test_every_table_that_a_statement_names_is_one_that_a_prefix_reaches(dialect: str):
    bench = Statements(dialect, Naming("jobs_"), statements(dialect).spelling)
    for name in bench.texts:
        compiled = "".join(bench[name].pieces)
        assert "aiotaskstore_" not in compiled, name
        assert set(re.findall(r"\bjobs_(\w+)", compiled)) <= set(TABLES), name


@pytest.mark.parametrize("prefix", ["", "1jobs_", "Jobs_", "jobs-", "jobs_; DROP TABLE x", "j" * 31])
def test_a_prefix_that_cannot_name_a_table_is_refused(prefix: str):
    with pytest.raises(ConfigurationError, match="prefix"):
        Naming(prefix)


@pytest.mark.parametrize("schema", ["", "Public", "a.b", "x" * 64])
def test_a_schema_name_that_cannot_be_one_is_refused(schema: str):
    with pytest.raises(ConfigurationError, match="schema"):
        Naming(schema=schema)


@pytest.mark.parametrize("url", ["mysql://root@127.0.0.1/test", "sqlite:///x.db"])
def test_a_schema_is_refused_where_there_are_none(url: str):
    with pytest.raises(ConfigurationError, match="PostgreSQL"):
        connect(url, naming=Naming(schema="queueing"))
