"""One idea, one word: no banned synonym names anything in the library. The words stand in docs/glossary.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.storage.statements import read

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "aiotaskstore"

SHORT = {"ctx", "cfg", "conf", "mgr", "conn", "cur", "db", "qm", "exc", "fn", "cb", "req", "res", "tmp"}
"""Abbreviations: short names only where universal, such as id, sql and url."""
SHAPES = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
"""Words for a module's shape, never for what it is."""
UNITS = ("_seconds", "_secs", "_ms", "_millis")
"""Spans are named by their purpose; a property that gives seconds of a timedelta may say so."""
BORROWED = {
    "executor": {"storage/sqlite"},  # concurrent.futures calls it so
    "worker": {"cli"},  # the word of the command line
    "ctx": {"cli"},  # click calls it so
    "headers": {"integrations"},  # HTTP calls them so
    "tags": {"integrations/fastapi.py", "integrations/litestar.py"},  # FastAPI and Litestar call them so
}
"""Banned words that something else, which we use there, is called by."""
TYPES = {
    "Answer",
    "Beside",
    "Held",
    "Joined",
    "Joining",
    "Parts",
    "Ready",
    "Roots",
    "Told",
    "Trace",
    "Unit",
    "Wanted",
}
"""Ordinary words that say nothing as the name of a type: each has been one."""
OPEN_STORE = {"parts", "_parts", "open_parts", "_open_parts"}
"""Never names of the open store. Parts of a URL or of a text may be called so."""
ABOVE_STORAGE = ("manage/", "dispatch/", "taskstore.py", "using.py")
ORDINARY = {
    "available", "blocked", "callback", "delayed", "job", "producer", "stale", "tags", "topic", "try", "worker",
}  # fmt: skip
"""Banned in the library, where something has another name; elsewhere they may be ordinary English."""
NOT_YET: set[str] = set()
"""Folders and files that still say what is banned; to be empty."""


def banned() -> set[str]:
    """Return the entries of the glossary's last columns."""
    rows = re.findall(
        r"^\|([^|]+)\|([^|]+)\|([^|]*)\|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE
    )
    words = {word.strip() for row in rows for word in row[2].split(",")} - {"do not say", "---"}
    return {word for word in words if word} | {"job", "worker", "lock id"}


def terms() -> set[str]:
    """Return the glossary's first column."""
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)
    return {term.strip() for row in rows for term in row.split("·")} - {"term"}


@cache
def words_of(name: str) -> list[str]:
    """Cut an identifier into its words: `TaskFilters` and `task_filters` are both task, filters."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


@cache
def says(name: str, phrase: str) -> bool:
    """Return whether an identifier has the words of a phrase, one after the other."""
    words, wanted = words_of(name), phrase.lower().split()
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def identifiers(file: Path) -> Iterator[str]:
    """Yield every name that a file introduces: classes, functions, parameters, variables and attributes."""
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(asname=str(name)):
                yield name
            case _:
                pass


def place(file: Path) -> str:
    return file.relative_to(LIBRARY).as_posix()


def borrowed(word: str, file: Path) -> bool:
    """Return whether a word is somebody else's in this file."""
    places = {place(file), *(folder.as_posix() for folder in file.relative_to(LIBRARY).parents)}
    return bool((BORROWED.get(word, set()) | NOT_YET) & places)


def test_the_glossary_is_read():
    assert {"job", "nonce", "visibility timeout"} <= banned()
    assert {"shift", "bell", "ledger", "surroundings"} <= banned()
    assert {"task", "fence", "dispatcher", "serialization key", "writer queue", "subscriber"} <= terms()
    assert not {word.lower() for word in terms()} & banned(), "a term is banned by another line"


