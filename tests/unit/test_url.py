"""Database URLs: every form that is documented, and none that shows its password."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.storage.url import parse_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "dialect", "text"),
    [
        ("postgresql://ada@host:5433/tasks", "postgresql", "postgresql://ada@host:5433/tasks"),
        ("postgres://ada@host/tasks", "postgresql", "postgres://ada@host/tasks"),
        ("POSTGRESQL://ada@host/tasks", "postgresql", "postgresql://ada@host/tasks"),
        ("postgresql+asyncpg://ada@host/tasks", "postgresql", "postgresql://ada@host/tasks"),
        ("postgresql://ada@/tasks?host=/var/run", "postgresql", "postgresql://ada@/tasks?host=/var/run"),
        ("postgresql://ada@[::1]:5432/tasks", "postgresql", "postgresql://ada@[::1]:5432/tasks"),
        ("postgresql://one:5432,two:5433/tasks", "postgresql", "postgresql://one:5432,two:5433/tasks"),
        ("mysql://root@host/tasks", "mysql", "mysql://root@host/tasks"),
        ("mariadb://root@host/tasks", "mysql", "mysql://root@host/tasks"),
        ("mysql+aiomysql://root@host/tasks", "mysql", "mysql://root@host/tasks"),
        ("mysql+asyncmy://root@host/tasks", "mysql", "mysql://root@host/tasks"),
        ("mariadb+asyncmy://root@host/tasks", "mysql", "mysql://root@host/tasks"),
        ("mysql://root@host/tasks?ssl=verify", "mysql", "mysql://root@host/tasks?ssl=verify"),
        ("sqlite:///tasks.db", "sqlite", "sqlite:///tasks.db"),
        ("sqlite+aiosqlite:///tasks.db", "sqlite", "sqlite:///tasks.db"),
        ("sqlite://", "sqlite", "sqlite://"),
    ],
)
def test_every_documented_form_is_read(url, dialect, text):
    parsed = parse_url(url)
    assert (parsed.dialect, parsed.text) == (dialect, text)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:///data/tasks.db", "data/tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite+aiosqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:///with%20space.db", "with space.db"),
        ("sqlite:////tmp/a#1/tasks@home.db", "/tmp/a#1/tasks@home.db"),
        ("sqlite:///tasks.db?timeout=5", "tasks.db"),
        ("sqlite://", ":memory:"),
        ("sqlite:///", ":memory:"),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_three_slashes_are_relative_four_absolute_and_none_is_memory(url, path):
    assert parse_url(url).path == path


def test_options_stand_behind_the_question_mark():
    assert parse_url("mysql://root@h/t?ssl=&unix_socket=/tmp/my%20sock").query == {
        "ssl": "",
        "unix_socket": "/tmp/my sock",
    }


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}@host:5432/tasks",
        f"postgresql+asyncpg://ada:{SECRET}@host/tasks?sslmode=require",
        f"postgresql://:{SECRET}@host/tasks",
        f"postgresql://ada@host/tasks?password={SECRET}",
        f"postgresql://ada@host/tasks?sslmode=require&password={SECRET}&application_name=x",
        f"postgresql://ada:{SECRET}%40{SECRET}@host/tasks",
        f"postgresql://ada:{SECRET}@{SECRET}@host/tasks",
        f"mysql://root:{SECRET}@host/tasks",
        f"mariadb+asyncmy://root:{SECRET}@[::1]:3306/tasks",
    ],
)
def test_a_password_is_never_shown(url):
    parsed = parse_url(url)
    for shown in (str(parsed), repr(parsed), f"{parsed}", f"{parsed!r:>5}", repr([parsed])):
        assert SECRET not in shown
    assert SECRET in parsed.text
    assert "ada" in str(parsed) or "root" in str(parsed) or "://:***@" in str(parsed)
    assert "tasks" in str(parsed)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}/x@host/tasks",
        f"postgresql://ada:{SECRET}#x@host/tasks",
        f"postgresql://ada:{SECRET}?x@host/tasks",
        "postgresql://ada:314159/x@host/tasks",
        "postgresql://ada:31415#x@host/tasks",
        "mysql://ada:31415?x@host/tasks",
        f"oracle://ada:{SECRET}@host/tasks",
        f"postgresql+psycopg9://ada:{SECRET}@host/tasks",
        f"ada:{SECRET}@host/tasks",
        f"postgresql:/ada:{SECRET}@host/tasks",
        f"postgresql://ada:{SECRET}@host:port/tasks",
        f"postgresql://ada:{SECRET}@[::1/tasks",
        f"sqlite://ada:{SECRET}@host/tasks",
    ],
)
def test_a_url_that_is_refused_shows_no_password_either(url):
    with pytest.raises(ConfigurationError) as refused:
        parse_url(url)
    shown = f"{refused.value} {refused.value.__cause__!r}"
    for secret in (SECRET, "31415"):
        assert secret not in shown


def test_characters_that_end_a_password_too_soon_are_explained():
    with pytest.raises(ConfigurationError, match=r"percent-encode.*%2F"):
        parse_url("postgresql://ada:pa/ss@host/tasks")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("oracle://u@h/d", 'has "oracle://", which is not one of ours. Write postgresql://user@host/name'),
        ("tasks.db", "has no scheme"),
        ("", "has no scheme"),
        ("sqlite:tasks.db", "has no scheme"),
        ("http://x", 'has "http://"'),
        ("postgresql+psycopg9://u@h/d", 'No driver "psycopg9" is known for postgresql; take one of: asyncpg'),
        ("mysql+oops://u@h/d", "take one of: aiomysql, asyncmy"),
        ("sqlite+pysqlite:///x", "take one of: aiosqlite"),
        ("mysql://root@host", "mysql://root@host names no database. Write mysql://user@host/name"),
        ("mariadb://root@host/?ssl=true", "names no database"),
        ("postgresql://u@h:port/d", "cannot be read"),
        ("postgresql://u@h:99999999/d", "cannot be read"),
        ("sqlite://tasks.db", 'names no host, but this one has "tasks.db". Write three slashes'),
        ("sqlite://host/tasks.db", "names no host"),
    ],
)
def test_what_is_none_of_ours_is_refused_with_how_one_looks(url, words):
    with pytest.raises(ConfigurationError, match=words):
        parse_url(url)
    with pytest.raises(ConfigurationError, match=words):
        TaskStore(url)


@pytest.mark.parametrize("thing", [None, 42, b"sqlite://", object(), ["sqlite://"]])
def test_what_is_neither_a_url_nor_a_pool_is_refused(thing):
    with pytest.raises(ConfigurationError, match="opened on a URL, an asyncpg pool or an aiomysql pool, not on"):
        TaskStore(thing)


def test_the_environment_names_the_database(monkeypatch):
    monkeypatch.delenv("AIOTASKSTORE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"set AIOTASKSTORE_URL \(or DATABASE_URL\), such as sqlite:///tasks.db"
    ):
        TaskStore.from_env()
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    assert TaskStore.from_env(prefix="other_").ddl().count("other_tasks") > 0
    monkeypatch.setenv("AIOTASKSTORE_URL", "oracle://x")
    with pytest.raises(ConfigurationError, match="oracle"):
        TaskStore.from_env()


def test_constructing_touches_no_driver_loop_or_file(tmp_path):
    """In a process of its own: no running loop, and nothing is written."""
    program = (
        "import aiotaskstore, sys\n"
        "store = aiotaskstore.TaskStore('sqlite:///tasks.db')\n"
        "store.dispatcher()\n"
        "assert 'asyncpg' not in sys.modules and 'aiomysql' not in sys.modules and 'rich' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
