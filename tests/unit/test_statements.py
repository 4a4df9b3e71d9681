"""SQL stays in its files; what is put in is names, clocks, lists and parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import aiotaskstore
from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.operation import Query
from aiotaskstore.storage.postgresql.binding import Compiled
from aiotaskstore.storage.statements import Statement, Statements, Syntax, read
from aiotaskstore.storage.table_names import TABLES, TableNames

URLS = {"postgresql": "postgresql://u@h/d", "mysql": "mysql://u@h/d", "sqlite": "sqlite://"}
SYNTAX = Syntax(now="NOW()", later=lambda x: f"(:now + {x})")


def compiled(text: str, table_names: TableNames | None = None, syntax: Syntax = SYNTAX) -> Statement:
    return Statements("sqlite", table_names or TableNames(), syntax).compile("it", text)


def shown(statement: Statement) -> str:
    """The text with each parameter in angle brackets."""
    names = [*(f"<{name}>" for name in statement.names), ""]
    return "".join(piece + name for piece, name in zip(statement.pieces, names, strict=True))


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT :id", "SELECT <id>"),
        ("a = :one AND b = :two_three", "a = <one> AND b = <two_three>"),
        (":id", "<id>"),
        ("x = ':id'", "x = ':id'"),
        ("x = 'it''s :id' AND y = :id", "x = 'it''s :id' AND y = <id>"),
        ("x = '' AND y = :id", "x = '' AND y = <id>"),
        ("x = '''' AND y = :id", "x = '''' AND y = <id>"),
        ("x::text = :id::uuid", "x::text = <id>::uuid"),
        ("'a'::text", "'a'::text"),
        ("x IN :ids", "x IN <ids>"),
        ("at < :now", "at < NOW()"),
        ("at < :later(:delay)", "at < (NOW() + <delay>)"),
        ("at < :later(t.lease)", "at < (NOW() + t.lease)"),
        (":later(:a) :later(:b)", "(NOW() + <a>) (NOW() + <b>)"),
        ("SELECT 1", "SELECT 1"),
        ("extra %s and ? and $1 stay", "extra %s and ? and $1 stay"),
    ],
)
def test_parameters_are_cut_out_and_nothing_else(text, expected):
    statement = compiled(text)
    assert shown(statement) == expected
    assert len(statement.pieces) == len(statement.names) + 1


def test_a_test_clock_is_a_parameter_of_its_type():
    syntax = Syntax(now=None, later=lambda x: f"(:now + {x})", instant="::timestamptz")
    assert shown(compiled("a < :now AND b > :later(:delay)", syntax=syntax)) == (
        "a < <now>::timestamptz AND b > (<now>::timestamptz + <delay>)"
    )


def test_postgresql_numbers_each_name_once_and_gives_lists_as_arrays():
    statement = Compiled(compiled("SELECT :a, :b, :a WHERE id IN :ids AND x = :a"))
    assert statement.sql == "SELECT $1, $2, $1 WHERE id = ANY($3) AND x = $1"
    assert statement.order == ("a", "b", "ids")


def test_sqlite_spells_lists_out_and_writes_ids_as_blobs():
    database: Any = connect("sqlite://").database
    sql, arguments = database.binder.bind(
        Query("SELECT :a WHERE x IN :many AND y IN :none AND z = :a", {"a": 1, "many": ["p", "q"], "none": []})
    )
    assert sql == "SELECT ? WHERE x IN (?, ?) AND y IN () AND z = ?"
    assert arguments == (1, "p", "q", 1)


def test_on_sqlite_now_is_one_instant_for_a_whole_statement():
    database: Any = connect("sqlite://").database
    sql, arguments = database.binder.bind(Query("SELECT :now, :a, :later(:a), :now", {"a": 1}))
    assert sql == "SELECT ?, ?, (? + CAST((?) * 1000000 AS INTEGER)), ?"
    assert arguments == (arguments[0], 1, arguments[0], 1, arguments[0])


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prefix_is_put_into_every_name_of_ours():
    text = "CREATE INDEX aiotaskstore_tasks_to_claim ON aiotaskstore_tasks (queue)"
    assert TableNames("mine_").apply(text) == "CREATE INDEX mine_tasks_to_claim ON mine_tasks (queue)"


def test_a_schema_stands_before_tables_and_never_before_indexes():
    text = "CREATE INDEX aiotaskstore_tasks_to_claim ON aiotaskstore_tasks (queue); DELETE FROM aiotaskstore_history"
    assert TableNames("mine_", "jobs").apply(text) == (
        'CREATE INDEX mine_tasks_to_claim ON "jobs".mine_tasks (queue); DELETE FROM "jobs".mine_history'
    )


def test_a_prefix_that_contains_the_default_one_is_put_in_once():
    assert TableNames("aiotaskstore_two_").apply("aiotaskstore_tasks") == "aiotaskstore_two_tasks"


@pytest.mark.parametrize("prefix", ["", "1a", "A", "a-b", "a b", "a;b", "a\n", "x" * 31, "ä", None, 5])
@pytest.mark.acceptance("A01")
def test_prefixes_that_are_no_plain_names_are_refused(prefix):
    with pytest.raises(ConfigurationError, match="A table prefix is lower-case letters"):
        TableNames(prefix)


@pytest.mark.parametrize("schema", ["", "1a", "A", "a.b", 'a"b', "x" * 64])
def test_schemas_that_are_no_plain_names_are_refused(schema):
    with pytest.raises(ConfigurationError, match="A schema name is lower-case letters"):
        TableNames(schema=schema)


def test_two_installations_have_different_keys():
    keys = {TableNames().key, TableNames("a_").key, TableNames("a_", "s").key, TableNames(schema="s").key}
    assert len(keys) == 4


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", URLS)
@pytest.mark.parametrize("table_names", [TableNames(), TableNames("p_", None)], ids=["default", "prefix"])
def test_every_statement_compiles_with_nothing_left_to_put_in(dialect, table_names):
    statements = connect(URLS[dialect], table_names=table_names).database.statements
    for name in statements.texts:
        statement = statements[name]
        text = "".join(re.sub(r"'(?:[^']|'')*'", "''", piece) for piece in statement.pieces)
        assert not re.search(r":(?!:)(?<!::)[a-z]", text.replace("::", "")), f"{name}: a parameter is left"
        assert "{" not in text, f"{name}: a column list is left"
        assert "--" not in text, f"{name}: a comment is left"
        assert ";" not in text, f"{name}: more than one statement"
        if table_names.prefix != TableNames().prefix:
            assert "aiotaskstore" not in text.replace("SAVEPOINT aiotaskstore", ""), f"{name}: a name is left"


@pytest.mark.parametrize("dialect", URLS)
def test_every_table_of_every_statement_is_one_that_a_migration_makes(dialect):
    made = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", TaskStore(URLS[dialect]).ddl()))
    assert made <= {f"aiotaskstore_{table}" for table in TABLES}
    for name, text in connect(URLS[dialect]).database.statements.texts.items():
        used = set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE)\s+(aiotaskstore_\w+)", text))
        assert used <= made, f"{name} uses {used - made}"


def test_a_dialects_file_overrides_by_name():
    shared, own = read("shared")[0], read("postgresql")[0]
    assert shared.keys() & own.keys(), "nothing is overridden: then the test proves nothing"
    texts = connect(URLS["postgresql"]).database.statements.texts
    for name in own:
        assert texts[name].split()[0] == own[name].split()[0]
    assert shared.keys() | own.keys() == texts.keys()


STORAGE = Path(aiotaskstore.__file__).parent / "storage"
CALLED = re.compile(r'(?:Call|Batch)\(\s*"(\w+)"')


def source(*folders: str) -> str:
    """The storage's own code and that of some dialects."""
    files = [
        *STORAGE.glob("*.py"),
        *(file for folder in ("tasks", *folders) for file in (STORAGE / folder).glob("*.py")),
    ]
    return "\n".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_that_a_dialect_calls_is_one_that_it_has(dialect):
    names = set().union(*(CALLED.findall(file.read_text("utf-8")) for file in (STORAGE / dialect).glob("*.py")))
    assert names <= connect(URLS[dialect]).database.statements.texts.keys()


