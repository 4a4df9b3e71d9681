"""A statement is printed as it runs, so that it can be pasted into a client."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aiotaskstore.storage.__main__ import EXAMPLES, printed
from aiotaskstore.storage.table_names import TableNames
from tests.helpers import LIMIT
from tests.storage.harness import Harness
from tests.storage.test_statements import URLS, statements


@pytest.mark.memory(False)
async def test_every_statement_runs_as_it_is_printed(harness: Harness):
    """Each on its own, in a transaction that is undone."""
    kind = harness.database.kind
    for name in harness.database.statements.texts:
        text = printed(kind, name)
        assert text, name
        async with harness.database.session() as session:
            await session.begin()
            try:
                await session.script(text)
            except Exception as error:
                raise AssertionError(f"{name}: {error}\n{text}") from error
            finally:
                await session.rollback()


@pytest.mark.parametrize("dialect", URLS)
def test_every_parameter_has_an_example(dialect: str):
    compiled = statements(dialect)
    assert compiled.table_names == TableNames()
    for name in compiled.texts:
        assert set(compiled[name].names) - {"rows", "now", "heartbeat_now"} <= EXAMPLES.keys(), name


def test_the_command_prints_a_statement_for_each_dialect():
    done = _run("claim")
    assert [line for line in done.stdout.splitlines() if line.startswith("--")] == [
        f"-- claim on {dialect}, with example values" for dialect in URLS
    ]
    assert done.stdout.count("SKIP LOCKED") == 2
    assert "LIMIT 10" in done.stdout


def test_the_command_prints_one_dialect_only_when_asked_so():
    done = _run("insert_ready", "--dialect", "sqlite")
    assert done.stdout == "-- insert_ready on sqlite: there is none\n"


def test_a_name_that_is_none_is_met_with_those_that_are_like_it():
    done = _run("clam")
    assert done.returncode == 2
    assert 'no statement is named "clam"' in done.stderr
    assert "claim" in done.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiotaskstore.storage", *arguments],
        capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