@pytest.mark.parametrize(
    ("name", "phrase", "found"),
    [
        ("job_id", "job", True), ("JobRow", "job", True), ("_jobs", "job", False), ("retry", "try", False),
        ("lock_id", "lock id", True), ("LockId", "lock id", True), ("clock_id", "lock id", False),
        ("id_lock", "lock id", False),
    ],
)  # fmt: skip
def test_a_word_is_found_as_a_word_and_not_as_letters(name: str, phrase: str, found: bool):
    assert says(name, phrase) is found


def test_no_identifier_of_the_library_is_a_banned_synonym():
    found = []
    for file in sorted(LIBRARY.rglob("*.py")):
        words = {word for word in banned() if not borrowed(word, file)}
        found += [
            f"{place(file)}: {name} says {word}" for name in identifiers(file) for word in words if says(name, word)
        ]
    assert sorted(set(found)) == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_no_test_and_no_benchmark_says_what_has_another_name(folder: str):
    words = banned() - ORDINARY
    found = [
        f"{file.relative_to(ROOT)}: {name} says {word}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in identifiers(file)
        for word in words
        if says(name, word)
    ]
    assert sorted(set(found)) == []


def test_no_type_is_named_by_a_word_that_says_nothing():
    found = [
        f"{place(file)}: {node.name}"
        for file in sorted(LIBRARY.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name in TYPES
    ]
    assert found == []


def test_the_open_store_is_called_so():
    found = [
        f"{place(file)}: {name}"
        for file in sorted(LIBRARY.rglob("*.py"))
        if place(file).startswith(ABOVE_STORAGE)
        for name in identifiers(file)
        if name in OPEN_STORE
    ]
    assert sorted(set(found)) == []


def test_what_is_not_clean_yet_is_named_only_while_it_is_not():
    for entry in NOT_YET:
        files = [LIBRARY / entry] if entry.endswith(".py") else sorted((LIBRARY / entry).rglob("*.py"))
        assert any(says(name, word) for file in files for name in identifiers(file) for word in banned()), entry


@pytest.mark.parametrize("dialect", ["shared", "postgresql", "mysql", "sqlite"])
def test_no_statement_or_column_list_is_a_banned_synonym(dialect: str):
    statements, lists = read(dialect)
    words = banned()
    assert [f"{name} says {word}" for name in [*statements, *lists] for word in words if says(name, word)] == []


def test_no_identifier_is_an_abbreviation_or_carries_its_unit():
    found = []
    for file in sorted(LIBRARY.rglob("*.py")):
        short = {word for word in SHORT if not borrowed(word, file)}
        for name in identifiers(file):
            if set(words_of(name)) & short or (
                name.endswith(UNITS) and name != "period_seconds" and not name.isupper()
            ):
                found.append(f"{place(file)}: {name}")
    assert sorted(set(found)) == []


def test_no_module_is_named_for_its_shape():
    modules = [path for path in LIBRARY.rglob("*") if path.suffix == ".py" or path.is_dir()]
    assert [str(path) for path in modules if path.stem in SHAPES] == []


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "mysql://u@h/d", "sqlite://"])
def test_no_table_column_or_index_is_a_banned_synonym(url: str):
    names = set(re.findall(r"\w+", re.sub(r"--.*|'[^']*'", "", TaskStore(url).ddl())))
    assert sorted(f"{name} says {word}" for name in names for word in banned() if says(name, word)) == []


def test_no_public_word_of_the_documents_is_a_banned_synonym():
    """In what people read, a banned single word is one that somebody will search for in vain."""
    strict = {"job", "jobs", "nonce", "dequeue", "requeue", "zombie", "janitor", "pruner", "actor"}
    strict |= {"shift", "bell", "hearer", "ledger", "pulse", "uncut", "fertile", "surroundings", "nudge", "twin"}
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "glossary.md"]
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *pages]:
        text = page.read_text("utf-8").lower().replace("cron job", "").replace("kind: job", "")
        if page.parent.name == "migrating":  # their names, in code, are looked for on these pages
            text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        words = set(re.findall(r"[a-z]+", text))
        assert not words & strict, f"{page.relative_to(ROOT)}: {words & strict}"
