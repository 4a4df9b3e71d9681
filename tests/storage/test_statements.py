"""The .sql files: what three dialects say differently must still be the same statement."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib.resources import files
from types import ModuleType

import pytest

from aiotaskstore import ConfigurationError, FinishReason, storage
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.statements import INSTANTS, Statements, read
from aiotaskstore.storage.table_names import TABLES, TableNames

URLS = {"postgresql": "postgresql://nobody@nowhere/none", "mysql": "mysql://nobody@nowhere/none", "sqlite": "sqlite://"}
MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(storage.__path__, "aiotaskstore.storage.")
]
BY_PAIRS = {"delete_keys", "key_owners", "lock_keys", "lock_keys_free"}
"""Statements that take external ids in pairs, or in columns."""
BY_CLAIM = {"claim", "promote", "grant_keys", "claim_granting"}
"""Statements whose dialects find the same rows in so different ways that their operation is written per dialect."""


def statements(dialect: str) -> Statements:
    return connect(URLS[dialect]).database.statements


def modules(dialect: str) -> list[ModuleType]:
    """The modules whose operations a dialect runs: its own, and those that are nobody's own."""
    others = set(URLS) - {dialect}
    return [module for module in MODULES if not others & set(module.__name__.split("."))]


def called(module: ModuleType, kind: str) -> Iterator[tuple[str, ast.expr]]:
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
    """Return the fields of every batch that a dialect's operations make."""
    found = {}
    for module in modules(dialect):
        for name, fields in called(module, "Batch"):
            code = compile(ast.Expression(fields), module.__name__, "eval")
            found[name] = tuple(eval(code, vars(module)))
    return found


def parameters(dialect: str, name: str) -> set[str]:
    """Name what a statement wants to be given, columns of a JSON batch counted one by one.

    A batch of nothing but ids is what other dialects take as a list.
    """
    text = statements(dialect).texts[name]
    named = set(statements(dialect)[name].names) - {"rows", *INSTANTS}
    columns = json_columns(text)
    return named | ({"ids"} if columns == [("id", 0)] else {column for column, _ in columns})


def json_columns(text: str) -> list[tuple[str, int]]:
    if listed := re.search(r"WITH d \(([\w\s,]+)\) AS \(VALUES :rows\)", text):  # SQLite's tables of values
        return [(name.strip(), at) for at, name in enumerate(listed[1].split(","))]
    column = r"(\w+) [A-Z]+(?:\(\d+\))?(?: CHARACTER SET utf8mb4)? PATH '\$\[(\d+)\]'"
    return [(name, int(at)) for name, at in re.findall(column, text)]


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_that_exists_is_called_somewhere(dialect: str):
    used = {text for module in modules(dialect) for text in mentioned(module)}
    assert set(read(dialect)[0]) <= used
    assert set(read("shared")[0]) <= used | {text for module in MODULES for text in mentioned(module)}


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_that_is_called_exists(dialect: str):
    own = {name for module in modules(dialect) for kind in ("Call", "Batch") for name, _ in called(module, kind)}
    replaced = {"claim", "promote", "finish"}  # called by operations that a dialect may write for itself
    assert own - set(statements(dialect).texts) <= replaced


@pytest.mark.parametrize("name", sorted({name for dialect in URLS for name in read(dialect)[0]} - BY_CLAIM - BY_PAIRS))
def test_a_statement_takes_the_same_parameters_in_every_dialect_that_defines_it(name: str):
    expected = {
        dialect: parameters(dialect, name) for dialect in URLS if name in read("shared")[0] or name in read(dialect)[0]
    }
    assert len({frozenset(names) for names in expected.values()}) == 1, expected


@pytest.mark.parametrize("dialect", URLS)
def test_a_batch_gives_every_column_that_its_statement_reads_and_in_that_order(dialect: str):
    for name, fields in batches(dialect).items():
        if name not in statements(dialect).texts:
            continue
        assert parameters(dialect, name) <= set(fields), name
        for column, at in json_columns(statements(dialect).texts[name]):
            assert fields[at] == column, f"{name} reads {column} at {at}, where the batch has {fields[at]}"


