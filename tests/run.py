"""Check everything, on any machine, with one command: ``python3 tests/run.py``.

It makes the environment ``.venv``, starts a private PostgreSQL and a private MariaDB, and runs
the linter, the type checkers, the import contracts and the tests. Arguments after ``--`` go to
pytest; ``--only lint,tests`` runs some of the groups and says which it left out.

A database that runs already is used when its URL is in ``AIOTASKSTORE_TEST_POSTGRESQL``,
``AIOTASKSTORE_TEST_MYSQL`` or ``AIOTASKSTORE_TEST_SQLITE``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import EngineMissingError, MariaDB, PostgreSQL, Server, ServerError

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "aiotaskstore.stamp"
INTERRUPT_LIMIT = 30.0

CHECKS = {
    "lint": ("ruff check .", "ruff format --check ."),
    "types": ("mypy", "pyright --verifytypes aiotaskstore --ignoreexternal"),
    "contracts": ("lint-imports",),
}
GROUPS = (*CHECKS, "tests")

ENGINES: dict[str, type[Server]] = {
    "AIOTASKSTORE_TEST_POSTGRESQL": PostgreSQL,
    "AIOTASKSTORE_TEST_MYSQL": MariaDB,
}
SQLITE = "AIOTASKSTORE_TEST_SQLITE"

VERSION_PROBE = """
import asyncio, sys
from urllib.parse import unquote, urlsplit

async def main(url):
    parts = urlsplit(url)
    if parts.scheme.startswith("postgres"):
        import asyncpg
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=20)
        print("PostgreSQL", (await connection.fetchval("SHOW server_version")).split()[0])
        return
    import aiomysql
    connection = await aiomysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""), db=parts.path[1:] or None, connect_timeout=20)
    cursor = await connection.cursor()
    await cursor.execute("SELECT VERSION()")
    version, = await cursor.fetchone()
    print("MariaDB" if "MariaDB" in version else "MySQL", version.split("-")[0])
    connection.close()

asyncio.run(main(sys.argv[1]))
"""
"""Asks a database that was already there for its version, with the drivers that the tests use."""


class Step(NamedTuple):
    """One step that was run."""

    name: str
    passed: bool
    seconds: float

    def __str__(self) -> str:
        """Return the step's line."""
        return f"{'✓' if self.passed else '✗'} {self.name}  {self.seconds:.1f} s"


