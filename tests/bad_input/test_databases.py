"""Databases that cannot be used: said when the store opens, in our words, and nothing stays open."""

# ruff: noqa: E501 - what a refusal says reads in one line
from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

import aiomysql
import asyncpg
import pytest
from pymysql import _auth

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    SchemaOutdatedError,
    SchemaTooNewError,
    TaskStore,
    TaskStoreError,
)
from aiotaskstore.storage.migrations import LATEST
from aiotaskstore.storage.mysql.error_translation import translated
from tests.bad_input.refusals import judge, refusal_of, together

SECRET = "s3cr3t-pa55word"


async def opening(url: str, **options: Any) -> BaseException:
    """What opening a store raises; it stays closed, and everything it asks for says so."""
    store = TaskStore(url, **options)
    error = await refusal_of(store.open)
    assert not store.is_open
    judge(await refusal_of(store.tasks.count), ConfigurationError, "The store is closed")
    for text in (str(error), repr(error), repr(error.__cause__)):
        assert SECRET not in text
    return error


async def execute(url: str, *statements: str) -> list[Any]:
    """Run statements on a database behind the library's back; gives the rows of the last."""
    parts = urlsplit(url)
    match parts.scheme:
        case "postgresql":
            connection = await asyncpg.connect(url)
            try:
                for sql in statements[:-1]:
                    await connection.execute(sql)
                return [tuple(row) for row in await connection.fetch(statements[-1])]
            finally:
                await connection.close()
        case "mysql":
            wire = await aiomysql.connect(
                host=parts.hostname,
                port=parts.port or 3306,
                user=parts.username,
                password=unquote(parts.password or ""),
                db=parts.path[1:] or None,
                autocommit=True,
            )
            try:
                async with wire.cursor() as cursor:
                    for sql in statements:
                        await cursor.execute(sql)
                    return list(await cursor.fetchall())
            finally:
                wire.close()
        case _:
            with sqlite3.connect(parts.path.removeprefix("/")) as file:
                rows = [file.execute(sql).fetchall() for sql in statements][-1]
            file.close()
            return rows


# ── unreachable ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("postgresql", "PostgreSQL cannot be reached: nothing listens at"),
        ("mysql", "MySQL cannot be reached: nothing listens at"),
    ],
)
async def test_a_port_that_nobody_listens_on(scheme: str, words: str, nowhere: int):
    error = await opening(f"{scheme}://ada:{SECRET}@127.0.0.1:{nowhere}/tasks")
    judge(error, DatabaseUnavailableError, rf"{words}.*{scheme}://ada:\*\*\*@127\.0\.0\.1:{nowhere}/tasks")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_host_that_does_not_exist(scheme: str):
    judge(await opening(f"{scheme}://ada:{SECRET}@nowhere.invalid/tasks"), DatabaseUnavailableError, "nowhere.invalid")


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """A server that says something else than a database would, or (`None`) nothing at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if answer is not None:
                writer.write(answer)
                writer.write_eof()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "http"])
async def test_a_server_that_is_no_database(scheme: str, answer: bytes):
    async with server(answer) as port:
        judge(
            await opening(f"{scheme}://ada:{SECRET}@127.0.0.1:{port}/tasks"),
            DatabaseUnavailableError,
            f"127.0.0.1:{port}",
        )


@pytest.mark.slow
async def test_a_server_that_never_answers_is_given_up_after_ten_seconds():
    async with server(None) as port:
        began = time.monotonic()
        errors = await together(
            opening(f"postgresql://ada:{SECRET}@127.0.0.1:{port}/tasks"),
            opening(f"mysql://ada:{SECRET}@127.0.0.1:{port}/tasks"),
        )
        assert 9 < time.monotonic() - began < 25
        for error in errors:
            judge(error, DatabaseUnavailableError, f"127.0.0.1:{port}")


# ── refused ───────────────────────────────────────────────────────────────────────────────────────────────────


def at(url: str, *, user: str | None = None, database: str | None = None) -> str:
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        parts._replace(
            netloc=f"{user}@{where}" if user else parts.netloc, path=f"/{database}" if database else parts.path
        )
    )


@pytest.fixture
def somebody() -> str:
    """A user's name that nobody else on the server has."""
    return f"ats_{uuid4().hex[:12]}"