@pytest.mark.parametrize("dialect", URLS)
def test_every_statement_in_a_file_is_one_that_the_code_names(dialect):
    named = set(re.findall(r'"(\w+)"', source(dialect)))
    assert read(dialect)[0].keys() <= named
    assert read("shared")[0].keys() <= set(re.findall(r'"(\w+)"', source(*URLS)))


def test_a_text_that_is_written_once_takes_what_stands_in_parentheses_and_texts_of_its_own():
    from aiotaskstore.storage.statements import _fill

    lists = {"placed": "CASE WHEN {given} THEN 0 ELSE {due} END", "due": "1"}
    filled = _fill("SET s = {placed(a > :b OR c)}, t = {due}", lists)
    assert filled == "SET s = CASE WHEN a > :b OR c THEN 0 ELSE 1 END, t = 1"


def test_column_lists_take_an_alias_before_every_column():
    from aiotaskstore.storage.statements import _fill

    assert _fill("SELECT {l}, {t.l} FROM x t", {"l": "a, b,\nc"}) == "SELECT a, b,\nc, t.a, t.b, t.c FROM x t"


# ── migrations as text ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_ddl_is_the_text_of_every_migration_under_our_names(url):
    text = TaskStore(url, prefix="mine_").ddl()
    assert "aiotaskstore_" not in text
    assert "CREATE TABLE" in text
    assert f"VALUES ({migrations.LATEST}, " in text
    assert text.endswith(";\n")


def test_ddl_names_the_schema():
    text = TaskStore(URLS["postgresql"], schema="jobs").ddl()
    assert '"jobs".aiotaskstore_tasks' in text
    assert '"jobs".aiotaskstore_migrations' in text


def test_every_dialect_has_the_same_versions():
    versions = {kind: [one.version for one in migrations.migrations(kind)] for kind in URLS}
    assert len({tuple(each) for each in versions.values()}) == 1
    assert versions["sqlite"] == list(range(1, migrations.LATEST + 1))


def test_a_text_is_cut_into_its_statements_without_comments():
    assert migrations.split("-- a; b\nCREATE TABLE x (\n    a TEXT DEFAULT 'x;y'\n);\n\n  -- c\nDROP y;\n") == [
        "CREATE TABLE x (\n    a TEXT DEFAULT 'x;y'\n)",
        "DROP y",
    ]