@pytest.mark.parametrize("source", ["shared", *URLS])
def test_a_statement_says_a_status_by_its_word_and_where_a_row_goes_that_may_run_by_the_one_rule(source: str):
    compared = re.compile(r"\bstatus\b(?: \+ 0)?\s*(?:=|<>|!=|<|>|IN)\s*\(?\d", re.IGNORECASE)
    for name, text in read(source)[0].items():
        assert not compared.search(text), f"{source}.sql, {name}: a bare status number"
        assert "{scheduled} ELSE" not in text, f"{source}.sql, {name}: placed by a rule of its own"
        placed = re.search(r"SET (?:t\.)?status = \{(?:pending|scheduled|waiting)\}", text)
        assert not placed or name in {"grant_keys", "claim_granting"}, f"{source}.sql, {name}"


def test_the_statements_that_place_a_row_that_may_run_do_so_by_the_one_rule():
    placing = {"insert_tasks", "return_to_queue", "restart", "revive", "resume", "reschedule", "restore"}
    for dialect in URLS:
        texts = read("shared")[0] | read(dialect)[0]
        promote = "mark_pending" if dialect == "mysql" else "promote"
        by_the_rule = re.compile(r"\{placed(?:_again)?\(|\{due(?:_again)?\}")
        assert {name for name, text in texts.items() if by_the_rule.search(text)} == placing | {promote}


def test_every_finish_reason_is_named_atop_the_statements():
    head = (files(storage) / "sql" / "shared.sql").read_text("utf-8").partition("-- list:")[0]
    named = re.search(r"`finish_reason` is one of FinishReason[^:]*: ([\w\s,-]+)\.", head)
    assert named is not None
    assert set(re.findall(r"\w+", named[1])) == set(FinishReason)


def test_the_column_lists_of_an_unfinished_and_a_finished_task_have_the_same_length():
    for dialect in URLS:
        lists = statements(dialect).lists
        assert lists["ended"].count(",") == lists["not_ended"].count(","), dialect


def test_a_dialect_reads_the_same_columns_in_the_same_order_as_the_others():
    def bare(text: str) -> list[str]:
        return [column.strip().partition("::")[0] for column in text.split(",")]

    for name in ("kept", "claim", "locked", "carried", "copied"):
        assert len({tuple(bare(statements(dialect).lists[name])) for dialect in URLS}) == 1, name


@pytest.mark.parametrize("dialect", URLS)
def test_every_table_that_a_statement_names_is_one_that_a_prefix_reaches(dialect: str):
    harness = Statements(dialect, TableNames("jobs_"), statements(dialect).syntax)
    for name in harness.texts:
        compiled = "".join(harness[name].pieces)
        assert "aiotaskstore_" not in compiled, name
        assert set(re.findall(r"\bjobs_(\w+)", compiled)) <= set(TABLES), name


@pytest.mark.parametrize("prefix", ["", "1jobs_", "Jobs_", "jobs-", "jobs_; DROP TABLE x", "j" * 31])
def test_a_prefix_that_cannot_name_a_table_is_refused(prefix: str):
    with pytest.raises(ConfigurationError, match="prefix"):
        TableNames(prefix)


@pytest.mark.parametrize("schema", ["", "Public", "a.b", "x" * 64])
def test_a_schema_name_that_cannot_be_one_is_refused(schema: str):
    with pytest.raises(ConfigurationError, match="schema"):
        TableNames(schema=schema)


@pytest.mark.parametrize("url", ["mysql://root@127.0.0.1/test", "sqlite:///x.db"])
def test_a_schema_is_refused_where_there_are_none(url: str):
    with pytest.raises(ConfigurationError, match="PostgreSQL"):
        connect(url, table_names=TableNames(schema="queueing"))