async def test_a_wrong_password_on_mysql(mysql_url: str, somebody: str):
    database = urlsplit(mysql_url).path[1:]
    await execute(
        mysql_url, f"CREATE USER {somebody}@'%' IDENTIFIED BY 'right'", f"GRANT ALL ON `{database}`.* TO {somebody}@'%'"
    )
    try:
        wrong = await opening(at(mysql_url, user=f"{somebody}:{SECRET}"))
        judge(wrong, DatabaseUnavailableError, rf"MySQL refused the user or password.*{somebody}:\*\*\*@")
        async with TaskStore(at(mysql_url, user=f"{somebody}:right")) as store:
            assert await store.tasks.count() == 0
    finally:
        await execute(mysql_url, f"DROP USER {somebody}@'%'")


def test_a_password_that_needs_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    """MySQL 8 takes passwords by RSA; who installed aiomysql alone has none."""
    monkeypatch.setattr(_auth, "_have_cryptography", False)
    with pytest.raises(ConfigurationError, match=r"pip install aiotaskstore\[mysql\]"), translated():
        _auth.sha2_rsa_encrypt(b"secret", b"salt", b"key")


async def test_a_role_that_does_not_exist_on_postgresql(postgresql_url: str):
    wrong = await opening(at(postgresql_url, user=f"ats_nobody:{SECRET}"))
    judge(wrong, DatabaseUnavailableError, r"PostgreSQL refused the user or password.*ats_nobody.*ats_nobody:\*\*\*@")


async def test_a_database_that_does_not_exist(postgresql_url: str, mysql_url: str):
    for url, name in ((postgresql_url, "PostgreSQL"), (mysql_url, "MySQL")):
        wrong = await opening(at(url, database="ats_absent"))
        judge(wrong, DatabaseUnavailableError, f"{name} has no such database: .*ats_absent.*Create it first")


async def test_a_mysql_url_without_a_database():
    judge(
        await refusal_of(lambda: TaskStore(f"mysql://ada:{SECRET}@host").open()),
        ConfigurationError,
        r"ada:\*\*\*@host names no database",
    )


@pytest.mark.parametrize("query", ["sslmode=sometimes", "target_session_attrs=any-old-one"])
async def test_a_postgresql_url_with_options_that_cannot_be(query: str):
    error = await opening(f"postgresql://ada:{SECRET}@127.0.0.1/tasks?{query}")
    judge(error, ConfigurationError, f"The PostgreSQL URL .*{query.split('=', maxsplit=1)[0]}.* cannot be used")


async def test_a_mysql_url_with_a_certificate_that_is_not_there():
    error = await opening(f"mysql://ada:{SECRET}@127.0.0.1/tasks?ssl=/nowhere/ca.pem")
    judge(error, ConfigurationError, "certificate that .*ssl=/nowhere/ca.pem names cannot be read: .*No such file")