def main() -> int:
    """Prepare the environment, then run the steps that the command line asks for."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    own, to_pytest = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(
        usage="python3 tests/run.py [--only GROUP,...] [-- PYTEST ARGUMENTS]",
        description="Check everything, or some of it, in an environment and with servers of its own.",
    )
    parser.add_argument(
        "--only", type=_groups, default=GROUPS, metavar="GROUP,...", help=f"some of {', '.join(GROUPS)}"
    )
    groups: tuple[str, ...] = parser.parse_args(own).only
    os.chdir(ROOT)
    prepare_environment()
    if not _inside():
        python = _program("python")
        os.execv(python, [python, __file__, *sys.argv[1:]])  # the tools and the wheels are there
    return run(groups, to_pytest)


def prepare_environment() -> None:
    """Make ``.venv``, or bring it up to date, unless its stamp says that it is as it should be."""
    fingerprint = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    wanted = [f"Python {sys.version}", f"pyproject.toml {fingerprint}"]
    found = STAMP.read_text().splitlines() if STAMP.exists() else []
    if found == wanted:
        return
    started = time.monotonic()
    if found[:1] != wanted[:1] and not _inside():
        _make_environment()
    say("Installing into .venv: the project and its development tools")
    STAMP.unlink(missing_ok=True)
    pip = [_program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*pip, "--editable", ".[dev,all]"]) != 0:
        sys.exit("pip could not install the project; its message is above.")
    STAMP.write_text("\n".join(wanted))
    say(Step("environment", passed=True, seconds=time.monotonic() - started))


def run(groups: tuple[str, ...], to_pytest: list[str]) -> int:
    """Run the steps of the groups; return the exit status."""
    steps = [check(command) for group, commands in CHECKS.items() if group in groups for command in commands]
    urls: dict[str, str] | None = None
    engines: list[str] = []
    with contextlib.ExitStack() as stack:
        if "tests" in groups:
            started = time.monotonic()
            urls, engines = start_engines(stack)
            steps.append(Step("servers", urls is not None, time.monotonic() - started))
            say(steps[-1])
        summarise(steps, groups)
        if urls is not None:
            say(" · ".join([*engines, f"Python {platform.python_version()}"]))
            steps.append(_timed("pytest", [_program("pytest"), *to_pytest], env=os.environ | urls))
        elif "tests" in groups:
            steps.append(Step("pytest (not run: no servers)", passed=False, seconds=0))
    failed = [step.name for step in steps if not step.passed]
    say(f"✗ failed: {', '.join(failed)}" if failed else f"✓ all {len(steps)} steps passed")
    return 1 if failed else 0


def check(command: str) -> Step:
    """Run one of the static checks; show what it prints only when it fails."""
    name, *words = command.split()
    with tempfile.TemporaryFile() as output:
        step = _timed(command, [_program(name), *words], output=output.fileno())
        if not step.passed:
            output.seek(0)
            say(output.read().decode(errors="replace").rstrip())
    say(step)
    return step


def start_engines(stack: contextlib.ExitStack) -> tuple[dict[str, str] | None, list[str]]:
    """Start the servers that no variable gives; return the variables for pytest and the versions.

    There are no variables when an engine is missing.
    """
    urls: dict[str, str] = {}
    versions: list[str] = []
    for variable, engine in ENGINES.items():
        try:
            if url := os.environ.get(variable):
                version = _ask_version(url)
            else:
                server = stack.enter_context(engine())
                url, version = server.url, server.version
        except (EngineMissingError, ServerError) as error:
            say(f"{variable}: {error}")
        else:
            urls[variable] = url
            versions.append(version)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aiotaskstore-"))
    urls[SQLITE] = os.environ.get(SQLITE) or f"sqlite:///{folder}/test.db"
    versions.append(f"SQLite {sqlite3.sqlite_version}")
    return urls if len(urls) > len(ENGINES) else None, versions


def summarise(steps: list[Step], groups: tuple[str, ...]) -> None:
    """Print the table of the steps so far, and what is left out."""
    say()
    width = max((len(step.name) for step in steps), default=0)
    for name, passed, seconds in steps:
        say(f"  {name:<{width}}  {'passed' if passed else 'FAILED'}  {seconds:6.1f} s")
    if left_out := [group for group in GROUPS if group not in groups]:
        say(f"  not run: {', '.join(left_out)}")
    say()


def say(line: object = "") -> None:
    """Print a line at once, so that it stays in order with what the steps print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before and after ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(text.split(","))
    if unknown := set(groups) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"no such group: {', '.join(unknown)}")
    return groups


def _inside() -> bool:
    """Whether this is the environment's own Python."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def _program(name: str) -> str:
    return str(VENV / "bin" / name)


def _make_environment() -> None:
    """Make an empty ``.venv``."""
    say(f"Making .venv with Python {platform.python_version()}")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(
            "python3 -m venv failed. On Debian and Ubuntu it needs a package of its own:\n"
            f"    apt-get install python3-venv   (or python3.{sys.version_info.minor}-venv)\n"
            "Or make it by other means, such as uv venv --seed .venv, and use its own Python:\n"
            "    .venv/bin/python tests/run.py"
        )


def _timed(name: str, command: list[str], *, output: int | None = None, env: dict[str, str] | None = None) -> Step:
    """Run a command to its end; pass an interruption on to it and let it clean up."""
    started = time.monotonic()
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    quiet = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    env = {**(env or os.environ), **quiet, "PATH": path, "VIRTUAL_ENV": str(VENV)}
    try:
        process = subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT, env=env)
    except FileNotFoundError:
        say(f"{command[0]} is not there: is it in the extra 'dev' of pyproject.toml?")
        return Step(name, passed=False, seconds=0)
    try:
        code = process.wait()
    except BaseException as reason:
        if not isinstance(reason, KeyboardInterrupt):  # which the terminal sent to both
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(INTERRUPT_LIMIT)
        process.kill()
        raise
    return Step(name, passed=code == 0, seconds=time.monotonic() - started)


def _ask_version(url: str) -> str:
    """Return the version of the database that a variable gives."""
    command = [_program("python"), "-c", VERSION_PROBE, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        host = urlsplit(url).netloc.rpartition("@")[2]
        raise ServerError(f"the database at {host} does not answer: {reason}")
    return done.stdout.strip()


def _terminate(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