async def test_a_user_who_may_not_create_tables(postgresql_url: str, mysql_url: str, somebody: str):
    database = urlsplit(mysql_url).path[1:]
    await execute(postgresql_url, f"CREATE ROLE {somebody} LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await execute(mysql_url, f"CREATE USER {somebody}@'%'", f"GRANT SELECT ON `{database}`.* TO {somebody}@'%'")
    try:
        for url in (postgresql_url, mysql_url):
            error = await opening(at(url, user=somebody))
            assert type(error) is TaskStoreError
            assert re.search("denied|no schema has been selected", str(error)), error
    finally:
        await execute(postgresql_url, f"DROP ROLE {somebody}")
        await execute(mysql_url, f"DROP USER {somebody}@'%'")


# ── SQLite files ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_folder_that_is_not_there(tmp_path: Path):
    file = tmp_path / "absent" / "tasks.db"
    judge(
        await opening(f"sqlite:///{file}"),
        DatabaseUnavailableError,
        f"SQLite cannot open {file}: the folder .*absent does not exist. Make it",
    )
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_in_the_place_of_a_file(tmp_path: Path):
    judge(
        await opening(f"sqlite:///{tmp_path}"),
        DatabaseUnavailableError,
        f"SQLite cannot open {tmp_path}: it is a folder. Name a file",
    )


async def test_a_file_that_is_no_database(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("nothing like a database\n" * 100)
    judge(await opening(f"sqlite:///{file}"), DatabaseUnavailableError, "SQLite finds no healthy database in")
    assert file.read_text() == "nothing like a database\n" * 100


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root may write to")
async def test_a_folder_that_may_not_be_written_to():
    words = r"SQLite cannot use /proc/tasks\.db: unable to open.*make others in its folder"
    judge(await opening("sqlite:////proc/tasks.db"), DatabaseUnavailableError, words)


# ── tables of another time ────────────────────────────────────────────────────────────────────────────────────


async def test_tables_that_are_missing(url: str):
    await execute(url, "SELECT 1")  # which makes the file of SQLite
    error = await opening(url, migrate=False)
    judge(
        error,
        SchemaOutdatedError,
        f"The tables are missing, and this library needs version {LATEST}. Run `aiotaskstore migrate`",
    )
    judge(error, SchemaOutdatedError, 'Looked for: prefix "aiotaskstore_".')
    assert isinstance(error, SchemaOutdatedError)
    assert (error.found, error.wanted) == (None, LATEST)
    rows = await execute(url, TABLES[urlsplit(url).scheme])
    assert rows == [], "a check makes no tables"


async def test_a_file_that_is_missing_is_not_made_where_its_tables_are_not(tmp_path: Path):
    file = tmp_path / "tasks.db"
    error = await opening(f"sqlite:///{file}", migrate=False)
    judge(error, SchemaOutdatedError, f"The tables are missing.*`aiotaskstore migrate`.*There is no SQLite file {file}")
    assert list(tmp_path.iterdir()) == []
    async with TaskStore(f"sqlite:///{file}"):
        pass
    assert file.exists()


TABLES = {
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    "mysql": "SHOW TABLES",
    "sqlite": "SELECT name FROM sqlite_master",
}


async def test_a_schema_that_is_missing(postgresql_url: str):
    error = await opening(postgresql_url, migrate=False, schema="absent")
    judge(error, SchemaOutdatedError, "The tables are missing")


async def test_tables_that_are_too_new(url: str):
    async with TaskStore(url):
        pass
    at_now = {"postgresql": "now()", "mysql": "now(6)", "sqlite": "0"}[urlsplit(url).scheme]
    newer = LATEST + 1
    await execute(
        url, f"INSERT INTO aiotaskstore_migrations (version, name, applied_at) VALUES ({newer}, 'newer', {at_now})"
    )
    for migrate in (True, False):
        error = await opening(url, migrate=migrate)
        judge(
            error,
            SchemaTooNewError,
            f"The tables are at version {newer}, newer than version {LATEST}.*Upgrade aiotaskstore",
        )
        assert isinstance(error, SchemaTooNewError)
        assert (error.found, error.wanted) == (newer, LATEST)
    judge(await refusal_of(TaskStore(url).migrate), SchemaTooNewError, "Upgrade aiotaskstore")


async def test_tables_that_are_too_old(url: str):
    async with TaskStore(url):
        pass
    await execute(url, "DELETE FROM aiotaskstore_migrations")
    error = await opening(url, migrate=False)
    judge(error, SchemaOutdatedError, "Run `aiotaskstore migrate`, or open the store with migrate=True")


async def test_tables_that_go_while_the_store_is_open(url: str):
    async with TaskStore(url, prefix="shop_") as store:
        schema = {"postgresql": " CASCADE"}.get(urlsplit(url).scheme, "")
        await execute(url, f"DROP TABLE shop_tasks{schema}")
        words = r"The tables are missing, and .*Run `aiotaskstore migrate`.* says: .*shop_tasks"
        judge(await refusal_of(store.tasks.count), SchemaOutdatedError, words)
        judge(await refusal_of(lambda: store.enqueue("x", unchecked=True)), SchemaOutdatedError, words)


# ── drivers that are not installed ────────────────────────────────────────────────────────────────────────────


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
import asyncio
import aiotaskstore

async def main():
    async with aiotaskstore.TaskStore("sqlite://") as store:
        store.include(aiotaskstore.noop)
        await aiotaskstore.noop.enqueue()
        assert await store.tasks.count() == 1

asyncio.run(main())
for _ in range(2):
    try:
        aiotaskstore.TaskStore({url!r})
    except aiotaskstore.ConfigurationError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("url", "blocked", "message"),
    [
        (
            "postgresql://ada@host/tasks", ["asyncpg", "aiomysql", "pymysql", "sqlalchemy", "rich"],
            "PostgreSQL needs the driver asyncpg, which is not installed. Run: pip install 'aiotaskstore[postgres]'",
        ),
        (
            "mysql+asyncmy://root@host/tasks", ["asyncpg", "aiomysql"],
            "MySQL or MariaDB needs the driver aiomysql, which is not installed. Run: pip install 'aiotaskstore[mysql]'",
        ),
        (
            "mariadb://root@host/tasks", ["pymysql"],
            "MySQL or MariaDB needs the driver aiomysql, which is not installed. Run: pip install 'aiotaskstore[mysql]'",
        ),
    ],
)  # fmt: skip
def test_a_driver_that_is_not_installed_names_its_extra(url: str, blocked: list[str], message: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED.format(url=url, blocked=set(blocked))],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [message, message]
